//! The table `resend_window`: which rows of the journal the store has confirmed, with one row for each range that one
//! delivery of a lane stored. The ranges of a lane do not overlap.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "resend_window (lane, first, last, delivery, stored_at, bytes, deletes)";

/// One range of confirmed records.
pub(crate) struct DeliveredRange {
    pub(crate) lane: usize,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) delivery: i64,
    pub(crate) stored_at: Timestamp,
    pub(crate) bytes: u64,
    pub(crate) deletes: bool,
}

/// A range that has been kept long enough.
pub(crate) struct OldRange {
    pub(crate) lane: i64,
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) bytes: u64,
}

/// A range that the store has lost.
pub(crate) struct LostRange {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) bytes: u64,
    pub(crate) deletes: bool,
}

/// Notes that the store has these rows.
pub(crate) fn insert(tx: &Transaction<'_>, range: &DeliveredRange) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO resend_window (lane, first, last, delivery, stored_at, bytes, deletes) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let DeliveredRange { lane, first, last, delivery, stored_at, bytes, deletes } = *range;
    let values = params![lane, first, last, delivery, stored_at.as_micros(), bytes, deletes];
    tx.prepare_cached(sql)?.execute(values).map(drop)
}

/// Returns the bytes of the confirmed records, without those that delete something.
pub(crate) fn sum_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT coalesce(sum(bytes), 0) FROM resend_window WHERE deletes = 0";
    connection.query_row(sql, [], |row| row.get(0))
}

/// True if a range was stored before `until`, or a range that deletes something before `deletions_until`. Answered from
/// the index of the age.
pub(crate) fn has_older(
    connection: &Connection,
    until: Timestamp,
    deletions_until: Timestamp,
) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM resend_window WHERE deletes = 0 AND stored_at < ?1) \
               OR EXISTS (SELECT 1 FROM resend_window WHERE deletes = 1 AND stored_at < ?2)";
    let until = params![until.as_micros(), deletions_until.as_micros()];
    connection.prepare_cached(sql)?.query_row(until, |row| row.get(0))
}

/// Returns up to `limit` ranges that were stored before `before`, or of any age, the oldest first: those that delete
/// something, or the others.
pub(crate) fn read_oldest(
    connection: &Connection,
    deletes: bool,
    before: Option<Timestamp>,
    limit: u64,
) -> rusqlite::Result<Vec<OldRange>> {
    let sql = "SELECT lane, first, last, bytes FROM resend_window WHERE deletes = ?1 AND stored_at < ?2 \
               ORDER BY stored_at LIMIT ?3";
    let mut oldest = connection.prepare_cached(sql)?;
    let before = before.map_or(i64::MAX, Timestamp::as_micros);
    let oldest = oldest.query_map(params![deletes, before, limit], |row| {
        Ok(OldRange { lane: row.get(0)?, first: row.get(1)?, last: row.get(2)?, bytes: row.get(3)? })
    })?;
    oldest.collect()
}

/// True if a range of the lane has one of the rows from `first` to `last`.
pub(crate) fn has_range(
    connection: &Connection,
    lane: usize,
    first: Seq,
    last: Seq,
) -> rusqlite::Result<bool> {
    let sql = "SELECT last FROM resend_window WHERE lane = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
    let end = connection.prepare_cached(sql)?.query_row(params![lane, last], |row| row.get(0)).optional()?;
    Ok(end.is_some_and(|end: Seq| end >= first))
}

/// Returns the ranges of a lane that were stored after delivery `after`, in the order of their rows.
pub(crate) fn read_later(
    connection: &Connection,
    lane: usize,
    after: i64,
) -> rusqlite::Result<Vec<LostRange>> {
    let sql = "SELECT first, last, bytes, deletes FROM resend_window WHERE lane = ?1 AND delivery > ?2 ORDER BY first";
    let mut lost = connection.prepare_cached(sql)?;
    let lost_range = |row: &Row<'_>| {
        Ok(LostRange { first: row.get(0)?, last: row.get(1)?, bytes: row.get(2)?, deletes: row.get(3)? })
    };
    lost.query_map(params![lane, after], lost_range)?.collect()
}

/// Removes one range. The rows of the journal stay, and are pending if they are not removed as well.
pub(crate) fn delete(tx: &Transaction<'_>, lane: i64, first: Seq) -> rusqlite::Result<()> {
    let mut range = tx.prepare_cached("DELETE FROM resend_window WHERE lane = ?1 AND first = ?2")?;
    range.execute(params![lane, first]).map(drop)
}

/// Removes the ranges of a lane that were stored after delivery `after`. Their rows in the journal become pending.
pub(crate) fn delete_later(tx: &Transaction<'_>, lane: usize, after: i64) -> rusqlite::Result<()> {
    let mut later = tx.prepare_cached("DELETE FROM resend_window WHERE lane = ?1 AND delivery > ?2")?;
    later.execute(params![lane, after]).map(drop)
}

/// Removes all ranges.
pub(crate) fn delete_all(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM resend_window", []).map(drop)
}
