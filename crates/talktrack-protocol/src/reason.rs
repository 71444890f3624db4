//! The reason why a session ends.

use talktrack_core::error::Invalid;

/// The maximum length of a reason in bytes. It is stored in a column that people read.
const MAX_REASON_BYTES: usize = 256;

/// Returns the caller's reason for the end of a session, or `completed` if there is none.
///
/// # Errors
/// Fails if the reason is empty, too long or contains U+0000.
pub fn reason_of_end(reason: Option<String>) -> Result<String, Invalid> {
    let reason = reason.unwrap_or_else(|| "completed".into());
    if (1..=MAX_REASON_BYTES).contains(&reason.len()) && !reason.contains('\0') {
        Ok(reason)
    } else {
        Err(Invalid::new("reason", "must be 1 to 256 bytes without U+0000"))
    }
}
