//! What the journal holds of a session or a user, confirmed records included.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::Record;

use crate::local::database::users::UserText;
use crate::local::database::{UuidText, column_or_null, parse_id};
use crate::local::tables::distinct_sessions::read_distinct_sessions;
use crate::local::tables::journal::pending::WaitingCounts;
use crate::local::tables::journal::record_row;
use crate::local::tables::owner::{is_by_user, of_session, owner, read_records_of};

/// Returns the sessions that have records in the journal, in the order of their ids.
pub(crate) fn read_session_ids(connection: &Connection) -> rusqlite::Result<Vec<SessionId>> {
    read_distinct_sessions(connection, "journal")
}

/// Returns the sessions with records that were accepted for this user. Reads the whole journal.
pub(crate) fn read_session_ids_of_user(
    connection: &Connection,
    user_id: &UserId,
) -> rusqlite::Result<BTreeSet<SessionId>> {
    let sql = "SELECT seq, body FROM journal WHERE session_id IS NOT NULL AND instr(body, ?1)";
    let found = read_records_of(connection, sql, user_id)?;
    Ok(found.into_iter().map(|(_, record)| record.session_id()).collect())
}

/// Returns the readable records of a session that are no messages (starts, updates, ends), in order.
pub(crate) fn read_starts(connection: &Connection, session_id: SessionId) -> rusqlite::Result<Vec<Record>> {
    let sql =
        "SELECT seq, body, checksum FROM journal WHERE session_id = ?1 AND message_id IS NULL ORDER BY seq";
    read_records_of_session(connection, session_id, sql)
}

/// Returns the readable records of a session, in order.
pub(crate) fn read_session(connection: &Connection, session_id: SessionId) -> rusqlite::Result<Vec<Record>> {
    let sql = "SELECT seq, body, checksum FROM journal WHERE session_id = ?1 ORDER BY seq";
    read_records_of_session(connection, session_id, sql)
}

/// Returns the number of records of a session, and their bytes.
pub(crate) fn measure_session(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<WaitingCounts> {
    let sql = "SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM journal WHERE session_id = ?1";
    let id = UuidText::new(session_id);
    connection
        .prepare_cached(sql)?
        .query_row([id.as_str()], |row| Ok(WaitingCounts { records: row.get(0)?, bytes: row.get(1)? }))
}

/// True if the journal or the dead letters hold a record of the session. Deletions name no session in their row. One
/// statement asks for both, because a record can move from either to the other.
pub(crate) fn has_record_or_letter(connection: &Connection, session_id: SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM journal WHERE session_id = ?1) \
               OR EXISTS (SELECT 1 FROM dead_letters WHERE session_id = ?1)";
    connection.query_row(sql, [UuidText::new(session_id).as_str()], |row| row.get(0))
}

/// Returns the ids of the session's messages in the journal: those that were accepted for one user, or all. With `by_user`,
/// only those that a user wrote with a token.
pub(crate) fn read_message_ids(
    connection: &Connection,
    session_id: SessionId,
    owner: Option<&UserId>,
    by_user: bool,
) -> rusqlite::Result<Vec<MessageId>> {
    let sql = concat!(
        "SELECT DISTINCT message_id FROM journal WHERE message_id IS NOT NULL AND ",
        of_session!(),
        " AND (NOT ?3 OR ",
        is_by_user!(),
        ")"
    );
    let id = UuidText::new(session_id);
    let owner = owner.map(UserText::new);
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement
        .query_map(params![id.as_str(), owner.as_ref().map(UserText::as_str), by_user], |row| {
            column_or_null(row, 0, parse_id)
        })?;
    ids.filter_map(Result::transpose).collect()
}

/// True if the journal has a record of this message that was accepted for another user than `owner`, or, with `by_user`,
/// that no user wrote with a token.
pub(crate) fn has_record_of_others(
    connection: &Connection,
    session_id: SessionId,
    message_id: MessageId,
    owner: Option<&UserId>,
    by_user: bool,
) -> rusqlite::Result<bool> {
    let sql = concat!(
        "SELECT EXISTS (SELECT 1 FROM journal WHERE session_id = ?1 AND message_id = ?4 AND NOT (",
        of_session!(),
        " AND (NOT ?3 OR ",
        is_by_user!(),
        ")))"
    );
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    let owner = owner.map(UserText::new);
    let scope = params![session.as_str(), owner.as_ref().map(UserText::as_str), by_user, message.as_str()];
    connection.prepare_cached(sql)?.query_row(scope, |row| row.get(0))
}

/// Returns the readable records that `sql` selects for a session `?1`.
pub(super) fn read_records_of_session(
    connection: &Connection,
    session_id: SessionId,
    sql: &str,
) -> rusqlite::Result<Vec<Record>> {
    let id = UuidText::new(session_id);
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([id.as_str()], record_row)?;
    rows.filter_map(|row| row.map(|(_, record)| record).transpose()).collect()
}
