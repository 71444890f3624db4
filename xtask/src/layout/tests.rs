//! Tests of the check itself.

use super::{check, check_files};

/// Checks a crate that consists of these files (path, text), and returns the breaches without the directory.
fn breaches(files: &[(&str, &str)]) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("//! A file.\n{text}")).unwrap();
    }
    let prefix = format!("{}/", dir.path().display());
    check(&dir.path().join("lib.rs")).into_iter().map(|breach| breach.replace(&prefix, "")).collect()
}

const ROOT: (&str, &str) =
    ("lib.rs", "mod first;\npub(crate) mod second;\npub mod third;\npub use third::Thing;");

fn breaches_of(path: &str, text: &str) -> Vec<String> {
    let mut files = vec![ROOT, ("first.rs", ""), ("second.rs", ""), ("third.rs", "")];
    files.retain(|(other, _)| *other != path);
    files.push((path, text));
    breaches(&files)
}

#[test]
fn a_module_may_use_itself_and_what_is_listed_after_it() {
    let good = "use crate::second::{self, x};\nuse crate::third;\nuse crate::{second::y, third::{a, b}};\n\
                fn f() { crate::second::g(); crate::third::h::<crate::second::T>(); }\npub(crate) fn k() {}";
    assert_eq!(breaches_of("second.rs", good), [""; 0]);
    assert_eq!(breaches_of("second/inner/deep.rs", good), [""; 0]);
    assert_eq!(breaches_of("second/inner.rs", "use super::x; use super::super::third::y;"), [""; 0]);
}

#[test]
fn a_module_that_uses_what_is_listed_before_it_is_named() {
    let breach = |file| vec![format!("{file}: `second` uses `first`, which is listed before it")];
    for bad in [
        "use crate::first;",
        "use crate::first::x;",
        "use crate :: first :: x;",
        "use crate::{third, first};",
        "use crate::{third::{a, b::{c, d}}, first::{e}};",
        "fn f() { let x = crate::first::g(); }",
        "impl From<crate::first::T> for crate::third::T {}",
        "use super::first::x;",
        "use super::{third, first};",
        "mod tests { use super::super::first::x; }",
        "mod tests { mod deep { fn f() {} } use super::*; use crate::first::x; }",
        "fn f<'a>(x: &'a str, c: char) -> bool { c == '\"' || c == '\\'' || crate::first::g(x) }",
        "const T: &str = r#\"quoted \" \"#; use crate::first;",
    ] {
        assert_eq!(breaches_of("second.rs", bad), breach("second.rs"), "{bad}");
    }
    assert_eq!(breaches_of("second/inner.rs", "use super::super::first;"), breach("second/inner.rs"));
    assert_eq!(breaches_of("second/inner.rs", "use crate::first;"), breach("second/inner.rs"));
}

#[test]
fn what_stands_in_comments_and_strings_is_no_import() {
    let good = "//! See [`crate::first`].\n/// crate::first::x\nfn f() {}\n// use crate::first;\n/* crate::first /* crate::first */\n\
                crate::first */\nconst A: &str = \"crate::first \\\" crate::first\";\nconst B: &str = r#\"\" crate::first\"#;\n\
                mod tests { use super::*; use super::A; }";
    assert_eq!(breaches_of("second.rs", good), [""; 0]);
}

#[test]
fn the_roots_re_exports_are_not_for_the_crate_itself() {
    let breach =
        |name| [format!("second.rs: uses `crate::{name}`, which is no module; name the one it comes from")];
    assert_eq!(breaches_of("second.rs", "use crate::Thing;"), breach("Thing"));
    assert_eq!(breaches_of("second.rs", "use crate::{third::A, Thing};"), breach("Thing"));
    assert_eq!(breaches_of("second.rs", "use super::Thing;"), breach("Thing"));
    assert_eq!(breaches_of("second.rs", "use super::*;"), breach("*"));
    assert_eq!(breaches_of("second.rs", "use crate::*;"), breach("*"));
}

#[test]
fn a_file_that_belongs_to_no_listed_module_is_named() {
    assert_eq!(breaches_of("stray.rs", ""), ["stray.rs: the root file does not list the module `stray`"]);
}

#[test]
fn a_program_beside_a_library_is_a_crate_of_its_own() {
    assert_eq!(breaches_of("main.rs", "fn main() { the_library::main() }"), [""; 0]);
    assert_eq!(breaches_of("first/main.rs", "use crate::second;"), [""; 0]);
    let breach = ["second/main.rs: `second` uses `first`, which is listed before it"];
    assert_eq!(breaches_of("second/main.rs", "use crate::first;"), breach);
}

#[test]
fn a_long_file_and_one_that_does_not_say_what_it_is_are_named() {
    assert_eq!(breaches_of("first.rs", &"\n".repeat(399)), [""; 0]);
    assert_eq!(breaches_of("first.rs", &"\n".repeat(400)), ["first.rs: has 401 lines; 400 are the most"]);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.rs"), "// a comment\nfn f() {}\n").unwrap();
    let breaches = check_files(dir.path());
    assert_eq!(breaches.len(), 1, "{breaches:?}");
    assert!(breaches[0].ends_with("a.rs: does not begin with `//! ` and what it is"), "{breaches:?}");
}
