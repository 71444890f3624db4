//! Maintains the rollup of the SQLite file: revisions, ends and deletions make slices stale, new messages
//! are added, and stale slices are recounted.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::behind::recount::{Counted, Recount, counted};
use crate::changes::{self, Change, ChangeKind};
use crate::clock::{Seq, Timestamp};
use crate::database::{self, UuidText, column_or_null, parse_time};
use crate::stats::{Grain, Tally};
use crate::store::sqlite::tallies::{self, Part, Reached, Run, Tallies};
use crate::store::{Class, Indexer, Step, StoreError};

/// The most rows of one step, to add or to recount, and the most slices that they may touch. A step takes a
/// moment.
const ROWS: usize = 5_000;
const SLICES: usize = 200;
/// This many slices before the present one (two hours) are always counted at once.
const RECENT_SLICES: i64 = 24;
/// The most changes of one step.
const CHANGES: usize = 2_000;
/// The pause before a slice is recounted again, as a multiple of the time the last recount took.
const REST: u32 = 10;

/// Keeps the rollup of a database up to date, and continues where the rollup ends.
pub(super) struct Tallier {
    path: PathBuf,
    open: Option<Open>,
}

/// The open files: the database to read, the rollup to write.
struct Open {
    database: Connection,
    tallies: Tallies,
    /// The path of the rollup.
    file: PathBuf,
    reached: Reached,
    recount: Option<Recount>,
    /// Slices that were just recounted, and until when they rest.
    resting: BTreeMap<(i64, Part), Instant>,
}

impl Tallier {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: database.to_owned(), open: None }
    }

    fn try_step(&mut self) -> rusqlite::Result<Step> {
        let suspect = database::is_suspect(&tallies::path_of(&self.path));
        let open = match self.open.take() {
            Some(open) if !suspect => open,
            _ => Open::at(&self.path, suspect)?,
        };
        self.open.insert(open).step()
    }
}

#[async_trait]
impl Indexer for Tallier {
    async fn step(&mut self) -> Result<Step, StoreError> {
        match self.try_step() {
            Ok(step) => Ok(step),
            Err(error) => {
                self.open = None;
                if database::is_damage(&error) {
                    database::mark_suspect(&tallies::path_of(&self.path), &error.to_string());
                }
                Err(StoreError::new(Class::Systemic, error.to_string()))
            }
        }
    }
}

impl Open {
    /// Opens both files and continues where the rollup ends. Starts from the beginning if the rollup cannot
    /// be trusted.
    fn at(path: &Path, suspect: bool) -> rusqlite::Result<Self> {
        let database = database::open_to_read(path)?;
        database.pragma_update(None, "cache_size", -1_024)?;
        let file = tallies::path_of(path);
        let tallies = if suspect { Tallies::anew(&file) } else { Tallies::open(&file) };
        let tallies = match tallies {
            Err(error) if database::is_damage(&error) => Tallies::anew(&file)?,
            tallies => tallies?,
        };
        let reached = tallies.reached()?;
        let mut open = Self { database, tallies, file, reached, recount: None, resting: BTreeMap::new() };
        if open.reached == Reached::default() {
            open.begin()?;
        }
        Ok(open)
    }

    /// Starts with the first row. Changes made until now are already in the rows.
    fn begin(&mut self) -> rusqlite::Result<()> {
        self.reached = Reached { change: changes::newest_seq(&self.database)?, ..Reached::default() };
        self.recount = None;
        Ok(())
    }

    /// Makes one step, and returns what is left.
    fn step(&mut self) -> rusqlite::Result<Step> {
        // All reads below are from one moment.
        let moment = self.database.unchecked_transaction()?;
        let before = self.reached;
        let news = changes::read_kinds_since(&moment, &tallies::RECOUNTED, before.change, CHANGES)?;
        if !news.is_gap_free {
            tracing::info!("stats: the tallies are of another time than the database, and are made anew");
            drop(moment);
            self.tallies = Tallies::anew(&self.file)?;
            self.begin()?;
            return Ok(Step::More(1));
        }
        let mut change = self.tallies.change()?;
        let mut reached = Reached { change: news.next, ..before };
        let has_deletions = news.changes.iter().any(|news| news.kind == ChangeKind::SessionDeleted);
        reached.row = last_row_of_old(&moment, before, has_deletions)?;
        if reached.row < before.row {
            change.forget_rows_behind(reached.row)?;
            self.recount = None;
        }
        for news in &news.changes {
            make_stale(&moment, &change, news, reached.row)?;
        }
        let sessions = mark_new_sessions(&moment, &change, &mut reached)?;
        let now = slice_of(news.next);
        let NewRows { tallies, runs, put_off } = new_rows(&moment, &mut reached, now)?;
        change.add(&tallies, &runs)?;
        put_off.into_iter().try_for_each(|slice| change.mark(slice, Part::Messages))?;
        let is_busy = sessions == ROWS || news.changes.len() == CHANGES;
        // A recount would be wasted while further changes may still mark the same slice.
        let waits = if is_busy {
            true
        } else {
            recount(&mut self.recount, &mut self.resting, &moment, &mut change, now)?
        };
        if reached != before || self.recount.is_some() || change.has_changed() {
            change.commit(reached)?;
            self.reached = reached;
        }
        let left = (newest_row(&moment)? - reached.row).max(0).unsigned_abs();
        Ok(match left.max(u64::from(waits)) {
            0 => Step::UpToDate,
            left => Step::More(left),
        })
    }
}

fn newest_row(moment: &Transaction<'_>) -> rusqlite::Result<i64> {
    let newest = "SELECT coalesce(max(rowid), 0) FROM conversation_messages";
    moment.prepare_cached(newest)?.query_row([], |row| row.get(0))
}

/// Returns the last counted row that still contains the same message. SQLite reuses the row numbers of
/// deleted rows at the end of the table; a row with a reused number was accepted later.
fn last_row_of_old(moment: &Transaction<'_>, before: Reached, has_deletions: bool) -> rusqlite::Result<i64> {
    if !has_deletions && newest_row(moment)? >= before.row {
        return Ok(before.row);
    }
    let sql = "SELECT rowid, seq FROM conversation_messages WHERE rowid <= ?1 ORDER BY rowid DESC";
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query([before.row])?;
    while let Some(row) = rows.next()? {
        let seq: Option<Seq> = row.get(1)?;
        if seq.is_none_or(|seq| seq <= before.change) {
            return row.get(0);
        }
    }
    Ok(0)
}

/// Marks the slices whose counted rows a change has touched.
fn make_stale(
    moment: &Transaction<'_>,
    change: &tallies::Change<'_>,
    news: &Change,
    row: i64,
) -> rusqlite::Result<()> {
    match (news.kind, news.message_id) {
        (ChangeKind::SessionDeleted, _) => {
            let span = changes::read_span(moment, news.seq)?;
            span.map_or(Ok(()), |(first, last)| {
                change.mark_all(Grain::Slice.number_of(first), Grain::Slice.number_of(last))
            })
        }
        (ChangeKind::Revision, Some(id)) => {
            let sql = "SELECT created_at FROM conversation_messages WHERE id = ?1 AND rowid <= ?2";
            let moment_of = |row: &rusqlite::Row<'_>| column_or_null(row, 0, parse_time);
            let id = UuidText::new(id);
            let at =
                moment.prepare_cached(sql)?.query_row(params![id.as_str(), row], moment_of).optional()?;
            mark(change, at.flatten(), Part::Messages)
        }
        _ => {
            let sql = "SELECT started_at FROM conversation_sessions WHERE session_id = ?1";
            let id = UuidText::new(news.session_id);
            let moment_of = |row: &rusqlite::Row<'_>| column_or_null(row, 0, parse_time);
            let at = moment.prepare_cached(sql)?.query_row([id.as_str()], moment_of).optional()?;
            mark(change, at.flatten(), Part::Sessions)
        }
    }
}

fn mark(change: &tallies::Change<'_>, at: Option<Timestamp>, part: Part) -> rusqlite::Result<()> {
    at.map_or(Ok(()), |at| change.mark(Grain::Slice.number_of(at), part))
}

/// Marks the slices of new sessions, some at a time. Returns the number of these sessions.
fn mark_new_sessions(
    moment: &Transaction<'_>,
    change: &tallies::Change<'_>,
    reached: &mut Reached,
) -> rusqlite::Result<usize> {
    let newest = "SELECT coalesce(max(rowid), 0) FROM conversation_sessions";
    let newest: i64 = moment.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
    reached.session = reached.session.min(newest);
    let sql = "SELECT rowid, started_at FROM conversation_sessions WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query(params![reached.session, ROWS])?;
    let (mut slices, mut found) = (BTreeSet::new(), 0);
    while let Some(row) = rows.next()? {
        reached.session = row.get(0)?;
        slices.extend(column_or_null(row, 1, parse_time)?.map(|at| Grain::Slice.number_of(at)));
        found += 1;
    }
    slices.into_iter().try_for_each(|slice| change.mark(slice, Part::Sessions))?;
    Ok(found)
}

/// Returns the slice in which a record was accepted.
fn slice_of(seq: Seq) -> i64 {
    Timestamp::from_micros(seq).map_or(i64::MAX, |accepted| Grain::Slice.number_of(accepted))
}

/// Newly counted messages.
struct NewRows {
    tallies: BTreeMap<i64, Tally>,
    runs: Vec<Run>,
    /// Slices whose messages are left to the recount, because this step already touches too many others.
    put_off: BTreeSet<i64>,
}

/// Counts messages after the counted ones, some at a time. If they are in many slices at once, some slices
/// are put off, so that they do not delay the counts of the present.
fn new_rows(moment: &Transaction<'_>, reached: &mut Reached, now: i64) -> rusqlite::Result<NewRows> {
    let sql = "SELECT rowid, created_at, role, interrupted, metrics FROM conversation_messages \
               WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    let mut statement = moment.prepare_cached(sql)?;
    let mut rows = statement.query(params![reached.row, ROWS])?;
    let (mut tallies, mut runs) = (BTreeMap::<i64, Tally>::new(), Vec::<Run>::new());
    let mut put_off = BTreeSet::new();
    while let Some(row) = rows.next()? {
        reached.row = row.get(0)?;
        // Unreadable rows are not counted.
        let Some(Counted { row, slice, role, interrupted, metrics }) = counted(row)? else { continue };
        let is_of_now = (now - RECENT_SLICES..=now).contains(&slice);
        if is_of_now || tallies.len() < SLICES || tallies.contains_key(&slice) {
            tallies.entry(slice).or_default().messages.count(role, interrupted, metrics);
        } else {
            put_off.insert(slice);
        }
        match runs.last_mut() {
            Some(run) if run.slice == slice && run.last == row - 1 => run.last = row,
            _ => runs.push(Run { first: row, last: row, slice }),
        }
    }
    Ok(NewRows { tallies, runs, put_off })
}

/// Recounts stale slices for a moment. Returns true if there is more to do now.
fn recount(
    under_way: &mut Option<Recount>,
    resting: &mut BTreeMap<(i64, Part), Instant>,
    moment: &Transaction<'_>,
    change: &mut tallies::Change<'_>,
    now_slice: i64,
) -> rusqlite::Result<bool> {
    let mut rows = ROWS;
    for _ in 0..SLICES {
        let mut recount = match under_way.take() {
            Some(recount) => recount,
            None => {
                let now = Instant::now();
                resting.retain(|_, until| *until > now);
                let stale = change.stale(now_slice, resting.len() + 1)?;
                let next = stale.into_iter().find(|stale| !resting.contains_key(&(stale.slice, stale.part)));
                let Some(next) = next else { return Ok(false) };
                Recount::of(next)
            }
        };
        let began = Instant::now();
        let is_done = recount.go_on(moment, change, &mut rows)?;
        recount.spent += began.elapsed();
        if !is_done {
            *under_way = Some(recount);
            return Ok(true);
        }
        let (stale, spent) = (recount.stale, recount.spent);
        change.recounted(stale, recount.counted)?;
        let rest = (spent * REST).max(SHORTEST_REST);
        resting.insert((stale.slice, stale.part), Instant::now() + rest);
        if rows == 0 {
            return Ok(true);
        }
    }
    Ok(true)
}

/// A shorter rest is not worth recording.
const SHORTEST_REST: Duration = Duration::from_millis(100);
