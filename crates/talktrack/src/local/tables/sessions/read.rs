//! Reads rows of sessions by their keys.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::store::SessionRow;

use crate::local::database::stored_columns::{
    has_id, read_json_or_null, read_time, read_time_or_null, read_word,
};
use crate::local::database::users::read_user;
use crate::local::database::{UuidText, column, column_or_null, parse_id, parse_time, text_or_null};

/// The columns of [`SessionRow`], for [`session_row`].
pub(super) const SESSION_COLUMNS: &str = "session_id, user_id, external_id, status, end_reason, started_at, ended_at, duration_seconds, \
     last_event_at, message_count, metadata, agent, agent_version, channel, environment, parent_session_id, tags, user_external_id";

/// A condition: the session can be addressed.
pub(super) const HAS_ID: &str = has_id!("session_id");

/// Returns one session by its id.
pub(crate) fn read_session(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Option<SessionRow>> {
    let sql = format!("SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE session_id = ?1");
    connection.prepare_cached(&sql)?.query_row([UuidText::new(session_id).as_str()], session_row).optional()
}

/// Returns the sessions with these ids that exist, in the order of `ids`.
pub(crate) fn read_by_ids(connection: &Connection, ids: &[SessionId]) -> rusqlite::Result<Vec<SessionRow>> {
    ids.iter().filter_map(|id| read_session(connection, *id).transpose()).collect()
}

/// Returns the newest session of this user with this external id. Reads the index of the user's sessions.
pub(crate) fn read_by_external_id(
    connection: &Connection,
    user_id: &UserId,
    external_id: &str,
) -> rusqlite::Result<Option<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE user_id = ?1 AND user_external_id IS ?3 AND external_id = ?2 AND {HAS_ID} \
         ORDER BY started_at DESC, session_id DESC LIMIT 1"
    );
    let uuid = UuidText::new(user_id.as_uuid());
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row(params![uuid.as_str(), external_id, user_id.text()], session_row).optional()
}

/// Returns up to `limit` sessions whose id begins with this prefix, in the order of their ids. `viewer` is the only
/// user whose sessions are returned; `None` means no restriction.
pub(crate) fn read_by_prefix(
    connection: &Connection,
    prefix: &str,
    viewer: Option<&UserId>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE session_id >= ?1 AND session_id < ?1 || 'g' \
         AND {HAS_ID} AND (?3 IS NULL OR user_id = ?3 AND user_external_id IS ?4) ORDER BY session_id LIMIT ?2"
    );
    let uuid = viewer.map(|viewer| UuidText::new(viewer.as_uuid()));
    let params = params![prefix, limit, uuid.as_ref().map(UuidText::as_str), viewer.and_then(UserId::text)];
    connection.prepare_cached(&sql)?.query_map(params, session_row)?.collect()
}

/// Returns the start of a session. `None` if the session is not stored or the start is not a valid time.
pub(crate) fn read_started_at(
    tx: &Transaction<'_>,
    session_id: SessionId,
) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT started_at FROM conversation_sessions WHERE session_id = ?1";
    let start = tx
        .prepare_cached(sql)?
        .query_row([UuidText::new(session_id).as_str()], |row| column_or_null(row, 0, parse_time));
    Ok(start.optional()?.flatten())
}

/// Returns the ids of all active sessions, from an index alone. Leaves out ids that are not UUIDs.
pub(crate) fn read_active(tx: &Transaction<'_>) -> rusqlite::Result<Vec<SessionId>> {
    let mut open = tx.prepare("SELECT session_id FROM conversation_sessions WHERE status = 'active'")?;
    let open = open.query_map([], |row| column_or_null(row, 0, parse_id))?;
    open.filter_map(rusqlite::Result::transpose).collect()
}

/// Returns the number of sessions. Reads a whole index.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM conversation_sessions", [], |row| row.get(0))
}

/// Reads a row of which only the id must be readable ([`HAS_ID`] selects those). Every other value is
/// returned unchanged.
pub(super) fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        session_id: column(row, 0, parse_id)?,
        user_id: read_user(row, 1, 17)?,
        external_id: text_or_null(row, 2)?,
        status: read_word(row, 3, |word| word.parse().ok())?,
        end_reason: text_or_null(row, 4)?,
        started_at: read_time(row, 5)?,
        ended_at: read_time_or_null(row, 6)?,
        duration_seconds: row.get(7).ok().flatten(),
        last_event_at: read_time_or_null(row, 8)?,
        message_count: row.get(9).unwrap_or_default(),
        metadata: read_json_or_null(row, 10)?,
        dimensions: read_dimensions(row, 11)?,
    })
}

/// Reads the dimensions, of which the first is in this column.
fn read_dimensions(row: &Row<'_>, first: usize) -> rusqlite::Result<Dimensions> {
    let mut dimensions = Dimensions::new()
        .with_agent(text_or_null(row, first)?)
        .with_agent_version(text_or_null(row, first + 1)?)
        .with_channel(text_or_null(row, first + 2)?)
        .with_environment(text_or_null(row, first + 3)?)
        .with_parent_session_id(column_or_null(row, first + 4, parse_id)?);
    dimensions.tags = read_json_or_null(row, first + 5)?;
    Ok(dimensions)
}
