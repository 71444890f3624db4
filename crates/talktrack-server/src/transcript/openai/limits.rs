//! The API's rules for names and ids.

use uuid::Uuid;

/// The longest name of a function, in characters.
pub(super) const MAX_NAME: usize = 64;
/// The longest id of a tool call, in characters.
pub(super) const MAX_ID: usize = 40;
/// The most calls in one message.
pub(super) const MAX_CALLS: usize = 128;

/// Returns a name with the letters, digits, underscores and hyphens of this one, and an underscore for each other character;
/// `otherwise` if the name is empty.
pub(super) fn to_name(name: &str, otherwise: &str) -> String {
    let allowed = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    let name: String = name.chars().take(MAX_NAME).map(allowed).collect();
    if name.is_empty() { otherwise.to_owned() } else { name }
}

/// Returns the id, or one that is derived from it if it is too long.
pub(super) fn to_id(id: &str) -> String {
    if id.chars().nth(MAX_ID).is_none() {
        return id.to_owned();
    }
    format!("call_{}", Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes()).simple())
}
