//! The table `conversation_sessions`: one row a session.

pub(crate) mod read;
pub(crate) mod list;
pub(crate) mod counted;
pub(crate) mod checks;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::record::{Reopened, SessionEnd, SessionStart, StartTime};
use talktrack_core::stored::Stored;
use uuid::Uuid;

use crate::local::database::users::read_user;
use crate::local::database::{UuidText, column, column_or_null, parse_id, parse_time, text_or_null};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "conversation_sessions (rowid, id, session_id, user_id, started_at, ended_at, \
     duration_seconds, metadata, created_at, external_id, status, end_reason, message_count, last_event_at, end_inferred, \
     last_node, last_seq, extra, agent, agent_version, channel, environment, parent_session_id, tags, \
     user_external_id)";

/// Writes the row of a new session. `has_start` is false if no start was seen, and the session is only known
/// from another record.
pub(crate) fn insert_session(
    tx: &Transaction<'_>,
    seq: Seq,
    start: &SessionStart,
    has_start: bool,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO conversation_sessions (id, session_id, user_id, started_at, created_at, last_event_at, external_id, \
               metadata, last_node, last_seq, extra, user_external_id) VALUES (?1, ?2, ?3, ?4, ?5, ?4, ?6, ?7, \
               CASE WHEN ?8 THEN (SELECT node FROM directory) END, CASE WHEN ?8 THEN ?9 END, ?10, ?11)";
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(Uuid::new_v5(&start.session_id.as_uuid(), b"row")).as_str(),
        UuidText::new(start.session_id).as_str(),
        UuidText::new(start.user_id.as_uuid()).as_str(),
        start.started_at.to_string(),
        seq.accepted_at().unwrap_or(start.started_at).to_string(),
        start.external_id,
        start.metadata.as_ref().map_or("{}", JsonObject::as_str),
        has_start,
        seq,
        start.start_time().noted_in(None).as_ref().map(JsonObject::as_str),
        start.user_id.text(),
    ])?;
    if start.dimensions.is_empty() {
        Ok(())
    } else {
        write_dimensions(tx, start.session_id, &start.dimensions)
    }
}

/// Returns the user of the session, or `None` if the session is not stored. Columns that name no possible user read as the
/// nil UUID, which no caller can have.
pub(crate) fn read_owner(connection: &Connection, session_id: SessionId) -> rusqlite::Result<Option<UserId>> {
    let sql = "SELECT user_id, user_external_id FROM conversation_sessions WHERE session_id = ?1";
    let owner = connection
        .prepare_cached(sql)?
        .query_row([UuidText::new(session_id).as_str()], |row| read_user(row, 0, 1));
    Ok(owner.optional()?.map(|user| user.unwrap_or(UserId::nil())))
}

/// The last record that was applied to a session's row, and the node of this file.
pub(crate) struct LastApplied {
    /// The node that accepted the record, and its `seq`. `None` if the row names no record.
    pub(crate) record: Option<(Uuid, Seq)>,
    pub(crate) this_node: Uuid,
}

/// Returns the last record that was applied to the row, or `None` if the session is not stored.
pub(crate) fn read_last_applied(
    tx: &Transaction<'_>,
    session_id: SessionId,
) -> rusqlite::Result<Option<LastApplied>> {
    let sql = "SELECT last_node, last_seq, (SELECT node FROM directory) FROM conversation_sessions WHERE session_id = ?1";
    let last = tx.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| {
        let record = column_or_null(row, 0, parse_id)?.zip(row.get(1).ok().flatten());
        Ok(LastApplied { record, this_node: column(row, 2, parse_id)? })
    });
    last.optional()
}

/// Makes a record of this node the last that was applied to the row.
pub(crate) fn set_last_applied(
    tx: &Transaction<'_>,
    session_id: SessionId,
    seq: Seq,
) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET last_node = (SELECT node FROM directory), last_seq = ?2 WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), seq]).map(drop)
}

/// Applies a further start to the row. The last event only moves forward, and only if the start may reopen the session. An
/// existing external id stays.
pub(crate) fn apply_start(tx: &Transaction<'_>, start: &SessionStart) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET last_event_at = nullif(max(coalesce(last_event_at, ''), ?2), ''), \
               external_id = coalesce(external_id, ?3) WHERE session_id = ?1";
    let id = UuidText::new(start.session_id);
    let happened_at = if start.reopens { start.started_at.to_string() } else { String::new() };
    let params = params![id.as_str(), happened_at, start.external_id];
    tx.prepare_cached(sql)?.execute(params).map(drop)
}

/// Replaces the metadata.
pub(crate) fn write_metadata(
    tx: &Transaction<'_>,
    session_id: SessionId,
    metadata: &JsonObject,
) -> rusqlite::Result<()> {
    tx.prepare_cached("UPDATE conversation_sessions SET metadata = ?2 WHERE session_id = ?1")?
        .execute(params![UuidText::new(session_id).as_str(), metadata.as_str()])?;
    Ok(())
}

/// Replaces the dimensions.
pub(crate) fn write_dimensions(
    tx: &Transaction<'_>,
    session_id: SessionId,
    dimensions: &Dimensions,
) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET agent = ?2, agent_version = ?3, channel = ?4, environment = ?5, \
               parent_session_id = ?6, tags = ?7 WHERE session_id = ?1";
    let parent = dimensions.parent_session_id.map(UuidText::new);
    let tags = dimensions.tags.as_ref().and_then(|tags| match tags {
        Stored::Known(tags) => Some(serde_json::Value::from(tags.as_slice()).to_string()),
        Stored::Json(text) | Stored::Text(text) => Some(text.to_string()),
        Stored::Null => None,
    });
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(session_id).as_str(),
        dimensions.agent,
        dimensions.agent_version,
        dimensions.channel,
        dimensions.environment,
        parent.as_ref().map(UuidText::as_str),
        tags,
    ])?;
    Ok(())
}

/// Adds the messages of a batch to the session's figures. `added` is negative if more messages ceased to be final than came. The last event only moves forward. Returns true if the first of the
/// messages was said before the session started.
pub(crate) fn add_messages(
    tx: &Transaction<'_>,
    session_id: SessionId,
    added: i64,
    last_event_at: Option<Timestamp>,
    first_said_at: Option<Timestamp>,
) -> rusqlite::Result<bool> {
    let sql = "UPDATE conversation_sessions SET message_count = max(message_count + ?2, 0), \
               last_event_at = nullif(max(coalesce(last_event_at, ''), coalesce(?3, '')), '') WHERE session_id = ?1 \
               RETURNING coalesce(?4 < started_at, 0)";
    let [last_event_at, first_said_at] =
        [last_event_at, first_said_at].map(|time| time.map(|time| time.to_string()));
    let id = UuidText::new(session_id);
    let params = params![id.as_str(), added, last_event_at, first_said_at];
    let is_earlier = tx.prepare_cached(sql)?.query_row(params, |row| row.get(0)).optional()?;
    Ok(is_earlier.unwrap_or_default())
}

/// Subtracts removed messages from the session's count.
pub(crate) fn remove_messages(
    tx: &Transaction<'_>,
    session_id: SessionId,
    removed: usize,
) -> rusqlite::Result<()> {
    let sql =
        "UPDATE conversation_sessions SET message_count = max(message_count - ?2, 0) WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), removed]).map(drop)
}

/// Returns when the session started, and `extra` of its row. `None` if the session is not stored, or if its start is not a valid
/// time.
pub(crate) fn read_start(
    tx: &Transaction<'_>,
    session_id: SessionId,
) -> rusqlite::Result<Option<(StartTime, Option<JsonObject>)>> {
    let sql = "SELECT started_at, extra FROM conversation_sessions WHERE session_id = ?1";
    let found = tx.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| {
        let extra = text_or_null(row, 1)?.and_then(|text| JsonObject::parse(&text).ok());
        let started_at = column_or_null(row, 0, parse_time)?;
        Ok(started_at.map(|at| (StartTime::stored(at, extra.as_ref()), extra)))
    });
    Ok(found.optional()?.flatten())
}

/// Moves the start of a session. A session that has ended gets the duration that follows.
pub(crate) fn write_start(
    tx: &Transaction<'_>,
    session_id: SessionId,
    start: StartTime,
    extra: Option<JsonObject>,
    duration_seconds: Option<f64>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET started_at = ?2, extra = ?3, \
               duration_seconds = coalesce(?4, duration_seconds) WHERE session_id = ?1";
    let extra = start.noted_in(extra);
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(session_id).as_str(),
        start.at().to_string(),
        extra.as_ref().map(JsonObject::as_str),
        duration_seconds,
    ])?;
    Ok(())
}

/// Writes all columns of the end, as of `ended_at`.
pub(crate) fn write_end(
    tx: &Transaction<'_>,
    end: &SessionEnd,
    ended_at: Timestamp,
    duration_seconds: f64,
) -> rusqlite::Result<()> {
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
    Ok(())
}

/// Removes all columns of the end.
pub(crate) fn remove_end(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_sessions SET status = 'active', ended_at = NULL, duration_seconds = NULL, end_reason = NULL, \
               end_inferred = 0 WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// True if no client sent the end: it was inferred, or the session was abandoned. False if the session is not stored or
/// the row cannot be read.
pub(crate) fn is_end_inferred(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT end_inferred OR status = 'abandoned' FROM conversation_sessions WHERE session_id = ?1";
    let inferred = tx.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| row.get(0));
    Ok(inferred.unwrap_or_default())
}

/// Returns the session if its end was inferred and lies before this moment. `None` also if the row's user or start
/// is invalid.
pub(crate) fn read_inferred_end_before(
    tx: &Transaction<'_>,
    session_id: SessionId,
    before: Timestamp,
) -> rusqlite::Result<Option<Reopened>> {
    let sql = "SELECT user_id, user_external_id, started_at FROM conversation_sessions \
               WHERE session_id = ?1 AND end_inferred AND ended_at < ?2";
    let id = UuidText::new(session_id);
    let before = before.to_string();
    let found = tx.prepare_cached(sql)?.query_row(params![id.as_str(), before], |row| {
        let known = read_user(row, 0, 1)?.zip(column_or_null(row, 2, parse_time)?);
        Ok(known.map(|(user_id, started_at)| Reopened { session_id, user_id, started_at }))
    });
    Ok(found.optional()?.flatten())
}

/// True if the session is stored and has ended.
pub(crate) fn has_ended(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM conversation_sessions WHERE session_id = ?1 AND ended_at IS NOT NULL";
    tx.prepare_cached(sql)?.exists([UuidText::new(session_id).as_str()])
}

/// Removes the row. Returns the number of removed rows, 0 or 1.
pub(crate) fn delete_session(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM conversation_sessions WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(|rows| rows as u64)
}
