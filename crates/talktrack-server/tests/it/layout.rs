//! The modules are listed in reading order.

use std::path::Path;

#[test]
fn a_module_imports_only_modules_listed_after_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let problems = talktrack::testing::layout::check(&root);
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
