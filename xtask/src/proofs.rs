//! Checks that every test that `docs/proofs.md` names exists, so that no promise loses its test when one is removed or
//! renamed.

use std::fs;
use std::path::Path;

/// Where the tests are.
const SOURCES: [&str; 3] =
    ["crates/talktrack-testkit/src", "crates/talktrack/tests/it", "crates/talktrack-server/tests/it"];

/// Returns one line for each test that is named and does not exist.
pub(crate) fn check(root: &Path) -> std::io::Result<Vec<String>> {
    let page = fs::read_to_string(root.join("docs/proofs.md"))?;
    let mut sources = String::new();
    for dir in SOURCES {
        read_sources(&root.join(dir), &mut sources)?;
    }
    let is_test_name = |word: &&str| {
        let is_metric = word.starts_with("talktrack_");
        let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
        !is_metric && word.matches('_').count() >= 4 && word.chars().all(letters)
    };
    let named: Vec<_> = page.split('`').skip(1).step_by(2).filter(is_test_name).collect();
    if named.len() < 50 {
        return Ok(vec![format!("docs/proofs.md: names only {} tests", named.len())]);
    }
    let missing = named.iter().filter(|name| !sources.contains(&format!("fn {name}(")));
    Ok(missing.map(|name| format!("docs/proofs.md: there is no test `{name}`")).collect())
}

fn read_sources(dir: &Path, text: &mut String) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read_sources(&path, text)?;
        } else {
            text.push_str(&fs::read_to_string(&path)?);
        }
    }
    Ok(())
}
