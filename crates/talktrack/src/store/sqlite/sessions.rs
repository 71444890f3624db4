//! Writes the rows of sessions: starts, ends, reopens and counts.

use rusqlite::{OptionalExtension as _, Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::SessionId;
use talktrack_core::json::{JsonObject, MAX_SESSION_METADATA};
use talktrack_core::record::{Attempt, Ended, Record, Reopened, SessionEnd, SessionStart, Status};
use talktrack_core::stored::{Stored, StoredTime};
use uuid::Uuid;

use crate::local::database::{UuidText, column, column_or_null, parse_id, parse_time};
use crate::store::SessionRow;
use crate::store::conflict::{Ending, Rule, SessionEndState};
use crate::store::sqlite::rows;

/// Writes the row of a new session. `has_start` is false if no start was seen, and the session is only known
/// from another record.
pub(crate) fn insert_session(
    tx: &Transaction<'_>,
    seq: Seq,
    start: &SessionStart,
    has_start: bool,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO conversation_sessions (id, session_id, user_id, started_at, created_at, last_event_at, external_id, \
               metadata, last_node, last_seq) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?6, ?7, CASE WHEN ?8 THEN (SELECT node FROM directory) END, CASE WHEN ?8 THEN ?9 END)";
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(Uuid::new_v5(&start.session_id.as_uuid(), b"row")).as_str(),
        UuidText::new(start.session_id).as_str(),
        UuidText::new(&start.user_id).as_str(),
        start.started_at.to_string(),
        seq.accepted_at().unwrap_or(start.started_at).to_string(),
        start.external_id,
        start.metadata.as_ref().map_or("{}", JsonObject::as_str),
        has_start,
        seq,
    ])?;
    Ok(())
}

/// Applies a start to a stored session: the session continues, unless the start comes late.
///
/// Changes nothing if the metadata would become too long.
pub(super) fn start_again(
    tx: &Transaction<'_>,
    meta: RecordMeta,
    start: &SessionStart,
) -> rusqlite::Result<RowChange> {
    let Some(rule) = find_rule(tx, start.session_id, meta)? else { return Ok(RowChange::Applied) };
    let Some(session) = rows::read_session(tx, start.session_id)? else { return Ok(RowChange::Applied) };
    let added = start.metadata.as_ref();
    let merged = added.map_or(Ok(None), |added| merged_metadata(rule, session.metadata.as_ref(), added));
    let Ok(merged) = merged else { return Ok(RowChange::MetadataTooLong) };
    // If the time of the stored end is invalid, the time of this start stands in for it.
    let ended_at = session.ended_at.map(|at| at.known().unwrap_or(start.started_at));
    if ended_at.is_some_and(|ended_at| rule.reopens(meta.seq, ended_at)) {
        reopen(tx, start.session_id)?;
    }
    let sql = "UPDATE conversation_sessions SET last_event_at = max(coalesce(last_event_at, ''), ?2), \
               external_id = coalesce(external_id, ?3) WHERE session_id = ?1";
    let id = UuidText::new(start.session_id);
    if rule != Rule::Ignore {
        let params = params![id.as_str(), start.started_at.to_string(), start.external_id];
        tx.prepare_cached(sql)?.execute(params)?;
    }
    note_applied(tx, rule, start.session_id, meta.seq)?;
    if let Some(merged) = merged {
        write_metadata(tx, start.session_id, &merged)?;
    }
    Ok(RowChange::Applied)
}

/// Removes all columns of the end.
fn reopen(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET status = 'active', ended_at = NULL, duration_seconds = NULL, end_reason = NULL, \
               end_inferred = 0 WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// Reopens the session for a new message if its end was inferred and lies before this moment. Returns what
/// is known of the reopened session.
pub(super) fn cancel_inferred_end(
    tx: &Transaction<'_>,
    session_id: SessionId,
    before: Timestamp,
) -> rusqlite::Result<Option<Reopened>> {
    let sql = "SELECT user_id, started_at FROM conversation_sessions WHERE session_id = ?1 AND end_inferred AND ended_at < ?2";
    let id = UuidText::new(session_id);
    let before = before.to_string();
    let found = tx.prepare_cached(sql)?.query_row(params![id.as_str(), before], |row| {
        let known = column_or_null(row, 0, parse_id)?.zip(column_or_null(row, 1, parse_time)?);
        Ok(known.map(|(user_id, started_at)| Reopened { session_id, user_id, started_at }))
    });
    let reopened = found.optional()?.flatten();
    if reopened.is_some() {
        reopen(tx, session_id)?;
    }
    Ok(reopened)
}

/// When a record was accepted, and whether the store may have seen it before.
#[derive(Clone, Copy)]
pub(super) struct RecordMeta {
    pub(super) seq: Seq,
    pub(super) attempt: Attempt,
}

impl RecordMeta {
    pub(super) fn new(record: &Record) -> Self {
        Self { seq: record.seq, attempt: record.attempt }
    }
}

/// Returns how much of a record applies to the session's row, or `None` if there is no row.
fn find_rule(
    tx: &Transaction<'_>,
    session_id: SessionId,
    meta: RecordMeta,
) -> rusqlite::Result<Option<Rule>> {
    let sql = "SELECT last_node, last_seq, (SELECT node FROM directory) FROM conversation_sessions WHERE session_id = ?1";
    let rule = tx.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| {
        let last = column_or_null(row, 0, parse_id)?.zip(row.get(1).ok().flatten());
        Ok(Rule::for_record(last, column(row, 2, parse_id)?, meta.seq, meta.attempt))
    });
    rule.optional()
}

/// Makes this record the last that was applied to the row, if its rule says so.
fn note_applied(tx: &Transaction<'_>, rule: Rule, session_id: SessionId, seq: Seq) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET last_node = (SELECT node FROM directory), last_seq = ?2 WHERE session_id = ?1";
    if rule.is_applied() {
        tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), seq])?;
    }
    Ok(())
}

/// Adds the keys of an update to the session's metadata, to the extent that the update applies.
///
/// Changes nothing if the metadata would become too long.
pub(super) fn update_metadata(
    tx: &Transaction<'_>,
    meta: RecordMeta,
    session_id: SessionId,
    added: &JsonObject,
) -> rusqlite::Result<RowChange> {
    let Some(rule) = find_rule(tx, session_id, meta)? else { return Ok(RowChange::Applied) };
    let stored = rows::read_session(tx, session_id)?.and_then(|session| session.metadata);
    match merged_metadata(rule, stored.as_ref(), added) {
        Err(MetadataTooLong) => return Ok(RowChange::MetadataTooLong),
        Ok(Some(merged)) => write_metadata(tx, session_id, &merged)?,
        Ok(None) => {}
    }
    note_applied(tx, rule, session_id, meta.seq)?;
    Ok(RowChange::Applied)
}

/// What became of a change to a session's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(super) enum RowChange {
    /// The row has the change, to the extent that it applies.
    Applied,
    /// The metadata of the session would exceed the limit. The row is unchanged.
    MetadataTooLong,
}

/// The metadata of a session would exceed the limit.
#[derive(Debug, Clone, Copy)]
struct MetadataTooLong;

fn merged_metadata(
    rule: Rule,
    stored: Option<&Stored<JsonObject>>,
    added: &JsonObject,
) -> Result<Option<JsonObject>, MetadataTooLong> {
    rule.merge_metadata(stored, added, MAX_SESSION_METADATA).map_err(|_| MetadataTooLong)
}

fn write_metadata(tx: &Transaction<'_>, session_id: SessionId, merged: &JsonObject) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE conversation_sessions SET metadata = ?2 WHERE session_id = ?1")?
        .execute(params![UuidText::new(session_id).as_str(), merged.as_str()])?;
    Ok(())
}

/// Adds the messages of a batch to the session's figures.
pub(super) fn add_messages(
    tx: &Transaction<'_>,
    session_id: SessionId,
    added: u64,
    last_event_at: Option<Timestamp>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET message_count = message_count + ?2, \
               last_event_at = max(coalesce(last_event_at, ''), coalesce(?3, '')) WHERE session_id = ?1";
    let last_event_at = last_event_at.map(|moment| moment.to_string());
    tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), added, last_event_at])?;
    Ok(())
}

/// Closes the session and returns its figures, or `None` if it does not exist. An existing end is kept,
/// unless it was inferred and this one was sent by a client. No other node writes to this file and could
/// have continued the session, so only a replayed end may come late.
pub(super) fn end_session(
    tx: &Transaction<'_>,
    meta: RecordMeta,
    end: &SessionEnd,
) -> rusqlite::Result<Option<Ended>> {
    let Some(session) = rows::read_session(tx, end.session_id)? else { return Ok(None) };
    let Some(rule) = find_rule(tx, end.session_id, meta)? else { return Ok(None) };
    let inferred =
        "SELECT end_inferred OR status = 'abandoned' FROM conversation_sessions WHERE session_id = ?1";
    let id = UuidText::new(end.session_id);
    let row = SessionEndState {
        is_ended: session.ended_at.is_some(),
        is_inferred: tx
            .prepare_cached(inferred)?
            .query_row([id.as_str()], |row| row.get(0))
            .unwrap_or_default(),
        last_event_at: known_time(session.last_event_at.as_ref()).filter(|_| !rule.is_applied()),
    };
    let message_count = session.message_count.max(0).unsigned_abs();
    if Ending::decide(rule, end, meta.seq, row) != Ending::Closes {
        return Ok(Some(Ended { duration_seconds: session.duration_seconds.unwrap_or(0.0), message_count }));
    }
    note_applied(tx, rule, end.session_id, meta.seq)?;
    let duration_seconds = write_end(tx, &session, end)?;
    Ok(Some(Ended { duration_seconds, message_count }))
}

fn known_time(time: Option<&StoredTime>) -> Option<Timestamp> {
    time.and_then(StoredTime::known)
}

/// Writes the end to the row. Returns the duration of the session in seconds.
fn write_end(tx: &Transaction<'_>, session: &SessionRow, end: &SessionEnd) -> rusqlite::Result<f64> {
    let started_at = session.started_at.known();
    // The true end of an abandoned session is unknown; its last event is the last known sign of it.
    let ended_at = match end.status {
        Status::Abandoned => {
            known_time(session.last_event_at.as_ref()).or(started_at).unwrap_or(end.ended_at)
        }
        Status::Active | Status::Ended => end.ended_at,
    };
    // A session with an invalid start has no duration.
    let duration_seconds = started_at.map_or(0.0, |start| ended_at.max(start).seconds_since(start));
    let sql = "UPDATE conversation_sessions SET status = ?2, end_reason = ?3, ended_at = ?4, duration_seconds = ?5, \
               end_inferred = ?6 WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(end.session_id).as_str(),
        end.status.as_str(),
        end.reason,
        ended_at.to_string(),
        duration_seconds,
        end.is_inferred(),
    ])?;
    Ok(duration_seconds)
}

/// Ends all open sessions after a crash: each becomes abandoned, as of its last event. Returns their ids.
pub(crate) fn abandon_open_sessions(tx: &Transaction<'_>) -> rusqlite::Result<Vec<SessionId>> {
    let open = open_sessions(tx)?;
    for session_id in &open {
        if let Some(session) = rows::read_session(tx, *session_id)? {
            // Another program wrote a start that is not a valid time. Without one the session gets no end.
            let Some(started_at) = session.started_at.known() else { continue };
            write_end(tx, &session, &SessionEnd::abandoned(*session_id, "error", started_at))?;
        }
    }
    Ok(open)
}

fn open_sessions(tx: &Transaction<'_>) -> rusqlite::Result<Vec<SessionId>> {
    let mut open = tx.prepare("SELECT session_id FROM conversation_sessions WHERE status = 'active'")?;
    let open = open.query_map([], |row| column_or_null(row, 0, parse_id))?;
    open.filter_map(rusqlite::Result::transpose).collect()
}
