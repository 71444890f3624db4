//! The re-send window: records that the store has confirmed stay in the journal for a while. If the store loses them
//! (it crashed without syncing, a lagging standby was promoted, or a dump was restored), they become pending again.
//!
//! The rows do not change. The table `resend_window` says which of them are confirmed, with one row for each range that
//! one delivery of a lane stored. Rows are removed in bulk, the oldest ranges first, while no caller waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock, Seq, Timestamp};
use talktrack_core::record::{Body, Record, RemovedRows};

use crate::journal::bookkeeping::Bookkeeping as _;
use crate::journal::purged::PurgedRecords;
use crate::local::database::UuidText;
use crate::local::tables::message_deletions;
use crate::now::Now;
use crate::options::Options;
use crate::store::sqlite::read_record;
use crate::writer::{LANES, Rewound};

/// How long a record that deletes something stays in the window.
const DELETIONS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The maximum number of rows that one transaction removes.
const REMOVED_AT_ONCE: u64 = 1_000;
/// The maximum number of bytes that one transaction removes.
const REMOVED_BYTES: u64 = 1 << 20;
/// The interval between checks while there is nothing to remove.
const LOOK: Duration = Duration::from_millis(500);

/// The limits of the window and its current size.
pub(super) struct Window {
    keep: Duration,
    max_bytes: u64,
    /// The bytes of the confirmed records, without those that delete something.
    bytes: u64,
    clock: Arc<dyn Clock>,
    begun: Now,
    /// The last time at which there was nothing to remove.
    idle_since: Option<Instant>,
}

/// How a settling transaction changed the window.
#[derive(Debug, Default)]
pub(super) struct WindowChange {
    /// Bytes that were added.
    pub(super) added: u64,
    /// Bytes that became pending again.
    pub(super) taken: u64,
    /// Lanes whose records became pending again.
    pub(super) rewound: Vec<(usize, Rewound)>,
}

/// Counts of consecutive rows of one lane.
pub(super) struct RowCounts {
    pub(super) rows: usize,
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Window {
    /// Opens the window of this file as an earlier process left it.
    pub(super) fn open(connection: &Connection, options: &Options) -> rusqlite::Result<Self> {
        let sql = "SELECT coalesce(sum(bytes), 0) FROM resend_window WHERE deletes = 0";
        let bytes = connection.query_row(sql, [], |row| row.get(0))?;
        let clock = Arc::clone(&options.clock);
        let max_bytes = options.resend_window_max_bytes;
        let begun = Now::read(&*clock);
        Ok(Self { keep: options.resend_window, max_bytes, bytes, clock, begun, idle_since: None })
    }

    /// Returns the current time, by a clock that does not jump ahead while the process runs, so that no record leaves
    /// early.
    pub(super) fn now(&self) -> Timestamp {
        let passed = self.clock.elapsed().saturating_sub(self.begun.elapsed);
        self.clock.now().min(self.begun.at.plus(passed))
    }

    /// Applies the change of a committed transaction.
    pub(super) fn apply_change(&mut self, change: &WindowChange) {
        self.bytes = (self.bytes + change.added).saturating_sub(change.taken);
    }

    /// True if the window holds nothing that could be removed.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// True if the window is more than twice over its limit, which a short delay does not explain.
    pub(super) fn is_overfull(&self) -> bool {
        self.bytes > self.max_bytes.saturating_mul(2)
    }

    /// Removes records that have been kept long enough, and the oldest ones if the window is over its limit, in one
    /// step at most. Returns true if there is more to remove.
    pub(super) fn remove_old(&mut self, connection: &mut Connection) -> rusqlite::Result<bool> {
        let now = self.now();
        if self.idle_since.is_some_and(|since| since.elapsed() < LOOK) {
            return Ok(false);
        }
        let excess = self.bytes.saturating_sub(self.max_bytes);
        let until = now.minus(self.keep);
        let long = now.minus(DELETIONS_KEPT);
        if excess == 0 && !is_due(connection, until, long)? {
            self.idle_since = Some(Instant::now());
            return Ok(false);
        }
        self.idle_since = None;
        let tx = connection.transaction()?;
        let mut step = remove_ranges(&tx, Some(until), false, None)?;
        if step.bytes < excess && !step.is_full() {
            step += remove_ranges(&tx, None, false, Some(excess - step.bytes))?;
        }
        let deletions =
            if step.is_full() { RemovalStep::default() } else { remove_ranges(&tx, Some(long), true, None)? };
        tx.commit()?;
        self.bytes = self.bytes.saturating_sub(step.bytes);
        Ok(step.is_full() || deletions.is_full())
    }

    /// Removes the oldest records because the disk is full. Returns true if there were any.
    pub(super) fn evict_oldest(&mut self, connection: &mut Connection) -> rusqlite::Result<bool> {
        let tx = connection.transaction()?;
        let step = remove_ranges(&tx, None, false, Some(REMOVED_BYTES))?;
        tx.commit()?;
        self.bytes = self.bytes.saturating_sub(step.bytes);
        Ok(step.rows > 0)
    }
}

/// What one step removed.
#[derive(Debug, Default, Clone, Copy)]
struct RemovalStep {
    rows: u64,
    bytes: u64,
}

impl RemovalStep {
    fn is_full(self) -> bool {
        self.rows >= REMOVED_AT_ONCE || self.bytes >= REMOVED_BYTES
    }
}

impl std::ops::AddAssign for RemovalStep {
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.bytes += more.bytes;
    }
}

fn is_due(connection: &Connection, until: Timestamp, long: Timestamp) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM resend_window WHERE deletes = 0 AND stored_at < ?1) \
               OR EXISTS (SELECT 1 FROM resend_window WHERE deletes = 1 AND stored_at < ?2)";
    let until = params![until.as_micros(), long.as_micros()];
    connection.prepare_cached(sql)?.query_row(until, |row| row.get(0))
}

/// Removes the oldest ranges, in order, until the step is full: those that were stored before `before`, or of any age.
/// Stops once as many bytes are removed as `bytes` says, if it says so.
fn remove_ranges(
    tx: &Transaction<'_>,
    before: Option<Timestamp>,
    deletes: bool,
    bytes: Option<u64>,
) -> rusqlite::Result<RemovalStep> {
    let sql = "SELECT lane, first, last, bytes FROM resend_window WHERE deletes = ?1 AND stored_at < ?2 \
               ORDER BY stored_at LIMIT ?3";
    let mut oldest = tx.prepare_cached(sql)?;
    let before = before.map_or(i64::MAX, Timestamp::as_micros);
    let oldest = oldest.query_map(params![deletes, before, REMOVED_AT_ONCE], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, Seq>(1)?, row.get::<_, Seq>(2)?, row.get::<_, u64>(3)?))
    })?;
    let mut records = tx.prepare_cached("DELETE FROM journal WHERE seq BETWEEN ?1 AND ?2 AND lane = ?3")?;
    let mut range = tx.prepare_cached("DELETE FROM resend_window WHERE lane = ?1 AND first = ?2")?;
    let mut step = RemovalStep::default();
    for row in oldest.collect::<rusqlite::Result<Vec<_>>>()? {
        let (lane, first, last, size) = row;
        let rows = records.execute(params![first, last, lane])?;
        range.execute(params![lane, first])?;
        // A range without rows is counted as well, because removing it is work.
        step += RemovalStep { rows: rows.max(1) as u64, bytes: size };
        if step.is_full() || bytes.is_some_and(|bytes| step.bytes >= bytes) {
            break;
        }
    }
    Ok(step)
}

/// Returns the counts of a lane's rows in a range.
fn count_rows(tx: &Transaction<'_>, lane: usize, first: Seq, last: Seq) -> rusqlite::Result<RowCounts> {
    let count = "SELECT count(*), count(message_id), coalesce(sum(octet_length(body)), 0) FROM journal \
                 WHERE seq BETWEEN ?1 AND ?2 AND lane = ?3";
    tx.prepare_cached(count)?.query_row(params![first, last, lane], |row| {
        Ok(RowCounts { rows: row.get(0)?, messages: row.get(1)?, bytes: row.get(2)? })
    })
}

/// True if a range of the lane has one of the rows from `first` to `last`. The ranges of a lane do not overlap.
pub(super) fn has_range(tx: &Transaction<'_>, lane: usize, first: Seq, last: Seq) -> rusqlite::Result<bool> {
    let sql = "SELECT last FROM resend_window WHERE lane = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
    let end = tx.prepare_cached(sql)?.query_row(params![lane, last], |row| row.get(0)).optional()?;
    Ok(end.is_some_and(|end: Seq| end >= first))
}

/// Returns the counts of these rows, if all of them are pending in the lane and no other row of the lane lies between
/// the first and the last. A record of a parked session may be delivered twice: the second time it is in a range.
pub(super) fn count_run(
    tx: &Transaction<'_>,
    lane: usize,
    run: &[Seq],
) -> rusqlite::Result<Option<RowCounts>> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(None) };
    if has_range(tx, lane, *first, *last)? {
        return Ok(None);
    }
    let select = "SELECT seq, message_id IS NOT NULL, octet_length(body) FROM journal \
                  WHERE seq BETWEEN ?1 AND ?2 AND lane = ?3 ORDER BY seq";
    let mut select = tx.prepare_cached(select)?;
    let mut rows = select.query(params![first, last, lane])?;
    let mut counts = RowCounts { rows: 0, messages: 0, bytes: 0 };
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

/// One range of confirmed records.
pub(super) struct DeliveredRange {
    pub(super) lane: usize,
    pub(super) first: Seq,
    pub(super) last: Seq,
    pub(super) delivery: i64,
    pub(super) stored_at: Timestamp,
    pub(super) bytes: u64,
    pub(super) deletes: bool,
}

/// Notes that the store has these rows.
pub(super) fn note_range(tx: &Transaction<'_>, range: &DeliveredRange) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO resend_window (lane, first, last, delivery, stored_at, bytes, deletes) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let DeliveredRange { lane, first, last, delivery, stored_at, bytes, deletes } = *range;
    let values = params![lane, first, last, delivery, stored_at.as_micros(), bytes, deletes];
    tx.prepare_cached(sql)?.execute(values).map(drop)
}

/// Notes the number of the last delivery of a lane.
pub(super) fn note_delivery(tx: &Transaction<'_>, lane: usize, delivery: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO lanes (lane, delivery) VALUES (?1, ?2) \
               ON CONFLICT (lane) DO UPDATE SET delivery = max(delivery, excluded.delivery)";
    tx.prepare_cached(sql)?.execute(params![lane, delivery]).map(drop)
}

/// Returns the number of the last delivery of each lane that this file has noted, or 0.
pub(super) fn read_deliveries(connection: &Connection) -> rusqlite::Result<[i64; LANES]> {
    let mut known = [0; LANES];
    // A file that was salvaged may have only one of the two tables.
    let sql = "SELECT lane, max(delivery) FROM (SELECT lane, delivery FROM lanes UNION ALL \
               SELECT lane, delivery FROM resend_window) GROUP BY lane";
    let mut noted = connection.prepare(sql)?;
    for row in noted.query_map([], |row| Ok((row.get::<_, usize>(0)?, row.get(1)?)))? {
        let (lane, delivery) = row?;
        if let Some(known) = known.get_mut(lane) {
            *known = delivery;
        }
    }
    Ok(known)
}

/// Makes pending what a lane delivered after delivery `after`, because the store has lost it. Corrects the books as
/// well.
pub(super) fn rewind_lane(
    tx: &Transaction<'_>,
    lane: usize,
    after: i64,
    books: &mut Books,
    change: &mut WindowChange,
) -> rusqlite::Result<()> {
    let sql = "SELECT first, last, bytes, deletes FROM resend_window WHERE lane = ?1 AND delivery > ?2 ORDER BY first";
    let mut lost = tx.prepare_cached(sql)?;
    let lost = lost.query_map(params![lane, after], |row| {
        Ok((row.get::<_, Seq>(0)?, row.get::<_, Seq>(1)?, row.get::<_, u64>(2)?, row.get::<_, bool>(3)?))
    })?;
    let mut rewound = Rewound { last: Seq::ZERO, deletions: Vec::new() };
    for row in lost.collect::<rusqlite::Result<Vec<_>>>()? {
        let (first, last, noted, deletes) = row;
        let RowCounts { messages, bytes, .. } = count_rows(tx, lane, first, last)?;
        books.return_to_journal(messages, bytes);
        if deletes {
            rewound.deletions.extend(find_record(tx, first)?);
        } else {
            change.taken += noted;
        }
        rewound.last = last;
    }
    tx.prepare_cached("DELETE FROM resend_window WHERE lane = ?1 AND delivery > ?2")?
        .execute(params![lane, after])?;
    change.rewound.push((lane, rewound));
    Ok(())
}

/// Notes in the record of a deletion by age which rows it removed, so that a repeated delivery removes the same rows.
/// The confirmed records of the session leave the window: they are not delivered again, and the same message counts as
/// new if it is sent again.
pub(super) fn note_removed(
    tx: &Transaction<'_>,
    seq: Seq,
    rows: &RemovedRows,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    let Some(mut noted) = find_record(tx, seq)? else { return Ok(()) };
    if let Body::Delete(delete) = &mut noted.body {
        delete.removed = Some(rows.clone());
        if rows.session {
            // The session's tombstones would refuse the messages of a new session with the same id.
            message_deletions::delete_of_session(tx, delete.session_id)?;
            let sql = "DELETE FROM journal WHERE session_id = ?1 AND seq < ?2 \
                       AND seq NOT IN (SELECT seq FROM pending WHERE session_id = ?1) RETURNING seq, message_id";
            let mut confirmed = tx.prepare_cached(sql)?;
            let id = UuidText::new(delete.session_id);
            let removed = confirmed.query_map(params![id.as_str(), seq], |row| purged.add_row(row))?;
            removed.collect::<rusqlite::Result<()>>()?;
        }
    }
    let body = serde_json::to_string(&noted)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let sql = "UPDATE journal SET body = ?2, checksum = ?3 WHERE seq = ?1";
    tx.prepare_cached(sql)?.execute(params![seq, body, crc32fast::hash(body.as_bytes())]).map(drop)
}

/// Returns the record in this row of the journal, if there is one and it can be read.
pub(super) fn find_record(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<Option<Record>> {
    let mut one = tx.prepare_cached("SELECT seq, body, checksum FROM journal WHERE seq = ?1")?;
    let mut rows = one.query([seq])?;
    Ok(rows.next()?.map(read_record).transpose()?.and_then(|(_, record)| record))
}

/// Forgets the window and its rows. What the store has stays there.
pub(super) fn drop_window(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM journal WHERE seq NOT IN (SELECT seq FROM pending)", [])?;
    tx.execute("DELETE FROM resend_window", []).map(drop)
}

/// Assigns new lanes to all records if an earlier version had another number of lanes. The whole window becomes pending
/// once.
pub(super) fn fit_lanes(
    connection: &mut Connection,
    lanes: usize,
    lane_of: impl Fn(&Record) -> usize,
    books: &mut Books,
) -> rusqlite::Result<()> {
    let listed = |sql: &str| -> rusqlite::Result<Vec<usize>> {
        connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
    };
    if listed("SELECT lane FROM lanes ORDER BY lane")?.into_iter().eq(0..lanes) {
        return Ok(());
    }
    let earlier = listed("SELECT lane FROM lanes UNION SELECT lane FROM resend_window")?;
    let tx = connection.transaction()?;
    let mut after = *books;
    earlier
        .iter()
        .try_for_each(|lane| rewind_lane(&tx, *lane, 0, &mut after, &mut WindowChange::default()))?;
    if !earlier.is_empty() {
        assign_lanes(&tx, lane_of)?;
        tx.execute("DELETE FROM lanes", [])?;
    }
    (0..lanes).try_for_each(|lane| note_delivery(&tx, lane, 0))?;
    let sql = "UPDATE books SET stored = ?1, journal_bytes = ?2";
    tx.execute(sql, params![after.stored, after.journal_bytes])?;
    tx.commit()?;
    *books = after;
    Ok(())
}

fn assign_lanes(tx: &Transaction<'_>, lane_of: impl Fn(&Record) -> usize) -> rusqlite::Result<()> {
    let mut all = tx.prepare("SELECT seq, body, checksum FROM journal")?;
    let mut assign = tx.prepare("UPDATE journal SET lane = ?2 WHERE seq = ?1")?;
    for row in all.query_map([], read_record)?.collect::<rusqlite::Result<Vec<_>>>()? {
        let (seq, record) = row;
        assign.execute(params![seq, record.map_or(0, |record| lane_of(&record))])?;
    }
    Ok(())
}
