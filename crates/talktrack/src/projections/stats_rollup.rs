//! Maintains the rollup of the SQLite file: revisions, ends and deletions make buckets stale, new messages
//! are added, and stale buckets are recomputed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::stats::{Resolution, StatsBucket};

use crate::changes::{Change, ChangeKind, REMOVING};
use crate::local::database;
use crate::local::tables::{changes, closed_messages, messages, moved_starts, sessions};
use crate::projections::file_projection::DerivedProjection;
use crate::projections::recompute::Recomputation;
use crate::store::Step;
use crate::store::sqlite::rollup::{self, BucketPart, RollupCheckpoint, RollupFile, RowRun};

/// The most rows of one step, to add or to recompute, and the most buckets that they may touch. A step takes a
/// moment.
const MAX_ROWS: usize = 5_000;
const MAX_BUCKETS: usize = 200;
/// This many buckets before the present one (two hours) are always counted at once.
const RECENT_BUCKETS: i64 = 24;
/// The most changes of one step.
const MAX_CHANGES: usize = 2_000;
/// The pause before a bucket is recomputed again, as a multiple of the time the last recomputation took.
const REST: u32 = 10;

/// Keeps the rollup of a database up to date, and continues where the rollup ends.
pub(super) struct StatsRollup {
    database: Connection,
    rollup: RollupFile,
    /// The path of the rollup.
    file: PathBuf,
    checkpoint: RollupCheckpoint,
    recomputation: Option<Recomputation>,
    /// Buckets that were just recomputed, and until when they rest.
    resting: BTreeMap<(i64, BucketPart), Instant>,
}

impl StatsRollup {
    /// Starts with the first row. Changes made until now are already in the rows.
    fn reset_checkpoint(&mut self) -> rusqlite::Result<()> {
        self.checkpoint =
            RollupCheckpoint { change: changes::newest_seq(&self.database)?, ..RollupCheckpoint::default() };
        self.recomputation = None;
        Ok(())
    }
}

impl DerivedProjection for StatsRollup {
    type File = RollupFile;

    fn path_of(database: &Path) -> PathBuf {
        rollup::path_of(database)
    }

    fn open_file(path: &Path) -> rusqlite::Result<RollupFile> {
        RollupFile::open(path)
    }

    fn recreate_file(path: &Path) -> rusqlite::Result<RollupFile> {
        RollupFile::recreate(path)
    }

    fn open(database: &Path, rollup: RollupFile) -> rusqlite::Result<Self> {
        let file = rollup::path_of(database);
        let checkpoint = rollup.read_checkpoint()?;
        let database = database::open_to_read(database)?;
        database.pragma_update(None, "cache_size", -1_024)?;
        let mut projection =
            Self { database, rollup, file, checkpoint, recomputation: None, resting: BTreeMap::new() };
        if projection.checkpoint == RollupCheckpoint::default() {
            projection.reset_checkpoint()?;
        }
        Ok(projection)
    }

    /// Makes one step, and returns what is left.
    fn step(&mut self) -> rusqlite::Result<Step> {
        // All reads below are from one moment.
        let moment = self.database.unchecked_transaction()?;
        let before = self.checkpoint;
        let news = changes::read_kinds_since(&moment, &rollup::RECOMPUTED_KINDS, before.change, MAX_CHANGES)?;
        if !news.is_gap_free {
            tracing::info!("stats: the rollup does not match the database; rebuilding it");
            drop(moment);
            self.rollup = RollupFile::recreate(&self.file)?;
            self.reset_checkpoint()?;
            return Ok(Step::More(1));
        }
        let mut change = self.rollup.begin_change()?;
        let mut checkpoint = RollupCheckpoint { change: news.next, ..before };
        let has_deletions = news.changes.iter().any(|news| REMOVING.contains(&news.kind));
        checkpoint.row = last_row_of_old(&moment, before, has_deletions)?;
        if checkpoint.row < before.row {
            change.forget_rows_after(checkpoint.row)?;
            self.recomputation = None;
        }
        for news in &news.changes {
            mark_changed(&moment, &change, news, checkpoint.row)?;
        }
        for start in moved_starts::read_between(&moment, before.change, checkpoint.change)? {
            mark_stale(&change, Some(start), BucketPart::Sessions)?;
        }
        for id in closed_messages::read_between(&moment, before.change, checkpoint.change)? {
            let at = messages::counted::read_created_at(&moment, id, checkpoint.row)?;
            mark_stale(&change, at, BucketPart::Messages)?;
        }
        let sessions = mark_new_sessions(&moment, &change, &mut checkpoint)?;
        let now = bucket_of(news.next);
        let NewRows { buckets, runs, put_off } = new_rows(&moment, &mut checkpoint, now)?;
        change.add_rows(&buckets, &runs)?;
        put_off.into_iter().try_for_each(|bucket| change.mark_stale(bucket, BucketPart::Messages))?;
        let is_busy = sessions == MAX_ROWS || news.changes.len() == MAX_CHANGES;
        // A recomputation would be wasted while further changes may still mark the same bucket.
        let waits = if is_busy {
            true
        } else {
            recompute_stale(&mut self.recomputation, &mut self.resting, &moment, &mut change, now)?
        };
        if checkpoint != before || self.recomputation.is_some() || change.has_changed() {
            change.commit(checkpoint)?;
            self.checkpoint = checkpoint;
        }
        let left = (messages::read::newest_row(&moment)? - checkpoint.row).max(0).unsigned_abs();
        Ok(match left.max(u64::from(waits)) {
            0 => Step::UpToDate,
            left => Step::More(left),
        })
    }
}

/// Returns the last counted row that still contains the same message. SQLite reuses the row numbers of
/// deleted rows at the end of the table; a row with a reused number was accepted later.
fn last_row_of_old(
    moment: &Transaction<'_>,
    before: RollupCheckpoint,
    has_deletions: bool,
) -> rusqlite::Result<i64> {
    if !has_deletions && messages::read::newest_row(moment)? >= before.row {
        return Ok(before.row);
    }
    messages::counted::last_row_accepted_until(moment, before.row, before.change)
}

/// Marks the buckets whose counted rows a change has touched.
fn mark_changed(
    moment: &Transaction<'_>,
    change: &rollup::RollupTransaction<'_>,
    news: &Change,
    row: i64,
) -> rusqlite::Result<()> {
    match (news.kind, news.message_id) {
        (ChangeKind::SessionDeleted | ChangeKind::MessagesDeleted, _) => {
            let span = changes::read_span(moment, news.seq)?;
            span.map_or(Ok(()), |(first, last)| {
                change.mark_range_stale(
                    Resolution::FiveMinutes.bucket_of(first),
                    Resolution::FiveMinutes.bucket_of(last),
                )
            })
        }
        (ChangeKind::Revision, Some(id)) => {
            let at = messages::counted::read_created_at(moment, id, row)?;
            mark_stale(change, at, BucketPart::Messages)
        }
        _ => {
            let at = sessions::read::read_started_at(moment, news.session_id)?;
            mark_stale(change, at, BucketPart::Sessions)
        }
    }
}

fn mark_stale(
    change: &rollup::RollupTransaction<'_>,
    at: Option<Timestamp>,
    part: BucketPart,
) -> rusqlite::Result<()> {
    at.map_or(Ok(()), |at| change.mark_stale(Resolution::FiveMinutes.bucket_of(at), part))
}

/// Marks the buckets of new sessions, some at a time. Returns the number of these sessions.
fn mark_new_sessions(
    moment: &Transaction<'_>,
    change: &rollup::RollupTransaction<'_>,
    checkpoint: &mut RollupCheckpoint,
) -> rusqlite::Result<usize> {
    checkpoint.session = checkpoint.session.min(sessions::counted::newest_row(moment)?);
    let found = sessions::counted::read_starts_after(moment, checkpoint.session, MAX_ROWS)?;
    checkpoint.session = found.last().map_or(checkpoint.session, |(row, _)| *row);
    let starts = found.iter().filter_map(|(_, started_at)| *started_at);
    let buckets: BTreeSet<i64> = starts.map(|at| Resolution::FiveMinutes.bucket_of(at)).collect();
    buckets.into_iter().try_for_each(|bucket| change.mark_stale(bucket, BucketPart::Sessions))?;
    Ok(found.len())
}

/// Returns the bucket in which a record was accepted.
fn bucket_of(seq: Seq) -> i64 {
    seq.accepted_at().map_or(i64::MAX, |accepted| Resolution::FiveMinutes.bucket_of(accepted))
}

/// Newly counted messages.
struct NewRows {
    buckets: BTreeMap<i64, StatsBucket>,
    runs: Vec<RowRun>,
    /// Buckets whose messages are left to the recomputation, because this step already touches too many others.
    put_off: BTreeSet<i64>,
}

/// Counts messages after the counted ones, some at a time. If they are in many buckets at once, some buckets
/// are put off, so that they do not delay the counts of the present.
fn new_rows(
    moment: &Transaction<'_>,
    checkpoint: &mut RollupCheckpoint,
    now: i64,
) -> rusqlite::Result<NewRows> {
    let mut buckets = BTreeMap::<i64, StatsBucket>::new();
    let mut runs = Vec::<RowRun>::new();
    let mut put_off = BTreeSet::new();
    let after = checkpoint.row;
    messages::counted::visit_after(moment, after, MAX_ROWS, |row, said| {
        checkpoint.row = row;
        // Unreadable rows are not counted.
        let Some(said) = said else { return Ok(()) };
        let bucket = Resolution::FiveMinutes.bucket_of(said.created_at);
        let is_of_now = (now - RECENT_BUCKETS..=now).contains(&bucket);
        if is_of_now || buckets.len() < MAX_BUCKETS || buckets.contains_key(&bucket) {
            let counts = &mut buckets.entry(bucket).or_default().messages;
            if said.is_final {
                counts.add_message(said.role, said.interrupted, said.metrics);
            }
        } else {
            put_off.insert(bucket);
        }
        match runs.last_mut() {
            Some(run) if run.bucket == bucket && run.last == row - 1 => run.last = row,
            _ => runs.push(RowRun { first: row, last: row, bucket }),
        }
        Ok(())
    })?;
    Ok(NewRows { buckets, runs, put_off })
}

/// Recomputes stale buckets for a moment. Returns true if there is more to do now.
fn recompute_stale(
    current: &mut Option<Recomputation>,
    resting: &mut BTreeMap<(i64, BucketPart), Instant>,
    moment: &Transaction<'_>,
    change: &mut rollup::RollupTransaction<'_>,
    now_bucket: i64,
) -> rusqlite::Result<bool> {
    let mut rows = MAX_ROWS;
    for _ in 0..MAX_BUCKETS {
        let mut recomputation = match current.take() {
            Some(recomputation) => recomputation,
            None => {
                let now = Instant::now();
                resting.retain(|_, until| *until > now);
                let stale = change.next_stale(now_bucket, resting.len() + 1)?;
                let next = stale.into_iter().find(|stale| !resting.contains_key(&(stale.bucket, stale.part)));
                let Some(next) = next else { return Ok(false) };
                Recomputation::new(next)
            }
        };
        let began = Instant::now();
        let is_done = recomputation.advance(moment, change, &mut rows)?;
        recomputation.spent += began.elapsed();
        if !is_done {
            *current = Some(recomputation);
            return Ok(true);
        }
        let stale = recomputation.stale;
        let spent = recomputation.spent;
        change.put_recomputed(stale, recomputation.counted)?;
        let rest = (spent * REST).max(SHORTEST_REST);
        resting.insert((stale.bucket, stale.part), Instant::now() + rest);
        if rows == 0 {
            return Ok(true);
        }
    }
    Ok(true)
}

/// A shorter rest is not worth recording.
const SHORTEST_REST: Duration = Duration::from_millis(100);
