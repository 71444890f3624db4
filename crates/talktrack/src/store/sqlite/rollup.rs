//! The rollup: a derived file next to the database. It is updated behind the journal and rebuilt if it does
//! not match the database. It contains figures, and which rows were counted into which
//! five-minute bucket, but no text of messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use talktrack_core::clock::Seq;

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use talktrack_core::stats::{Resolution, StatsBucket};

use crate::changes::ChangeKind;
use crate::store::sqlite::derived::DerivedFile;

/// Consecutive rows in the same bucket are one run: messages arrive in the order of time. A stale bucket is
/// recomputed; `marks` increases with each reason to recompute it.
const FILE: DerivedFile = DerivedFile {
    name: "stats",
    layout: 1,
    schema: "
CREATE TABLE runs (first integer PRIMARY KEY, last integer NOT NULL, slice integer NOT NULL);
CREATE INDEX runs_of_slice ON runs (slice);
CREATE TABLE tallies (place integer PRIMARY KEY, bytes blob NOT NULL);
CREATE TABLE stale (slice integer NOT NULL, part integer NOT NULL, marks integer NOT NULL, PRIMARY KEY (slice, part)) WITHOUT ROWID;
CREATE TABLE state (one integer PRIMARY KEY CHECK (one = 1), row integer NOT NULL, session integer NOT NULL, change integer NOT NULL);
INSERT INTO state VALUES (1, 0, 0, 0);",
    cache_kib: 1_024,
    overwrites: false,
};

/// The kinds of change that make a bucket stale.
pub(crate) const RECOMPUTED_KINDS: [ChangeKind; 5] = [
    ChangeKind::SessionStarted,
    ChangeKind::SessionEnded,
    ChangeKind::SessionDeleted,
    ChangeKind::Revision,
    ChangeKind::MessagesDeleted,
];

/// The progress of the rollup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RollupCheckpoint {
    /// Every message up to this row is counted.
    pub(crate) row: i64,
    /// Every session up to this row is counted, or will be because its bucket is stale.
    pub(crate) session: i64,
    /// Every change up to this one was processed.
    pub(crate) change: Seq,
}

/// The parts of a bucket that are counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BucketPart {
    /// The messages that were said in it.
    Messages,
    /// The sessions that began in it.
    Sessions,
}

/// A part of a bucket that must be recomputed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StaleBucket {
    pub(crate) bucket: i64,
    pub(crate) part: BucketPart,
    /// How often it was marked as stale.
    pub(crate) marks: i64,
}

/// Consecutive rows that are all in one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRun {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) bucket: i64,
}

/// The rollup file, opened by its writer.
pub(crate) struct RollupFile {
    connection: Connection,
}

/// Returns the path of the rollup file of this database.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    FILE.path_of(database)
}

impl RollupFile {
    /// Opens the file. Creates an empty one if it is missing or has a different layout.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        FILE.open(path).map(|connection| Self { connection })
    }

    /// Replaces the file, if it exists, with an empty one.
    pub(crate) fn recreate(path: &Path) -> rusqlite::Result<Self> {
        FILE.recreate(path).map(|connection| Self { connection })
    }

    /// Returns the progress of the rollup.
    pub(crate) fn read_checkpoint(&self) -> rusqlite::Result<RollupCheckpoint> {
        read_checkpoint(&self.connection)
    }

    /// Begins a transaction that changes the rollup.
    pub(crate) fn begin_change(&mut self) -> rusqlite::Result<RollupTransaction<'_>> {
        Ok(RollupTransaction { tx: self.connection.transaction()?, touched: BTreeSet::new() })
    }
}

/// Returns the progress of the rollup in this file.
pub(super) fn read_checkpoint(connection: &Connection) -> rusqlite::Result<RollupCheckpoint> {
    let sql = "SELECT row, session, change FROM state";
    connection.prepare_cached(sql)?.query_row([], |row| {
        Ok(RollupCheckpoint { row: row.get(0)?, session: row.get(1)?, change: row.get(2)? })
    })
}

/// Returns the stored buckets of a range, by their numbers. Empty buckets are left out.
pub(super) fn read_buckets(
    connection: &Connection,
    resolution: Resolution,
    numbers: &std::ops::Range<i64>,
) -> rusqlite::Result<Vec<(i64, StatsBucket)>> {
    let first = resolution.storage_key(0);
    let sql = "SELECT place - ?3, bytes FROM tallies WHERE place >= ?1 AND place < ?2 ORDER BY place";
    let mut statement = connection.prepare_cached(sql)?;
    let range = params![resolution.storage_key(numbers.start), resolution.storage_key(numbers.end), first];
    let found =
        statement.query_map(range, |row| Ok((row.get(0)?, parse_bucket(row.get_ref(1)?.as_blob()?)?)))?;
    found.collect()
}

/// Returns the number of buckets of a range that must be recomputed.
pub(super) fn count_stale(connection: &Connection, buckets: &std::ops::Range<i64>) -> rusqlite::Result<u64> {
    let sql = "SELECT count(DISTINCT slice) FROM stale WHERE slice >= ?1 AND slice < ?2";
    connection.prepare_cached(sql)?.query_row([buckets.start, buckets.end], |row| row.get(0))
}

/// A transaction that changes the rollup. Its commit updates the hours and days of the buckets that it
/// touched.
pub(crate) struct RollupTransaction<'c> {
    tx: Transaction<'c>,
    /// Hours with a bucket that was recomputed.
    touched: BTreeSet<i64>,
}

impl RollupTransaction<'_> {
    /// Adds newly counted rows to the buckets of five minutes, hours and days. `runs` names the rows in
    /// their order.
    pub(crate) fn add_rows(
        &self,
        counted: &BTreeMap<i64, StatsBucket>,
        runs: &[RowRun],
    ) -> rusqlite::Result<()> {
        for resolution in Resolution::ALL {
            let mut sums: BTreeMap<i64, StatsBucket> = BTreeMap::new();
            for (bucket, stats) in counted {
                sums.entry(Resolution::FiveMinutes.coarser_bucket(resolution, *bucket))
                    .or_default()
                    .merge(stats);
            }
            for (number, more) in sums {
                let mut sum = self.read_bucket(resolution, number)?;
                sum.merge(&more);
                self.put_bucket(resolution, number, &sum)?;
            }
        }
        runs.iter().try_for_each(|run| self.add_run(*run))
    }

    /// Adds rows that follow all counted rows.
    fn add_run(&self, RowRun { first, last, bucket }: RowRun) -> rusqlite::Result<()> {
        let longer = "UPDATE runs SET last = ?2 WHERE first = (SELECT max(first) FROM runs) AND last = ?1 AND slice = ?3";
        if self.tx.prepare_cached(longer)?.execute([first - 1, last, bucket])? == 0 {
            let sql = "INSERT INTO runs (first, last, slice) VALUES (?1, ?2, ?3)";
            self.tx.prepare_cached(sql)?.execute([first, last, bucket])?;
        }
        Ok(())
    }

    /// Returns the next run of a bucket after the row `behind`.
    pub(crate) fn next_run(&self, bucket: i64, behind: i64) -> rusqlite::Result<Option<RowRun>> {
        const REACHES_OVER: &str =
            "SELECT ?2 + 1, last FROM runs WHERE slice = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
        const BEGINS_LATER: &str =
            "SELECT first, last FROM runs WHERE slice = ?1 AND first > ?2 ORDER BY first LIMIT 1";
        let run = |row: &rusqlite::Row<'_>| Ok(RowRun { first: row.get(0)?, last: row.get(1)?, bucket });
        let find = |sql| self.tx.prepare_cached(sql)?.query_row([bucket, behind], run).optional();
        match find(REACHES_OVER)? {
            Some(run) if run.last > behind => Ok(Some(run)),
            _ => find(BEGINS_LATER),
        }
    }

    /// Moves a row to another bucket than it was counted into, and marks that bucket as stale.
    pub(crate) fn move_row(&self, row: i64, bucket: i64) -> rusqlite::Result<()> {
        let sql = "SELECT first, last, slice FROM runs WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
        let run = |row: &rusqlite::Row<'_>| {
            Ok(RowRun { first: row.get(0)?, last: row.get(1)?, bucket: row.get(2)? })
        };
        let Some(run) = self.tx.prepare_cached(sql)?.query_row([row], run).optional()? else { return Ok(()) };
        self.tx.prepare_cached("DELETE FROM runs WHERE first = ?1")?.execute([run.first])?;
        let parts = [
            RowRun { last: row - 1, ..run },
            RowRun { first: row, last: row, bucket },
            RowRun { first: row + 1, ..run },
        ];
        let mut insert =
            self.tx.prepare_cached("INSERT INTO runs (first, last, slice) VALUES (?1, ?2, ?3)")?;
        for part in parts.into_iter().filter(|part| part.first <= part.last) {
            insert.execute([part.first, part.last, part.bucket])?;
        }
        self.mark_stale(bucket, BucketPart::Messages)
    }

    /// Forgets the rows after this one: they no longer exist, and their numbers may be reused.
    pub(crate) fn forget_rows_after(&self, row: i64) -> rusqlite::Result<()> {
        let sql = "SELECT DISTINCT slice FROM runs WHERE last > ?1";
        let buckets = self
            .tx
            .prepare_cached(sql)?
            .query_map([row], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        self.tx.prepare_cached("DELETE FROM runs WHERE first > ?1")?.execute([row])?;
        self.tx.prepare_cached("UPDATE runs SET last = ?1 WHERE last > ?1")?.execute([row])?;
        buckets.into_iter().try_for_each(|bucket| self.mark_stale(bucket, BucketPart::Messages))
    }

    /// Marks this part of a bucket for a recomputation.
    pub(crate) fn mark_stale(&self, bucket: i64, part: BucketPart) -> rusqlite::Result<()> {
        let sql = "INSERT INTO stale (slice, part, marks) VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET marks = marks + 1";
        self.tx.prepare_cached(sql)?.execute([bucket, part_code(part)]).map(drop)
    }

    /// Marks both parts of every counted bucket from `first` to `last`.
    pub(crate) fn mark_range_stale(&self, first: i64, last: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO stale (slice, part, marks) SELECT place - ?3, ?4, 1 FROM tallies \
                   WHERE place BETWEEN ?1 AND ?2 ON CONFLICT DO UPDATE SET marks = marks + 1";
        let from = Resolution::FiveMinutes.storage_key(first);
        let to = Resolution::FiveMinutes.storage_key(last);
        let mut mark = self.tx.prepare_cached(sql)?;
        for part in [BucketPart::Messages, BucketPart::Sessions] {
            mark.execute([from, to, Resolution::FiveMinutes.storage_key(0), part_code(part)])?;
        }
        Ok(())
    }

    /// Returns up to `limit` stale parts: first those up to `now`, newest first, then those in the future.
    /// Messages that one user dated into the future must not delay the counts of all other users.
    pub(crate) fn next_stale(&self, now: i64, limit: usize) -> rusqlite::Result<Vec<StaleBucket>> {
        const PAST: &str =
            "SELECT slice, part, marks FROM stale WHERE slice <= ?1 ORDER BY slice DESC, part DESC LIMIT ?2";
        const FUTURE: &str =
            "SELECT slice, part, marks FROM stale WHERE slice > ?1 ORDER BY slice, part LIMIT ?2";
        let mut stale = Vec::new();
        for sql in [PAST, FUTURE] {
            let mut statement = self.tx.prepare_cached(sql)?;
            let found = statement.query_map(params![now, limit - stale.len()], |row| {
                let is_of_messages = row.get::<_, i64>(1)? == part_code(BucketPart::Messages);
                let part = if is_of_messages { BucketPart::Messages } else { BucketPart::Sessions };
                Ok(StaleBucket { bucket: row.get(0)?, part, marks: row.get(2)? })
            })?;
            stale.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(stale)
    }

    /// Stores the recomputed part of a bucket. The part stays stale if it was marked again in the meantime.
    pub(crate) fn put_recomputed(
        &mut self,
        stale: StaleBucket,
        counted: StatsBucket,
    ) -> rusqlite::Result<()> {
        let StaleBucket { bucket, part, marks } = stale;
        let mut stats = self.read_bucket(Resolution::FiveMinutes, bucket)?;
        match part {
            BucketPart::Messages => stats.messages = counted.messages,
            BucketPart::Sessions => stats.sessions = counted.sessions,
        }
        self.put_bucket(Resolution::FiveMinutes, bucket, &stats)?;
        self.touched.insert(Resolution::FiveMinutes.coarser_bucket(Resolution::Hour, bucket));
        let sql = "DELETE FROM stale WHERE slice = ?1 AND part = ?2 AND marks = ?3";
        self.tx.prepare_cached(sql)?.execute([bucket, part_code(part), marks]).map(drop)
    }

    /// True if a bucket was recomputed.
    pub(crate) fn has_changed(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Updates hours and days, and commits the changes together with the progress that they reach.
    pub(crate) fn commit(self, checkpoint: RollupCheckpoint) -> rusqlite::Result<()> {
        for hour in &self.touched {
            self.roll_up(Resolution::FiveMinutes, Resolution::Hour, *hour)?;
        }
        let days: BTreeSet<_> =
            self.touched.iter().map(|hour| Resolution::Hour.coarser_bucket(Resolution::Day, *hour)).collect();
        for day in days {
            self.roll_up(Resolution::Hour, Resolution::Day, day)?;
        }
        let sql = "UPDATE state SET row = ?1, session = ?2, change = ?3";
        self.tx.prepare_cached(sql)?.execute(params![
            checkpoint.row,
            checkpoint.session,
            checkpoint.change
        ])?;
        self.tx.commit()
    }

    /// Sets a coarse bucket to the sum of the finer ones in it.
    fn roll_up(&self, fine: Resolution, coarse: Resolution, number: i64) -> rusqlite::Result<()> {
        let parts = coarse.micros() / fine.micros();
        let mut sum = StatsBucket::default();
        for (_, part) in read_buckets(&self.tx, fine, &(number * parts..(number + 1) * parts))? {
            sum.merge(&part);
        }
        self.put_bucket(coarse, number, &sum)
    }

    fn read_bucket(&self, resolution: Resolution, number: i64) -> rusqlite::Result<StatsBucket> {
        let sql = "SELECT bytes FROM tallies WHERE place = ?1";
        let found = |row: &rusqlite::Row<'_>| parse_bucket(row.get_ref(0)?.as_blob()?);
        let found =
            self.tx.prepare_cached(sql)?.query_row([resolution.storage_key(number)], found).optional()?;
        Ok(found.unwrap_or_default())
    }

    fn put_bucket(&self, resolution: Resolution, number: i64, stats: &StatsBucket) -> rusqlite::Result<()> {
        let place = resolution.storage_key(number);
        if stats.is_empty() {
            return self
                .tx
                .prepare_cached("DELETE FROM tallies WHERE place = ?1")?
                .execute([place])
                .map(drop);
        }
        let sql = "INSERT OR REPLACE INTO tallies (place, bytes) VALUES (?1, ?2)";
        self.tx.prepare_cached(sql)?.execute(params![place, stats.to_bytes()]).map(drop)
    }
}

fn part_code(part: BucketPart) -> i64 {
    match part {
        BucketPart::Messages => 1,
        BucketPart::Sessions => 2,
    }
}

/// Bytes that do not form a bucket are treated as damage.
fn parse_bucket(bytes: &[u8]) -> rusqlite::Result<StatsBucket> {
    let damage = || {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        rusqlite::Error::SqliteFailure(corrupt, Some("a bucket of the statistics cannot be read".into()))
    };
    StatsBucket::from_bytes(bytes).ok_or_else(damage)
}
