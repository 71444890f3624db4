//! Tells the program which commit it is built from. Development builds are not told: each commit would build the crate again.

use std::path::Path;
use std::process::Command;

/// Cargo hands what this program sets to `cargo run` and to tests as well, where names that begin with `TALKTRACK_` are settings.
/// This one names the commit for a build without the repository, such as that of a container.
const COMMIT: &str = "BUILD_COMMIT";

fn main() {
    println!("cargo::rerun-if-env-changed={COMMIT}");
    println!("cargo::rerun-if-changed=build.rs");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let given = std::env::var(COMMIT).ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| if is_release { commit_of_repository() } else { None }).unwrap_or_default();
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let full = if commit.is_empty() { version } else { format!("{version} ({commit})") };
    println!("cargo::rustc-env={COMMIT}={commit}");
    println!("cargo::rustc-env=BUILD_VERSION={full}");
    println!("cargo::rustc-env=BUILD_TARGET={}", std::env::var("TARGET").unwrap_or_default());
}

/// The first twelve digits of the commit, with a `+` if files differ from it. `None` if this directory belongs to no
/// repository or to another one: `cargo install` may unpack the crate into a directory that is under version control.
fn commit_of_repository() -> Option<String> {
    git(&["ls-files", "--error-unmatch", "build.rs"])?;
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    // HEAD names a branch; the log of HEAD changes with each commit.
    for name in ["HEAD", "logs/HEAD", "index"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let is_clean = git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if is_clean { commit } else { commit + "+" })
}

/// Runs git, which must not refresh the index meanwhile: the next build would find it changed, and build again.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok();
    let output = output.filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
