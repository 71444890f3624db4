//! Quotes names and words for SQL.

/// Quotes a name as an SQL identifier. Any name is allowed.
pub(super) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns words as a list of SQL literals.
pub(super) fn quote_literals(words: &[impl AsRef<str>]) -> String {
    let quoted = words.iter().map(|word| format!("'{}'", word.as_ref().replace('\'', "''")));
    quoted.collect::<Vec<_>>().join(", ")
}
