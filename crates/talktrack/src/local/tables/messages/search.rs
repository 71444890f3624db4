//! Reads messages for the search index, and the messages that the index finds. For the latter, the connection must have
//! the index attached as `search`.

use std::ops::ControlFlow;

use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};
use talktrack_core::ids::{MessageId, UserId};
use talktrack_core::search::{Hit, Piece};

use crate::local::database::stored_columns::{has_id, read_time, read_word};
use crate::local::database::users::read_user;
use crate::local::database::{column, parse_id, text};

macro_rules! select_texts {
    ($rest:literal) => {
        concat!(
            "SELECT m.rowid, coalesce(s.user_id, ''), m.session_id, CASE WHEN m.status = 'final' THEN m.content ELSE '' END FROM conversation_messages m \
             LEFT JOIN conversation_sessions s ON s.session_id = m.session_id ",
            $rest
        )
    };
}

/// A message to index. The content of a message that is not final is empty.
#[derive(Debug)]
pub(crate) struct MessageText {
    pub(crate) row: i64,
    /// The user of the session, or an empty text if there is none.
    pub(crate) user_id: String,
    pub(crate) session_id: String,
    pub(crate) content: String,
}

/// Returns messages after this row, in their present state and in the order of rows: up to `limit`, and none after the
/// one with which they have `max_bytes` of text.
pub(crate) fn read_texts_after(
    connection: &Connection,
    row: i64,
    limit: usize,
    max_bytes: usize,
) -> rusqlite::Result<Vec<MessageText>> {
    let sql = select_texts!("WHERE m.rowid > ?1 ORDER BY m.rowid LIMIT ?2");
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![row, limit])?;
    let mut texts = Vec::new();
    let mut bytes = 0;
    while bytes < max_bytes
        && let Some(row) = rows.next()?
    {
        let text = text_of(row)?;
        bytes += text.content.len();
        texts.push(text);
    }
    Ok(texts)
}

/// Returns a message in its present state, or `None` if its row is after `last_row`.
pub(crate) fn read_text(
    connection: &Connection,
    id: MessageId,
    last_row: i64,
) -> rusqlite::Result<Option<MessageText>> {
    let mut statement = connection.prepare_cached(select_texts!("WHERE m.id = ?1 AND m.rowid <= ?2"))?;
    statement.query_row(params![id.to_string(), last_row], text_of).optional()
}

fn text_of(row: &Row<'_>) -> rusqlite::Result<MessageText> {
    Ok(MessageText {
        row: row.get(0)?,
        user_id: text(row, 1)?,
        session_id: text(row, 2)?,
        content: text(row, 3)?,
    })
}

/// A message that the index has found.
pub(crate) struct FoundMessage<'r>(&'r Row<'r>);

impl FoundMessage<'_> {
    /// Returns the text of the message.
    pub(crate) fn content(&self) -> rusqlite::Result<String> {
        text(self.0, 6)
    }

    /// Returns the message as a hit with this snippet.
    pub(crate) fn read_hit(&self, snippet: Vec<Piece>) -> rusqlite::Result<Hit> {
        let row = self.0;
        Ok(Hit {
            message_id: column(row, 0, parse_id)?,
            session_id: column(row, 1, parse_id)?,
            user_id: read_user(row, 2, 8)?.unwrap_or(UserId::nil()),
            role: read_word(row, 3, |word| word.parse().ok())?,
            kind: read_word(row, 4, |word| word.parse().ok())?,
            created_at: read_time(row, 5)?,
            snippet,
            place: row.get(7)?,
        })
    }
}

/// Calls `visit` with the messages before this row that match an FTS5 expression, last written first, until `visit`
/// breaks. Leaves out messages whose ids or whose session's user are not UUIDs.
pub(crate) fn visit_found(
    connection: &Connection,
    expression: &str,
    before_row: i64,
    mut visit: impl FnMut(FoundMessage<'_>) -> rusqlite::Result<ControlFlow<()>>,
) -> rusqlite::Result<()> {
    const FOUND: &str = concat!(
        "SELECT m.id, m.session_id, s.user_id, m.role, m.kind, m.created_at, m.content, t.rowid, s.user_external_id \
         FROM search.texts t CROSS JOIN conversation_messages m ON m.rowid = t.rowid \
         CROSS JOIN conversation_sessions s ON s.session_id = m.session_id \
         WHERE t.texts MATCH ?1 AND t.rowid < ?2 AND ",
        has_id!("m.id"),
        " AND ",
        has_id!("m.session_id"),
        " AND ",
        has_id!("s.user_id"),
        " ORDER BY t.rowid DESC"
    );
    let mut found = connection.prepare_cached(FOUND)?;
    let mut rows = found.query(params![expression, before_row])?;
    while let Some(row) = rows.next()? {
        if visit(FoundMessage(row))?.is_break() {
            break;
        }
    }
    Ok(())
}

/// Returns the session of each of up to `limit` messages that match an FTS5 expression, in the spelling of the column.
/// A session with several messages is returned several times.
pub(crate) fn read_sessions_of_found(
    connection: &Connection,
    expression: String,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT m.session_id FROM search.texts t CROSS JOIN conversation_messages m ON m.rowid = t.rowid \
               WHERE t.texts MATCH ? LIMIT ?";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_map(params_from_iter([expression, limit.to_string()]), |row| text(row, 0))?.collect()
}
