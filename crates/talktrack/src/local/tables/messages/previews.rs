//! Short summaries of sessions. Each costs two index lookups, regardless of the length of the session.

use rusqlite::{Connection, OptionalExtension as _, params};
use talktrack_core::ids::SessionId;
use talktrack_core::store::{PREVIEW_CHARS, SessionPreview};

use crate::local::database::stored_columns::read_word;
use crate::local::database::{UuidText, text};

const LAST: &str = "SELECT role, substr(content, 1, ?2) FROM conversation_messages \
     WHERE session_id = ?1 AND kind = 'message' AND status = 'final' AND role IN ('user', 'assistant') \
     ORDER BY created_at DESC, coalesce(seq, 0) DESC, id DESC LIMIT 1";

const INTERRUPTIONS: &str =
    "SELECT count(*) FROM conversation_messages WHERE session_id = ?1 AND interrupted";

/// Returns the summary of a session, or `None` if neither the user nor the assistant has said anything in it.
pub(crate) fn read_preview(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Option<SessionPreview>> {
    let id = UuidText::new(session_id);
    let last = connection.prepare_cached(LAST)?.query_row(params![id.as_str(), PREVIEW_CHARS], |row| {
        Ok((read_word(row, 0, |word| word.parse().ok())?, text(row, 1)?))
    });
    let Some((last_role, last_words)) = last.optional()? else { return Ok(None) };
    let interruptions =
        connection.prepare_cached(INTERRUPTIONS)?.query_row([id.as_str()], |row| row.get(0))?;
    Ok(Some(SessionPreview { session_id, last_role, last_words, interruptions }))
}
