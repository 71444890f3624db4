//! How SQL spells names and words.

/// A name as SQL takes it, whatever it holds.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Words as a list of literals.
pub(super) fn literals(words: &[impl AsRef<str>]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.as_ref().replace('\'', "''")));
    quoted.collect::<Vec<_>>().join(", ")
}
