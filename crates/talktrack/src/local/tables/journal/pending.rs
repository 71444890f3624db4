//! The view `pending`: the records that wait for the store.

use std::collections::HashMap;
use std::ops::ControlFlow;

use rusqlite::{Connection, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::Record;
use talktrack_core::store::CountedMessage;

use crate::local::database::users::UserText;
use crate::local::database::{UuidText, column_or_null, parse_id, parse_time};
use crate::local::tables::journal::record_row;
use crate::local::tables::journal::sessions::read_records_of_session;
use crate::local::tables::owner::{of_session, owner};

/// `EXISTS` stops at the first match: a session has many rows, and SQLite parses the JSON of each.
const UNOWNED: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM pending WHERE session_id = ?1 AND json_valid(body) AND ",
    owner!(),
    " IS NULL)"
);

/// Uses the index on the owners of records that are no messages.
const OF_OWNER: &str =
    concat!("SELECT DISTINCT session_id FROM pending WHERE message_id IS NULL AND ", owner!(), " = ?1");

/// Uses the index on the external ids of starts.
const NAMED: &str = "SELECT DISTINCT session_id FROM pending WHERE message_id IS NULL \
     AND CASE WHEN json_valid(body) THEN body ->> '$.body.start.external_id' END = ?1";

/// The number of records that wait for the store, and the bytes of their text.
pub(crate) struct WaitingCounts {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

/// Calls `visit` with up to `limit` pending records after a `seq`, in order, until it breaks. A record is `None` if its
/// bytes differ from those that were written. Only one record is in memory at a time.
pub(crate) fn visit_pending(
    connection: &Connection,
    after: Seq,
    limit: usize,
    mut visit: impl FnMut(Seq, Option<Record>) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT seq, body, checksum FROM pending WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    for row in statement.query_map(params![after, limit], record_row)? {
        let (seq, record) = row?;
        if visit(seq, record).is_break() {
            break;
        }
    }
    Ok(())
}

/// Calls `visit` with up to `limit` rows of the journal after a `seq`, in order, until it breaks. The second argument is
/// true if the row is pending.
pub(crate) fn visit_rows(
    connection: &Connection,
    after: Seq,
    limit: usize,
    mut visit: impl FnMut(Seq, bool) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT seq, EXISTS (SELECT 1 FROM pending WHERE pending.seq = journal.seq) FROM journal \
               WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, limit])?;
    while let Some(row) = rows.next()? {
        if visit(row.get(0)?, row.get(1)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Returns the `seq` of up to `limit` pending records of a session up to a `seq`, oldest first.
pub(crate) fn read_oldest_pending(
    connection: &Connection,
    session_id: SessionId,
    up_to: Seq,
    limit: usize,
) -> rusqlite::Result<Vec<Seq>> {
    let sql = "SELECT seq FROM pending WHERE session_id = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3";
    let id = UuidText::new(session_id);
    let mut oldest = connection.prepare_cached(sql)?;
    oldest.query_map(params![id.as_str(), up_to, limit], |row| row.get(0))?.collect()
}

/// Returns the newest pending record of a session up to a `seq`. The record is `None` if its bytes differ from those that
/// were written.
///
/// # Errors
/// [`rusqlite::Error::QueryReturnedNoRows`] if there is no such record.
pub(crate) fn read_newest_pending(
    connection: &Connection,
    session_id: SessionId,
    up_to: Seq,
) -> rusqlite::Result<(Seq, Option<Record>)> {
    let sql = "SELECT seq, body, checksum FROM pending WHERE session_id = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1";
    let id = UuidText::new(session_id);
    connection.prepare_cached(sql)?.query_row(params![id.as_str(), up_to], record_row)
}

/// Returns the readable pending records of a session that are no messages (starts, updates, ends), in order.
pub(crate) fn read_pending_session_records(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Vec<Record>> {
    let sql =
        "SELECT seq, body, checksum FROM pending WHERE session_id = ?1 AND message_id IS NULL ORDER BY seq";
    read_records_of_session(connection, session_id, sql)
}

/// Returns the readable pending messages of a session, in order.
pub(crate) fn read_pending_messages(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<Vec<Record>> {
    let sql = "SELECT seq, body, checksum FROM pending WHERE session_id = ?1 AND message_id IS NOT NULL ORDER BY seq";
    read_records_of_session(connection, session_id, sql)
}

/// Returns the number of a session's pending messages, each revision counted, and their bytes.
pub(crate) fn measure_pending_messages(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<WaitingCounts> {
    let count = "SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM pending \
                 WHERE session_id = ?1 AND message_id IS NOT NULL";
    let id = UuidText::new(session_id);
    connection
        .prepare_cached(count)?
        .query_row([id.as_str()], |row| Ok(WaitingCounts { records: row.get(0)?, bytes: row.get(1)? }))
}

/// Returns the latest revision of each of a session's pending messages that were accepted for this user or name no user.
pub(crate) fn read_pending_counted(
    connection: &Connection,
    session_id: SessionId,
    user_id: &UserId,
) -> rusqlite::Result<Vec<CountedMessage>> {
    let sql = "SELECT message_id, revision, coalesce(body ->> '$.body.message.message.status', 'final') = 'final' FROM pending \
               WHERE session_id = ?1 AND message_id IS NOT NULL \
               AND CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', ?2) END = ?2 ORDER BY revision";
    let id = UuidText::new(session_id);
    let user = UserText::new(user_id);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_str(), user.as_str()])?;
    let mut latest = HashMap::new();
    while let Some(row) = rows.next()? {
        if let Some(id) = column_or_null(row, 0, parse_id::<MessageId>)? {
            latest.insert(id, CountedMessage { id, revision: row.get(1)?, is_final: row.get(2)? });
        }
    }
    Ok(latest.into_values().collect())
}

/// Returns the time of the last event among a session's pending messages that were accepted for this user or name no user.
/// `None` if no message waits.
pub(crate) fn read_pending_last_event(
    connection: &Connection,
    session_id: SessionId,
    user_id: &UserId,
) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT seq, body ->> '$.body.message.created_at' FROM pending \
               WHERE session_id = ?1 AND message_id IS NOT NULL AND json_valid(body) \
               AND coalesce(body ->> '$.body.message.owner', ?2) = ?2";
    let id = UuidText::new(session_id);
    let user = UserText::new(user_id);
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id.as_str(), user.as_str()])?;
    let mut last = None;
    while let Some(row) = rows.next()? {
        let accepted = row.get::<_, Seq>(0)?.accepted_at();
        let said_at = column_or_null(row, 1, parse_time)?;
        last = last.max(said_at.map(|at| accepted.map_or(at, |accepted| accepted.min(at))));
    }
    Ok(last)
}

/// Returns the sessions of pending records, except messages, that were accepted for this user.
pub(crate) fn read_pending_sessions_of_user(
    connection: &Connection,
    user_id: &UserId,
) -> rusqlite::Result<Vec<SessionId>> {
    read_sessions(connection, OF_OWNER, UserText::new(user_id).as_str())
}

/// Returns the sessions of pending starts with this external id.
pub(crate) fn read_pending_sessions_named(
    connection: &Connection,
    external_id: &str,
) -> rusqlite::Result<Vec<SessionId>> {
    read_sessions(connection, NAMED, external_id)
}

fn read_sessions(connection: &Connection, sql: &str, param: &str) -> rusqlite::Result<Vec<SessionId>> {
    let mut statement = connection.prepare_cached(sql)?;
    let ids = statement.query_map([param], |row| column_or_null(row, 0, parse_id))?;
    ids.filter_map(Result::transpose).collect()
}

/// Returns the number of a session's pending messages, each revision counted, and the bytes of all of its pending records:
/// those that were accepted for one user, or all.
pub(crate) fn count_pending_of_session(
    connection: &Connection,
    session_id: SessionId,
    owner: Option<&UserId>,
) -> rusqlite::Result<WaitingCounts> {
    let waiting = concat!(
        "SELECT count(message_id), coalesce(sum(octet_length(body)), 0) FROM pending WHERE ",
        of_session!()
    );
    let id = UuidText::new(session_id);
    let owner = owner.map(UserText::new);
    let scope = params![id.as_str(), owner.as_ref().map(UserText::as_str)];
    connection
        .prepare_cached(waiting)?
        .query_row(scope, |row| Ok(WaitingCounts { records: row.get(0)?, bytes: row.get(1)? }))
}

/// Returns the number of pending revisions of a message, and their bytes.
pub(crate) fn count_pending_of_message(
    connection: &Connection,
    session_id: SessionId,
    message_id: MessageId,
) -> rusqlite::Result<WaitingCounts> {
    let waiting = "SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM pending WHERE session_id = ?1 AND message_id = ?2";
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    connection.prepare_cached(waiting)?.query_row([session.as_str(), message.as_str()], |row| {
        Ok(WaitingCounts { records: row.get(0)?, bytes: row.get(1)? })
    })
}

/// True if the record with this `seq`, or another record of the message with this id, is pending.
pub(crate) fn is_pending(connection: &Connection, seq: Seq, id: Option<MessageId>) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pending WHERE seq = ?1 OR message_id = ?2)";
    let id = id.map(UuidText::new);
    let id = id.as_ref().map(UuidText::as_str);
    connection.prepare_cached(sql)?.query_row(params![seq, id], |row| row.get(0))
}

/// True if a pending record of this session names no user. Uses the index of sessions.
pub(crate) fn has_pending_without_owner(
    connection: &Connection,
    session_id: SessionId,
) -> rusqlite::Result<bool> {
    let id = UuidText::new(session_id);
    connection.prepare_cached(UNOWNED)?.query_row([id.as_str()], |row| row.get(0))
}

/// True if the deletion of this user is pending.
pub(crate) fn is_user_deletion_pending(connection: &Connection, user_id: &UserId) -> rusqlite::Result<bool> {
    // Only deletions of users have no session in the column.
    let sql = "SELECT EXISTS (SELECT 1 FROM pending WHERE session_id IS NULL AND message_id IS NULL \
               AND json_valid(body) AND body ->> '$.body.delete_user.user_id' = ?1)";
    connection.query_row(sql, [UserText::new(user_id).as_str()], |row| row.get(0))
}

/// Returns the number of all pending records. Reads the whole journal.
pub(crate) fn count_pending(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM pending", [], |row| row.get(0))
}

/// Returns the number of all pending messages, each revision counted. Reads the whole journal.
pub(crate) fn count_pending_messages(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM pending WHERE message_id IS NOT NULL";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Returns the bytes of the text of all pending records. Reads the whole journal.
pub(crate) fn sum_pending_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(octet_length(body)), 0) FROM pending";
    connection.query_row(sql, [], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::database;

    #[test]
    fn what_names_no_user_is_found_by_the_index_of_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::create_draft(&dir.path().join("file")).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {UNOWNED}")).unwrap();
        let steps = plan.query_map([SESSION], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.collect::<rusqlite::Result<_>>().unwrap();
        let searches = |step: &String| step == "SEARCH journal USING INDEX journal_of_session (session_id=?)";
        assert!(steps.iter().any(searches), "{steps:?}");
        assert!(steps.iter().all(|step| !step.contains("SCAN") || step == "SCAN CONSTANT ROW"), "{steps:?}");
    }

    #[test]
    fn sessions_of_a_user_or_with_an_external_id_are_found_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::create_draft(&dir.path().join("file")).unwrap();
        for (sql, index) in [(OF_OWNER, "journal_records_of_owner"), (NAMED, "journal_starts_of_external_id")]
        {
            let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map([SESSION], |row| row.get::<_, String>(3)).unwrap();
            let steps: Vec<_> = steps.collect::<rusqlite::Result<_>>().unwrap();
            assert!(steps.iter().any(|step| step.contains(index)), "{steps:?}");
        }
    }

    const SESSION: &str = "00000000-0000-4000-8000-000000000001";
}
