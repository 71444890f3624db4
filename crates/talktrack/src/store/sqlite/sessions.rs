//! The rows of sessions: opened, reopened, counted, closed.

use rusqlite::{Transaction, params};
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::database::{UuidText, column, parse_time, parse_uuid};
use crate::json::JsonObject;
use crate::record::{Ended, SessionEnd, SessionStart, Status};
use crate::store::sqlite::rows;

pub(crate) fn insert(tx: &Transaction<'_>, seq: Seq, start: &SessionStart) -> rusqlite::Result<()> {
    let sql = "INSERT INTO conversation_sessions (id, session_id, user_id, started_at, created_at, last_event_at, external_id, \
               metadata) VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?6, ?7)";
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(Uuid::new_v5(&start.session_id, b"row")).as_str(),
        UuidText::new(start.session_id).as_str(),
        UuidText::new(start.user_id).as_str(),
        start.started_at.to_string(),
        Timestamp::from_micros(seq).unwrap_or(start.started_at).to_string(),
        start.external_id,
        start.metadata.as_ref().map_or("{}", JsonObject::as_str),
    ])?;
    Ok(())
}

/// The session goes on: whatever ended it is forgotten.
pub(super) fn reopen(tx: &Transaction<'_>, start: &SessionStart) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET status = 'active', ended_at = NULL, duration_seconds = NULL, end_reason = NULL, \
               last_event_at = max(coalesce(last_event_at, ''), ?2) WHERE session_id = ?1";
    let id = UuidText::new(start.session_id);
    tx.prepare_cached(sql)?.execute(params![id.as_str(), start.started_at.to_string()])?;
    start.metadata.as_ref().map_or(Ok(()), |metadata| merge_metadata(tx, start.session_id, metadata))
}

/// Adds keys to the session's metadata; each replaces the one of its name.
pub(super) fn merge_metadata(
    tx: &Transaction<'_>,
    session_id: Uuid,
    added: &JsonObject,
) -> rusqlite::Result<()> {
    let stored = rows::session(tx, session_id)?.and_then(|session| session.metadata);
    let merged = stored.unwrap_or_default().merged(added);
    tx.prepare_cached("UPDATE conversation_sessions SET metadata = ?2 WHERE session_id = ?1")?
        .execute(params![UuidText::new(session_id).as_str(), merged.as_str()])?;
    Ok(())
}

/// Adds a batch's messages to the session's figures.
pub(super) fn count(
    tx: &Transaction<'_>,
    session_id: Uuid,
    added: u64,
    last_event_at: Option<Timestamp>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET message_count = message_count + ?2, \
               last_event_at = max(coalesce(last_event_at, ''), coalesce(?3, '')) WHERE session_id = ?1";
    let last_event_at = last_event_at.map(|moment| moment.to_string());
    tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), added, last_event_at])?;
    Ok(())
}

/// Closes the session and says its figures; `None` where it is not there. An end stands, unless it was only inferred
/// (`abandoned`) and somebody knows better now.
pub(super) fn end(tx: &Transaction<'_>, end: &SessionEnd) -> rusqlite::Result<Option<Ended>> {
    let Some(session) = rows::session(tx, end.session_id)? else { return Ok(None) };
    let inferred = session.status == Status::Abandoned && end.status == Status::Ended;
    let message_count = session.message_count;
    if session.ended_at.is_some() && !inferred {
        return Ok(Some(Ended { duration_seconds: session.duration_seconds.unwrap_or(0.0), message_count }));
    }
    // Nobody knows when an abandoned session ended; its last event is the last that is known of it.
    let ended_at = match end.status {
        Status::Abandoned => session.last_event_at.unwrap_or(session.started_at),
        Status::Active | Status::Ended => end.ended_at,
    };
    let duration_seconds = ended_at.max(session.started_at).seconds_since(session.started_at);
    let sql = "UPDATE conversation_sessions SET status = ?2, end_reason = ?3, ended_at = ?4, duration_seconds = ?5 WHERE session_id = ?1";
    let id = UuidText::new(end.session_id);
    tx.prepare_cached(sql)?.execute(params![
        id.as_str(),
        end.status.as_str(),
        end.reason,
        ended_at.to_string(),
        duration_seconds
    ])?;
    Ok(Some(Ended { duration_seconds, message_count }))
}

/// After a crash nobody ended what was open: every such session is abandoned, at its last event. Says which.
pub(crate) fn abandon_open_sessions(tx: &Transaction<'_>) -> rusqlite::Result<Vec<Uuid>> {
    let open = open_sessions(tx)?;
    for (session_id, ended_at) in &open {
        end(tx, &SessionEnd::abandoned(*session_id, "error", *ended_at))?;
    }
    Ok(open.into_iter().map(|(session_id, _)| session_id).collect())
}

fn open_sessions(tx: &Transaction<'_>) -> rusqlite::Result<Vec<(Uuid, Timestamp)>> {
    let mut open =
        tx.prepare("SELECT session_id, started_at FROM conversation_sessions WHERE status = 'active'")?;
    open.query_map([], |row| Ok((column(row, 0, parse_uuid)?, column(row, 1, parse_time)?)))?.collect()
}
