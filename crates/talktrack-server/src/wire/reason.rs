//! The word for why a session ends.

use talktrack::error::Invalid;

/// A longer reason is refused: it stands in a column that people read.
const MAX_REASON_BYTES: usize = 256;

/// Why a session ends, in the caller's word.
///
/// # Errors
/// Where the word does not fit into a column that people read.
pub(crate) fn reason_of_end(reason: Option<String>) -> Result<String, Invalid> {
    let reason = reason.unwrap_or_else(|| "completed".into());
    if (1..=MAX_REASON_BYTES).contains(&reason.len()) && !reason.contains('\0') {
        Ok(reason)
    } else {
        Err(Invalid::new("reason", "must be 1 to 256 bytes without U+0000"))
    }
}
