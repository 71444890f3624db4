//! Converts rows to values, including values that talktrack did not write.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId};
use talktrack_core::record::Status;
use talktrack_core::stored::{FromJson, Stored, StoredTime};

use crate::local::database::{self, UuidText, column, column_or_null, parse_id, text, text_or_null};
use crate::store::{MessageRow, SessionRow};

pub(super) const SESSION_COLUMNS: &str = "session_id, user_id, external_id, status, end_reason, started_at, ended_at, duration_seconds, \
     last_event_at, message_count, metadata";
pub(super) const MESSAGE_COLUMNS: &str = "id, session_id, user_id, role, content, audio_url, metadata, created_at, seq, external_id, kind, \
     revision, interrupted, content_generated, parts, metrics, extra";

/// A condition: the column holds an id in talktrack's spelling. A row without one cannot be addressed;
/// `verify` reports it. Without `likely`, SQLite expects the condition to hold for few rows, and then sorts all
/// rows instead of reading the first ones in the order of an index.
macro_rules! has_id {
    ($column:literal) => {
        concat!(
            "typeof(", $column, ") = 'text' AND length(", $column, ") = 36 AND likely(", $column, " GLOB \
             '[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]-\
             [0-9a-f][0-9a-f][0-9a-f][0-9a-f]-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]-[0-9a-f][0-9a-f][0-9a-f][0-9a-f]\
             [0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f]')"
        )
    };
}
pub(super) use has_id;

/// What an operator can do about damage.
pub(super) const REMEDY: &str = "restart the server, which saves what can be read";

/// Notes damage for the next start of the process that writes the file.
pub(super) fn note_damage(connection: &Connection, damage: &str) {
    connection.path().iter().for_each(|path| database::mark_suspect(Path::new(path), damage));
}

/// Returns one session by its id.
pub(super) fn read_session(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Option<SessionRow>> {
    let sql = format!("SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE session_id = ?1");
    connection.prepare_cached(&sql)?.query_row([UuidText::new(session_id).as_str()], session_row).optional()
}

/// Returns one message by its id.
pub(super) fn read_message(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<MessageRow>> {
    let sql = format!("SELECT {MESSAGE_COLUMNS} FROM conversation_messages WHERE id = ?1");
    connection.prepare_cached(&sql)?.query_row([UuidText::new(id).as_str()], message_row).optional()
}

/// Reads a row of which only the id must be readable ([`has_id!`] selects those). Every other value is
/// returned unchanged.
pub(super) fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        session_id: column(row, 0, parse_id)?,
        user_id: column_or_null(row, 1, parse_id)?,
        external_id: text_or_null(row, 2)?,
        status: read_word(row, 3, Status::parse)?,
        end_reason: text_or_null(row, 4)?,
        started_at: read_time(row, 5)?,
        ended_at: read_time_or_null(row, 6)?,
        duration_seconds: row.get(7).ok().flatten(),
        last_event_at: read_time_or_null(row, 8)?,
        message_count: row.get(9).unwrap_or_default(),
        metadata: read_json_or_null(row, 10)?,
    })
}

/// Reads a row of which only the ids must be readable. Every other value is returned unchanged.
pub(super) fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let seq: Result<Option<Seq>, _> = row.get(8);
    let created_at = match read_time(row, 7)? {
        // The list is ordered by the stored `seq`, which a cursor cannot carry if it is not an integer.
        StoredTime::Known(at) if seq.is_err() => StoredTime::Text(at.to_string().into()),
        created_at => created_at,
    };
    Ok(MessageRow {
        id: column(row, 0, parse_id)?,
        session_id: column(row, 1, parse_id)?,
        user_id: column_or_null(row, 2, parse_id)?,
        role: read_word(row, 3, |word| word.parse().ok())?,
        content: text(row, 4)?,
        audio_url: text_or_null(row, 5)?,
        metadata: read_json_or_null(row, 6)?,
        created_at,
        seq: seq.ok().flatten(),
        external_id: text_or_null(row, 9)?,
        kind: read_word(row, 10, |word| word.parse().ok())?,
        revision: row.get(11).unwrap_or_default(),
        interrupted: row.get(12).unwrap_or_default(),
        content_generated: text_or_null(row, 13)?,
        parts: read_json_or_null(row, 14)?,
        metrics: read_json_or_null(row, 15)?,
        extra: read_json_or_null(row, 16)?,
    })
}

/// Returns the word in a column, known or not.
pub(super) fn read_word<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Stored<T>> {
    Ok(Stored::parse_word(text_or_null(row, index)?.as_deref(), parse))
}

/// Returns the time in a column that talktrack never leaves null.
pub(super) fn read_time(row: &Row<'_>, index: usize) -> rusqlite::Result<StoredTime> {
    read_time_or_null(row, index).map(|time| time.unwrap_or(StoredTime::Null))
}

fn read_time_or_null(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<StoredTime>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Text(bytes) => Some(StoredTime::from_text(&String::from_utf8_lossy(bytes))),
        // Bytes and numbers sort differently from text, so a cursor finds such a row again by its id.
        _ => text_or_null(row, index)?.map(|text| StoredTime::Text(text.into())),
    })
}

fn read_json_or_null<T: FromJson>(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<Stored<T>>> {
    Ok(text_or_null(row, index)?.as_deref().map(Stored::parse_json))
}
