//! Rows as values, and the damage that reading them meets.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::books::Books;
use crate::database::{self, UuidText, column, column_or_null, parse_time, parse_uuid, text, text_or_null};
use crate::json::{JsonArray, JsonObject};
use crate::record::Status;
use crate::store::{MessageRow, SessionRow};

pub(super) const SESSION_COLUMNS: &str = "session_id, user_id, external_id, status, end_reason, started_at, ended_at, duration_seconds, \
     last_event_at, message_count, metadata";
pub(super) const MESSAGE_COLUMNS: &str = "id, session_id, user_id, role, content, audio_url, metadata, created_at, seq, external_id, kind, \
     revision, interrupted, content_generated, parts, metrics";

/// What helps against damage.
pub(super) const REMEDY: &str = "stop the server and start it again: it saves what can be read";

/// The columns of [`Books`], for [`books_row`].
pub(crate) const BOOKS_COLUMNS: &str =
    "durable, stored, dead_lettered, letters_taken_out, inserted, journal_bytes, deleted";

/// For the next start of whoever writes the file.
pub(super) fn note_damage(connection: &Connection, damage: &str) {
    connection.path().iter().for_each(|path| database::suspect(Path::new(path), damage));
}

/// One session, by its id.
pub(super) fn session(connection: &Connection, session_id: Uuid) -> rusqlite::Result<Option<SessionRow>> {
    let sql = format!("SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE session_id = ?1");
    connection.prepare_cached(&sql)?.query_row([UuidText::new(session_id).as_str()], session_row).optional()
}

/// One message, by its id.
pub(super) fn message(connection: &Connection, id: Uuid) -> rusqlite::Result<Option<MessageRow>> {
    let sql = format!("SELECT {MESSAGE_COLUMNS} FROM conversation_messages WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([UuidText::new(id).as_str()], message_row).optional()
}

/// Only what names a session or gives it its place must be readable; a column that has rotted must not hide all others.
pub(super) fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        session_id: column(row, 0, parse_uuid)?,
        user_id: column(row, 1, parse_uuid)?,
        external_id: text_or_null(row, 2)?,
        status: column(row, 3, Status::parse)?,
        end_reason: text_or_null(row, 4)?,
        started_at: column(row, 5, parse_time)?,
        ended_at: column_or_null(row, 6, parse_time)?,
        duration_seconds: row.get(7).ok().flatten(),
        last_event_at: column_or_null(row, 8, parse_time)?,
        message_count: row.get(9).unwrap_or_default(),
        metadata: column_or_null(row, 10, parse_object)?,
    })
}

pub(super) fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        id: column(row, 0, parse_uuid)?,
        session_id: column(row, 1, parse_uuid)?,
        user_id: column_or_null(row, 2, parse_uuid)?,
        role: column(row, 3, |word| word.parse().ok())?,
        content: text(row, 4)?,
        audio_url: text_or_null(row, 5)?,
        metadata: column_or_null(row, 6, parse_object)?,
        created_at: column(row, 7, parse_time)?,
        seq: row.get(8).ok().flatten(),
        external_id: text_or_null(row, 9)?,
        kind: column(row, 10, |word| word.parse().ok())?,
        revision: row.get(11).unwrap_or_default(),
        interrupted: row.get(12).unwrap_or_default(),
        content_generated: text_or_null(row, 13)?,
        parts: column_or_null(row, 14, |text| JsonArray::parse(text).ok())?,
        metrics: column_or_null(row, 15, parse_object)?,
    })
}

/// The totals, from a row that begins with [`BOOKS_COLUMNS`].
pub(crate) fn books_row(row: &Row<'_>) -> rusqlite::Result<Books> {
    Ok(Books {
        durable: row.get(0)?,
        stored: row.get(1)?,
        dead_lettered: row.get(2)?,
        letters_taken_out: row.get(3)?,
        inserted: row.get(4)?,
        journal_bytes: row.get(5)?,
        deleted: row.get(6)?,
    })
}

fn parse_object(text: &str) -> Option<JsonObject> {
    JsonObject::parse(text).ok()
}
