//! Removes rows from the journal: those that are settled, those that have been kept long enough, and those that a
//! deletion concerns.

use rusqlite::{Connection, OptionalExtension as _, Params, Transaction, params};
use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId, UserId};

use crate::local::database::users::{UserText, parse_user};
use crate::local::database::{UuidText, column_or_null, parse_id};
use crate::local::tables::owner::{of_session, owner};

/// A record that was removed. `message_id` is `None` if it was no message.
pub(crate) struct RemovedRecord {
    pub(crate) seq: Seq,
    pub(crate) message_id: Option<MessageId>,
}

/// The size of a row that was removed.
pub(crate) struct RemovedRow {
    pub(crate) is_message: bool,
    pub(crate) bytes: u64,
}

/// A record that the store refused because it or its user was deleted. The ids are the text of the row, which may be
/// damaged.
pub(crate) struct DroppedRecord {
    pub(crate) seq: Seq,
    pub(crate) message_id: Option<String>,
    pub(crate) session_id: Option<String>,
    /// The user for whom the record was accepted, if it names one.
    pub(crate) owner: Option<UserId>,
    pub(crate) bytes: u64,
}

/// Removes one row. Returns its size, or `None` if there was no such row.
pub(crate) fn delete(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<Option<RemovedRow>> {
    let sql = "DELETE FROM journal WHERE seq = ?1 RETURNING message_id IS NOT NULL, octet_length(body)";
    let removed = tx
        .prepare_cached(sql)?
        .query_row([seq], |row| Ok(RemovedRow { is_message: row.get(0)?, bytes: row.get(1)? }));
    removed.optional()
}

/// Removes one row. Returns its ids and its user, or `None` if there was no such row.
pub(crate) fn drop_record(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<Option<DroppedRecord>> {
    let sql = concat!(
        "DELETE FROM journal WHERE seq = ?1 RETURNING seq, message_id, session_id, octet_length(body), ",
        owner!()
    );
    let dropped = tx.prepare_cached(sql)?.query_row([seq], |row| {
        Ok(DroppedRecord {
            seq: row.get(0)?,
            message_id: row.get(1)?,
            session_id: row.get(2)?,
            bytes: row.get(3)?,
            owner: column_or_null(row, 4, parse_user)?,
        })
    });
    dropped.optional()
}

/// Removes a lane's rows in a range. Returns their number.
pub(crate) fn delete_range(
    tx: &Transaction<'_>,
    lane: i64,
    first: Seq,
    last: Seq,
) -> rusqlite::Result<usize> {
    let mut records = tx.prepare_cached("DELETE FROM journal WHERE seq BETWEEN ?1 AND ?2 AND lane = ?3")?;
    records.execute(params![first, last, lane])
}

/// Removes the records of a session, pending or confirmed: those that were accepted for one user, or all. Deletions stay,
/// because their rows name no session.
pub(crate) fn delete_of_session(
    tx: &Transaction<'_>,
    session_id: SessionId,
    owner: Option<&UserId>,
) -> rusqlite::Result<Vec<RemovedRecord>> {
    let delete = concat!("DELETE FROM journal WHERE ", of_session!(), " RETURNING seq, message_id");
    let id = UuidText::new(session_id);
    let owner = owner.map(UserText::new);
    delete_returning(tx, delete, params![id.as_str(), owner.as_ref().map(UserText::as_str)])
}

/// Removes all revisions of a message, pending or confirmed.
pub(crate) fn delete_of_message(
    tx: &Transaction<'_>,
    session_id: SessionId,
    message_id: MessageId,
) -> rusqlite::Result<Vec<RemovedRecord>> {
    let delete = "DELETE FROM journal WHERE session_id = ?1 AND message_id = ?2 RETURNING seq, message_id";
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    delete_returning(tx, delete, [session.as_str(), message.as_str()])
}

/// Removes the confirmed records of a session before a `seq`.
pub(crate) fn delete_confirmed_of_session(
    tx: &Transaction<'_>,
    session_id: SessionId,
    before: Seq,
) -> rusqlite::Result<Vec<RemovedRecord>> {
    let sql = "DELETE FROM journal WHERE session_id = ?1 AND seq < ?2 \
               AND seq NOT IN (SELECT seq FROM pending WHERE session_id = ?1) RETURNING seq, message_id";
    let id = UuidText::new(session_id);
    delete_returning(tx, sql, params![id.as_str(), before])
}

/// Removes all confirmed records. Reads the whole journal.
pub(crate) fn delete_confirmed(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM journal WHERE seq NOT IN (SELECT seq FROM pending)", []).map(drop)
}

fn delete_returning(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<Vec<RemovedRecord>> {
    let mut delete = connection.prepare_cached(sql)?;
    let removed = delete.query_map(params, |row| {
        Ok(RemovedRecord { seq: row.get(0)?, message_id: column_or_null(row, 1, parse_id)? })
    })?;
    removed.collect()
}
