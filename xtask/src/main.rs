//! Checks of this repository that neither the compiler nor clippy makes: `cargo xtask`.

#![expect(clippy::expect_used, reason = "a tool for developers may stop with a panic")]

mod layout;
mod proofs;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a directory of the workspace");
    let mut breaches: Vec<String> = Vec::new();
    for dir in ["core", "postgres", "protocol", "client", "testkit", "server"] {
        breaches.extend(layout::check(&root.join(format!("crates/talktrack-{dir}/src/lib.rs"))));
    }
    for dir in ["talktrack", "sqlite-salvage"] {
        breaches.extend(layout::check(&root.join(format!("crates/{dir}/src/lib.rs"))));
    }
    breaches.extend(layout::check_files(&root.join("crates/testbed/src")));
    breaches.extend(layout::check_files(&root.join("xtask/src")));
    breaches.extend(proofs::check(root).expect("the files of the repository can be read"));
    for breach in &breaches {
        eprintln!("{breach}");
    }
    if breaches.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
