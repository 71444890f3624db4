//! Reads rows of messages: one by its id, and the transcript of a session.

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::{MessageId, SessionId};
use talktrack_core::store::{MessageCursor, MessageRow, Page};
use talktrack_core::stored::StoredTime;

use crate::local::database::stored_columns::{has_id, read_json_or_null, read_time, read_word};
use crate::local::database::users::read_user;
use crate::local::database::{UuidText, column, column_or_null, parse_id, parse_time, text, text_or_null};

const MESSAGE_COLUMNS: &str = "id, session_id, user_id, role, content, audio_url, metadata, created_at, seq, external_id, kind, \
     revision, interrupted, content_generated, parts, metrics, extra, name, status, (SELECT user_external_id FROM conversation_sessions AS session \
     WHERE session.session_id = conversation_messages.session_id AND session.user_id = conversation_messages.user_id)";

const HAS_MESSAGE_ID: &str = has_id!("id");

/// Messages after the one with the id `?4` in a transcript. Used if a cursor cannot carry the last row's
/// time: the query looks it up. NULL sorts first.
const AFTER_ROW: &str = "EXISTS (SELECT 1 FROM conversation_messages AS last WHERE last.id = ?4 AND CASE \
     WHEN conversation_messages.created_at IS last.created_at \
       THEN (coalesce(conversation_messages.seq, 0), conversation_messages.id) > (coalesce(last.seq, 0), last.id) \
     ELSE conversation_messages.created_at IS NOT NULL \
       AND (last.created_at IS NULL OR conversation_messages.created_at > last.created_at) END)";

/// Messages before the one with the id `?4` in a transcript, as in [`AFTER_ROW`].
const BEFORE_ROW: &str = "EXISTS (SELECT 1 FROM conversation_messages AS first WHERE first.id = ?4 AND CASE \
     WHEN conversation_messages.created_at IS first.created_at \
       THEN (coalesce(conversation_messages.seq, 0), conversation_messages.id) < (coalesce(first.seq, 0), first.id) \
     ELSE first.created_at IS NOT NULL \
       AND (conversation_messages.created_at IS NULL OR conversation_messages.created_at < first.created_at) END)";

/// Returns one message by its id.
pub(crate) fn read_message(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<MessageRow>> {
    let sql = format!("SELECT {MESSAGE_COLUMNS} FROM conversation_messages WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([UuidText::new(id).as_str()], message_row).optional()
}

/// Returns the messages with these ids that exist, in the order of `ids`, as many as fit into a page.
pub(crate) fn read_by_ids(connection: &Connection, ids: &[MessageId]) -> rusqlite::Result<Page<MessageRow>> {
    Page::fill(ids.iter().filter_map(|id| read_message(connection, *id).transpose()), None)
}

/// Returns up to `limit` messages of the session after the cursor, in the order in which they were said. Null times
/// come first. Reads the index `conversation_messages_in_order`.
pub(crate) fn read_page(
    connection: &Connection,
    session_id: SessionId,
    after: Option<MessageCursor>,
    limit: usize,
) -> rusqlite::Result<Page<MessageRow>> {
    let place = match after.map(|cursor| cursor.created_at.known()) {
        None => "true",
        Some(Some(_)) => "(created_at, coalesce(seq, 0), id) > (?2, ?3, ?4)",
        Some(None) => AFTER_ROW,
    };
    read_list(connection, session_id, place, "created_at, coalesce(seq, 0), id", after, limit)
}

/// Returns up to `limit` messages of the session before the cursor, the list of [`read_page`] read backwards.
pub(crate) fn read_page_backwards(
    connection: &Connection,
    session_id: SessionId,
    before: Option<MessageCursor>,
    limit: usize,
) -> rusqlite::Result<Page<MessageRow>> {
    const BACKWARDS: &str = "created_at DESC, coalesce(seq, 0) DESC, id DESC";
    let read = |place, limit| read_list(connection, session_id, place, BACKWARDS, before, limit);
    match before.map(|cursor| cursor.created_at.known()) {
        None => read("true", limit),
        Some(None) => read(BEFORE_ROW, limit),
        Some(Some(_)) => {
            let mut page = read("(created_at, coalesce(seq, 0), id) < (?2, ?3, ?4)", limit)?;
            // A comparison with NULL is true for no row, so rows with NULL are read by a query of their own.
            if !page.more {
                let rest = read("created_at IS NULL", limit - page.len())?;
                page.more = rest.more;
                page.rows.extend(rest);
            }
            Ok(page)
        }
    }
}

/// Reads one page of a list of messages. `place` is the condition on the cursor.
fn read_list(
    connection: &Connection,
    session_id: SessionId,
    place: &str,
    order: &str,
    cursor: Option<MessageCursor>,
    limit: usize,
) -> rusqlite::Result<Page<MessageRow>> {
    let at = cursor.and_then(|cursor| cursor.created_at.known()).map(|at| at.to_string());
    let (seq, id) = cursor.map(|cursor| (cursor.seq, cursor.id.to_string())).unwrap_or_default();
    let sql = format!(
        "SELECT {MESSAGE_COLUMNS} FROM conversation_messages WHERE session_id = ?1 AND {HAS_MESSAGE_ID} AND {place} \
         ORDER BY {order} LIMIT ?5"
    );
    let session_id = UuidText::new(session_id);
    let mut statement = connection.prepare_cached(&sql)?;
    // Each form uses only some of the parameters. SQLite accepts values for the others as well.
    Page::fill(
        statement.query_map(params![session_id.as_str(), at, seq, id, limit], message_row)?,
        Some(limit),
    )
}

/// Returns the earliest time of the session's messages. `None` if there is no message or the smallest value is
/// no valid time.
pub(crate) fn read_first_said_at(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Option<Timestamp>> {
    read_moment(
        connection,
        "SELECT min(created_at) FROM conversation_messages WHERE session_id = ?1",
        session_id,
    )
}

/// Returns the latest time of the session's messages. `None` if there is no message or the greatest value is no valid
/// time.
pub(crate) fn read_last_said_at(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Option<Timestamp>> {
    read_moment(
        connection,
        "SELECT max(created_at) FROM conversation_messages WHERE session_id = ?1",
        session_id,
    )
}

fn read_moment(
    connection: &Connection,
    sql: &str,
    session_id: SessionId,
) -> rusqlite::Result<Option<Timestamp>> {
    let id = UuidText::new(session_id);
    connection.prepare_cached(sql)?.query_row([id.as_str()], |row| column_or_null(row, 0, parse_time))
}

/// Returns the number of messages. Reads a whole index.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM conversation_messages", [], |row| row.get(0))
}

/// Returns the highest `rowid`, or 0 if there is no row.
pub(crate) fn newest_row(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(rowid), 0) FROM conversation_messages";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Reads a row of which only the ids must be readable. Every other value is returned unchanged.
fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let seq: Result<Option<Seq>, _> = row.get(8);
    let created_at = match read_time(row, 7)? {
        // The list is ordered by the stored `seq`, which a cursor cannot carry if it is not an integer.
        StoredTime::Known(at) if seq.is_err() => StoredTime::Text(at.to_string().into()),
        created_at => created_at,
    };
    Ok(MessageRow {
        id: column(row, 0, parse_id)?,
        session_id: column(row, 1, parse_id)?,
        user_id: read_user(row, 2, 19)?,
        role: read_word(row, 3, |word| word.parse().ok())?,
        content: text(row, 4)?,
        audio_url: text_or_null(row, 5)?,
        metadata: read_json_or_null(row, 6)?,
        created_at,
        seq: seq.ok().flatten(),
        external_id: text_or_null(row, 9)?,
        name: text_or_null(row, 17)?,
        status: read_word(row, 18, |word| word.parse().ok())?,
        kind: read_word(row, 10, |word| word.parse().ok())?,
        revision: row.get(11).unwrap_or_default(),
        interrupted: row.get(12).unwrap_or_default(),
        content_generated: text_or_null(row, 13)?,
        parts: read_json_or_null(row, 14)?,
        metrics: read_json_or_null(row, 15)?,
        extra: read_json_or_null(row, 16)?,
    })
}
