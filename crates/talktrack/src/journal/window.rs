//! The re-send window: records that the store has confirmed stay in the journal for a while. If the store loses them
//! (it crashed without syncing, a lagging standby was promoted, or a dump was restored), they become pending again.
//!
//! The rows do not change. The table `resend_window` says which of them are confirmed, with one row for each range that
//! one delivery of a lane stored. Rows are removed in bulk, the oldest ranges first, while no caller waits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock, Seq, Timestamp};
use talktrack_core::record::{Body, Record, RemovedRows};

use crate::journal::bookkeeping::Bookkeeping as _;
use crate::journal::purged::PurgedRecords;
use crate::local::tables::journal::{self, RowCounts};
use crate::local::tables::resend_window::{self, LostRange, OldRange};
use crate::local::tables::{books, lanes, message_deletions};
use crate::now::Now;
use crate::options::Options;
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

impl Window {
    /// Opens the window of this file as an earlier process left it.
    pub(super) fn open(connection: &Connection, options: &Options) -> rusqlite::Result<Self> {
        let bytes = resend_window::sum_bytes(connection)?;
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
        if excess == 0 && !resend_window::has_older(connection, until, long)? {
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

/// Removes the oldest ranges, in order, until the step is full: those that were stored before `before`, or of any age.
/// Stops once as many bytes are removed as `bytes` says, if it says so.
fn remove_ranges(
    tx: &Transaction<'_>,
    before: Option<Timestamp>,
    deletes: bool,
    bytes: Option<u64>,
) -> rusqlite::Result<RemovalStep> {
    let mut step = RemovalStep::default();
    for range in resend_window::read_oldest(tx, deletes, before, REMOVED_AT_ONCE)? {
        let OldRange { lane, first, last, bytes: size } = range;
        let rows = journal::delete_range(tx, lane, first, last)?;
        resend_window::delete(tx, lane, first)?;
        // A range without rows is counted as well, because removing it is work.
        step += RemovalStep { rows: rows.max(1) as u64, bytes: size };
        if step.is_full() || bytes.is_some_and(|bytes| step.bytes >= bytes) {
            break;
        }
    }
    Ok(step)
}

/// Returns the counts of these rows, if all of them are pending in the lane and no other row of the lane lies between
/// the first and the last. A record of a parked session may be delivered twice: the second time it is in a range.
pub(super) fn count_run(
    tx: &Transaction<'_>,
    lane: usize,
    run: &[Seq],
) -> rusqlite::Result<Option<RowCounts>> {
    let (Some(first), Some(last)) = (run.first(), run.last()) else { return Ok(None) };
    if resend_window::has_range(tx, lane, *first, *last)? {
        return Ok(None);
    }
    journal::count_exactly(tx, lane, run)
}

/// Returns the number of the last delivery of each lane that this file has noted, or 0.
pub(super) fn read_deliveries(connection: &Connection) -> rusqlite::Result<[i64; LANES]> {
    let mut known = [0; LANES];
    for (lane, delivery) in lanes::read_deliveries(connection)? {
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
    let mut rewound = Rewound { last: Seq::ZERO, deletions: Vec::new() };
    for range in resend_window::read_later(tx, lane, after)? {
        let LostRange { first, last, bytes: noted, deletes } = range;
        let RowCounts { messages, bytes, .. } = journal::count_range(tx, lane, first, last)?;
        books.return_to_journal(messages, bytes);
        if deletes {
            rewound.deletions.extend(journal::find(tx, first)?);
        } else {
            change.taken += noted;
        }
        rewound.last = last;
    }
    resend_window::delete_later(tx, lane, after)?;
    change.rewound.push((lane, rewound));
    Ok(())
}

/// Notes in the record of a deletion by age, or of an edit, which rows it removed, so that a repeated delivery removes the same rows.
/// The confirmed records of the session leave the window: they are not delivered again, and the same message counts as
/// new if it is sent again.
pub(super) fn note_removed(
    tx: &Transaction<'_>,
    seq: Seq,
    rows: &RemovedRows,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    let Some(mut noted) = journal::find(tx, seq)? else { return Ok(()) };
    if let Body::EditMessages(edit) = &mut noted.body {
        edit.note_removed(rows.messages.clone());
    }
    if let Body::Delete(delete) = &mut noted.body {
        delete.removed = Some(rows.clone());
        if rows.session {
            // The session's tombstones would refuse the messages of a new session with the same id.
            message_deletions::delete_of_session(tx, delete.session_id)?;
            purged.add_records(journal::delete_confirmed_of_session(tx, delete.session_id, seq)?);
        }
    }
    journal::rewrite(tx, seq, &noted)
}

/// Forgets the window and its rows. What the store has stays there.
pub(super) fn drop_window(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    journal::delete_confirmed(tx)?;
    resend_window::delete_all(tx)
}

/// Assigns new lanes to all records if an earlier version had another number of lanes. The whole window becomes pending
/// once.
pub(super) fn fit_lanes(
    connection: &mut Connection,
    lanes: usize,
    lane_of: impl Fn(&Record) -> usize,
    books: &mut Books,
) -> rusqlite::Result<()> {
    if lanes::read_numbers(connection)?.into_iter().eq(0..lanes) {
        return Ok(());
    }
    let earlier = lanes::read_used_numbers(connection)?;
    let tx = connection.transaction()?;
    let mut after = *books;
    earlier
        .iter()
        .try_for_each(|lane| rewind_lane(&tx, *lane, 0, &mut after, &mut WindowChange::default()))?;
    if !earlier.is_empty() {
        journal::assign_lanes(&tx, |record| record.map_or(0, &lane_of))?;
        lanes::delete_all(&tx)?;
    }
    (0..lanes).try_for_each(|lane| lanes::note_delivery(&tx, lane, 0))?;
    books::write_returned(&tx, &after)?;
    tx.commit()?;
    *books = after;
    Ok(())
}
