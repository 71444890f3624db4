//! The table `journal`: the records that wait for a remote store, and those that the store has confirmed, which stay for
//! the re-send window. The view `pending` has only those that wait.

mod pending;
mod removal;
mod sessions;

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, Transaction, params};
use talktrack_core::clock::Seq;
use talktrack_core::ids::MessageId;
use talktrack_core::record::Record;

use crate::local::database::{UuidText, text_or_null};

pub(crate) use pending::{
    WaitingCounts, count_pending, count_pending_messages, count_pending_of_message, count_pending_of_session,
    has_pending_without_owner, is_pending, is_user_deletion_pending, measure_pending_messages,
    read_newest_pending, read_oldest_pending, read_pending_counted, read_pending_last_event,
    read_pending_messages, read_pending_session_records, read_pending_sessions_named,
    read_pending_sessions_of_user, sum_pending_bytes, visit_pending, visit_rows,
};
pub(crate) use removal::{
    DroppedRecord, RemovedRecord, RemovedRow, delete, delete_confirmed, delete_confirmed_of_session,
    delete_of_message, delete_of_session, delete_range, drop_record,
};
pub(crate) use sessions::{
    has_record_of_others, has_record_or_letter, measure_session, read_message_ids, read_session,
    read_session_ids, read_session_ids_of_user, read_starts,
};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "journal (seq, message_id, revision, body, checksum, session_id, lane)";

const READ_ONE: &str = "SELECT seq, body, checksum FROM journal WHERE seq = ?1";

/// Inserts records. The statement is prepared once for a batch.
pub(crate) struct RecordInserter<'t>(CachedStatement<'t>);

impl<'t> RecordInserter<'t> {
    /// Prepares the statement, or takes it from the connection's cache.
    pub(crate) fn prepare(tx: &'t Transaction<'_>) -> rusqlite::Result<Self> {
        let sql = "INSERT INTO journal (seq, message_id, revision, body, checksum, session_id, lane) \
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
                   ON CONFLICT (message_id, revision) WHERE message_id IS NOT NULL DO NOTHING";
        tx.prepare_cached(sql).map(Self)
    }

    /// Inserts the record, which this lane of the writer delivers. Returns the bytes of its text, or `None` if the journal
    /// already has this revision of the message.
    pub(crate) fn insert(&mut self, record: &Record, lane: usize) -> rusqlite::Result<Option<u64>> {
        let body = to_body(record)?;
        let stamped = record.message();
        let id = stamped.map(|stamped| UuidText::new(stamped.id));
        let revision = stamped.map(|stamped| stamped.message.revision);
        let id = id.as_ref().map(UuidText::as_str);
        let session_id = (!record.is_deletion()).then(|| UuidText::new(record.session_id()));
        let session_id = session_id.as_ref().map(UuidText::as_str);
        let checksum = crc32fast::hash(body.as_bytes());
        let added = self.0.execute(params![record.seq, id, revision, body, checksum, session_id, lane])?;
        Ok((added > 0).then_some(body.len() as u64))
    }
}

/// Replaces the text of a record, and its checksum. The other columns stay.
pub(crate) fn rewrite(tx: &Transaction<'_>, seq: Seq, record: &Record) -> rusqlite::Result<()> {
    let body = to_body(record)?;
    let sql = "UPDATE journal SET body = ?2, checksum = ?3 WHERE seq = ?1";
    tx.prepare_cached(sql)?.execute(params![seq, body, crc32fast::hash(body.as_bytes())]).map(drop)
}

/// Assigns a lane to every row. Reads the whole journal. `lane_of` gets `None` for a record that cannot be read.
pub(crate) fn assign_lanes(
    tx: &Transaction<'_>,
    lane_of: impl Fn(Option<&Record>) -> usize,
) -> rusqlite::Result<()> {
    let mut all = tx.prepare("SELECT seq, body, checksum FROM journal")?;
    let mut assign = tx.prepare("UPDATE journal SET lane = ?2 WHERE seq = ?1")?;
    for row in all.query_map([], record_row)?.collect::<rusqlite::Result<Vec<_>>>()? {
        let (seq, record) = row;
        assign.execute(params![seq, lane_of(record.as_ref())])?;
    }
    Ok(())
}

/// Returns the record in this row, or `None` if its bytes differ from those that were written.
///
/// # Errors
/// [`rusqlite::Error::QueryReturnedNoRows`] if there is no such row.
pub(crate) fn read(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Record>> {
    let (_, record) = connection.prepare_cached(READ_ONE)?.query_row([seq], record_row)?;
    Ok(record)
}

/// Returns the record in this row, if there is one and it can be read.
pub(crate) fn find(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<Record>> {
    read(connection, seq).optional().map(Option::flatten)
}

/// Returns the record of this revision of a message, or `None` if its bytes differ from those that were written.
///
/// # Errors
/// [`rusqlite::Error::QueryReturnedNoRows`] if there is no such row.
pub(crate) fn read_revision(
    connection: &Connection,
    id: MessageId,
    revision: u32,
) -> rusqlite::Result<Option<Record>> {
    let sql = "SELECT seq, body, checksum FROM journal WHERE message_id = ?1 AND revision = ?2";
    let id = UuidText::new(id);
    let (_, record) =
        connection.prepare_cached(sql)?.query_row(params![id.as_str(), revision], record_row)?;
    Ok(record)
}

/// Returns the record of the lowest revision of a message, or `None` if its bytes differ from those that were written.
///
/// # Errors
/// [`rusqlite::Error::QueryReturnedNoRows`] if the journal has no record of the message.
pub(crate) fn read_first_revision(
    connection: &Connection,
    id: MessageId,
) -> rusqlite::Result<Option<Record>> {
    let sql = "SELECT seq, body, checksum FROM journal WHERE message_id = ?1 ORDER BY revision LIMIT 1";
    let (_, first) = connection.prepare_cached(sql)?.query_row([UuidText::new(id).as_str()], record_row)?;
    Ok(first)
}

/// Returns up to `limit` records in the order of their `seq`, confirmed ones included. A record is `None` if its bytes
/// differ from those that were written.
pub(crate) fn read_oldest(
    connection: &Connection,
    limit: usize,
) -> rusqlite::Result<Vec<(Seq, Option<Record>)>> {
    let mut statement =
        connection.prepare("SELECT seq, body, checksum FROM journal ORDER BY seq LIMIT ?1")?;
    statement.query_map([limit], record_row)?.collect()
}

/// A row whose body need not be a record.
pub(crate) struct RawRow {
    /// `None` if the record is no message.
    pub(crate) message_id: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// Returns the row as it is stored, without a look at its checksum.
pub(crate) fn find_raw(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<RawRow>> {
    let mut read = connection.prepare_cached("SELECT message_id, body FROM journal WHERE seq = ?1")?;
    let row = read.query_row([seq], |row| {
        Ok(RawRow { message_id: text_or_null(row, 0)?, body: row.get_ref(1)?.as_bytes()?.to_vec() })
    });
    row.optional()
}

/// Returns the text of the column `session_id` of a row, which is null for a deletion. `None` also if there is no such row.
pub(crate) fn find_session_id(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<String>> {
    let sql = "SELECT session_id FROM journal WHERE seq = ?1";
    let named =
        connection.prepare_cached(sql)?.query_row(params![seq], |row| row.get::<_, Option<String>>(0));
    Ok(named.optional()?.flatten())
}

/// Counts of consecutive rows of one lane.
#[derive(Default)]
pub(crate) struct RowCounts {
    pub(crate) rows: usize,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// Returns the counts of a lane's rows in a range.
pub(crate) fn count_range(
    connection: &Connection,
    lane: usize,
    first: Seq,
    last: Seq,
) -> rusqlite::Result<RowCounts> {
    let count = "SELECT count(*), count(message_id), coalesce(sum(octet_length(body)), 0) FROM journal \
                 WHERE seq BETWEEN ?1 AND ?2 AND lane = ?3";
    connection.prepare_cached(count)?.query_row(params![first, last, lane], |row| {
        Ok(RowCounts { rows: row.get(0)?, messages: row.get(1)?, bytes: row.get(2)? })
    })
}

/// Returns the counts of these rows, if all of them exist in the lane and no other row of the lane lies between the first
/// and the last. Stops at the first row that differs.
pub(crate) fn count_exactly(
    connection: &Connection,
    lane: usize,
    run: &[Seq],
) -> rusqlite::Result<Option<RowCounts>> {
    let select = "SELECT seq, message_id IS NOT NULL, octet_length(body) FROM journal \
                  WHERE seq BETWEEN ?1 AND ?2 AND lane = ?3 ORDER BY seq";
    let mut select = connection.prepare_cached(select)?;
    let mut rows = select.query(params![run.first(), run.last(), lane])?;
    let mut counts = RowCounts::default();
    while let Some(row) = rows.next()? {
        if run.get(counts.rows) != Some(&row.get(0)?) {
            return Ok(None);
        }
        counts.rows += 1;
        counts.messages += u64::from(row.get::<_, bool>(1)?);
        counts.bytes += row.get::<_, u64>(2)?;
    }
    Ok((counts.rows == run.len()).then_some(counts))
}

/// Returns the number of records, confirmed ones included.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0))
}

/// Returns the highest `seq` that is not above `limit`, or 0 if there is none.
pub(crate) fn newest_seq_up_to(connection: &Connection, limit: Seq) -> rusqlite::Result<Seq> {
    let sql = "SELECT coalesce(max(seq), 0) FROM journal WHERE seq <= ?1";
    connection.query_row(sql, [limit], |row| row.get(0))
}

/// Reads a row of the columns `seq`, `body` and `checksum`. The record is `None` if its bytes differ from those that were
/// written.
fn record_row(row: &Row<'_>) -> rusqlite::Result<(Seq, Option<Record>)> {
    let seq = row.get(0)?;
    // The checksum may be damaged too. An unreadable row must not hold up the rows behind it.
    let Ok(body) = row.get_ref(1)?.as_bytes() else { return Ok((seq, None)) };
    let intact = row.get::<_, u32>(2).is_ok_and(|checksum| checksum == crc32fast::hash(body));
    let record: Option<Record> = if intact { serde_json::from_slice(body).ok() } else { None };
    // The row's own number may be damaged: the store's answer would then be for a row that does not exist.
    Ok((seq, record.filter(|record| record.seq == seq)))
}

fn to_body(record: &Record) -> rusqlite::Result<String> {
    serde_json::to_string(record).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}
