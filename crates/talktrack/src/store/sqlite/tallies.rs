//! The rollup: a derived file next to the database. It is updated behind the journal and rebuilt if it does
//! not match the database. It contains figures, and which rows were counted into which slice of five
//! minutes, but no text of messages.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use crate::changes::ChangeKind;
use crate::stats::{Grain, Tally};
use crate::store::sqlite::derived::Derived;

/// Consecutive rows in the same slice are one run: messages arrive in the order of time. A stale slice is
/// recounted; `marks` increases with each reason to recount it.
const FILE: Derived = Derived {
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

/// The kinds of change that make a slice stale.
pub(crate) const RECOUNTED: [ChangeKind; 4] =
    [ChangeKind::SessionStarted, ChangeKind::SessionEnded, ChangeKind::SessionDeleted, ChangeKind::Revision];

/// The progress of the rollup.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Every message up to this row is counted.
    pub(crate) row: i64,
    /// Every session up to this row is counted, or will be because its slice is stale.
    pub(crate) session: i64,
    /// Every change up to this one was processed.
    pub(crate) change: i64,
}

/// The parts of a slice that are counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Part {
    /// The messages that were said in it.
    Messages,
    /// The sessions that began in it.
    Sessions,
}

/// A part of a slice that must be recounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stale {
    pub(crate) slice: i64,
    pub(crate) part: Part,
    /// How often it was marked as stale.
    pub(crate) marks: i64,
}

/// Consecutive rows that are all in one slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) slice: i64,
}

/// The rollup file, opened by its writer.
pub(crate) struct Tallies {
    connection: Connection,
}

/// Returns the path of the rollup file of this database.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    FILE.path_of(database)
}

impl Tallies {
    /// Opens the file. Creates an empty one if it is missing or has a different layout.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        FILE.open(path).map(|connection| Self { connection })
    }

    /// Replaces the file, if it exists, with an empty one.
    pub(crate) fn anew(path: &Path) -> rusqlite::Result<Self> {
        FILE.anew(path).map(|connection| Self { connection })
    }

    /// Returns the progress of the rollup.
    pub(crate) fn reached(&self) -> rusqlite::Result<Reached> {
        reached(&self.connection)
    }

    /// Begins a transaction that changes the rollup.
    pub(crate) fn change(&mut self) -> rusqlite::Result<Change<'_>> {
        Ok(Change { tx: self.connection.transaction()?, touched: BTreeSet::new() })
    }
}

/// Returns the progress of the rollup in this file.
pub(super) fn reached(connection: &Connection) -> rusqlite::Result<Reached> {
    let sql = "SELECT row, session, change FROM state";
    connection
        .prepare_cached(sql)?
        .query_row([], |row| Ok(Reached { row: row.get(0)?, session: row.get(1)?, change: row.get(2)? }))
}

/// Returns the tallies of a range, by the numbers of their stretches. Stretches without any are left out.
pub(super) fn of(
    connection: &Connection,
    grain: Grain,
    numbers: &std::ops::Range<i64>,
) -> rusqlite::Result<Vec<(i64, Tally)>> {
    let first = grain.place_of(0);
    let sql = "SELECT place - ?3, bytes FROM tallies WHERE place >= ?1 AND place < ?2 ORDER BY place";
    let mut statement = connection.prepare_cached(sql)?;
    let range = params![grain.place_of(numbers.start), grain.place_of(numbers.end), first];
    let found = statement.query_map(range, |row| Ok((row.get(0)?, tally(row.get_ref(1)?.as_blob()?)?)))?;
    found.collect()
}

/// Returns the number of slices of a range that must be recounted.
pub(super) fn stale_in(connection: &Connection, slices: &std::ops::Range<i64>) -> rusqlite::Result<u64> {
    let sql = "SELECT count(DISTINCT slice) FROM stale WHERE slice >= ?1 AND slice < ?2";
    connection.prepare_cached(sql)?.query_row([slices.start, slices.end], |row| row.get(0))
}

/// A transaction that changes the rollup. Its commit updates the hours and days of the slices that it
/// touched.
pub(crate) struct Change<'c> {
    tx: Transaction<'c>,
    /// Hours with a slice that was recounted.
    touched: BTreeSet<i64>,
}

impl Change<'_> {
    /// Adds newly counted rows to the tallies of their slices, hours and days. `runs` names the rows in
    /// their order.
    pub(crate) fn add(&self, counted: &BTreeMap<i64, Tally>, runs: &[Run]) -> rusqlite::Result<()> {
        for grain in Grain::ALL {
            let mut sums: BTreeMap<i64, Tally> = BTreeMap::new();
            for (slice, tally) in counted {
                sums.entry(Grain::Slice.number_in(grain, *slice)).or_default().add(tally);
            }
            for (number, more) in sums {
                let mut sum = self.tally(grain, number)?;
                sum.add(&more);
                self.put(grain, number, &sum)?;
            }
        }
        runs.iter().try_for_each(|run| self.add_run(*run))
    }

    /// Adds rows that follow all counted rows.
    fn add_run(&self, Run { first, last, slice }: Run) -> rusqlite::Result<()> {
        let longer = "UPDATE runs SET last = ?2 WHERE first = (SELECT max(first) FROM runs) AND last = ?1 AND slice = ?3";
        if self.tx.prepare_cached(longer)?.execute([first - 1, last, slice])? == 0 {
            let sql = "INSERT INTO runs (first, last, slice) VALUES (?1, ?2, ?3)";
            self.tx.prepare_cached(sql)?.execute([first, last, slice])?;
        }
        Ok(())
    }

    /// Returns the next run of a slice after the row `behind`.
    pub(crate) fn next_run(&self, slice: i64, behind: i64) -> rusqlite::Result<Option<Run>> {
        const REACHES_OVER: &str =
            "SELECT ?2 + 1, last FROM runs WHERE slice = ?1 AND first <= ?2 ORDER BY first DESC LIMIT 1";
        const BEGINS_LATER: &str =
            "SELECT first, last FROM runs WHERE slice = ?1 AND first > ?2 ORDER BY first LIMIT 1";
        let run = |row: &rusqlite::Row<'_>| Ok(Run { first: row.get(0)?, last: row.get(1)?, slice });
        let find = |sql| self.tx.prepare_cached(sql)?.query_row([slice, behind], run).optional();
        match find(REACHES_OVER)? {
            Some(run) if run.last > behind => Ok(Some(run)),
            _ => find(BEGINS_LATER),
        }
    }

    /// Moves a row to another slice than it was counted into, and marks that slice as stale.
    pub(crate) fn move_row(&self, row: i64, slice: i64) -> rusqlite::Result<()> {
        let sql = "SELECT first, last, slice FROM runs WHERE first <= ?1 ORDER BY first DESC LIMIT 1";
        let run =
            |row: &rusqlite::Row<'_>| Ok(Run { first: row.get(0)?, last: row.get(1)?, slice: row.get(2)? });
        let Some(run) = self.tx.prepare_cached(sql)?.query_row([row], run).optional()? else { return Ok(()) };
        self.tx.prepare_cached("DELETE FROM runs WHERE first = ?1")?.execute([run.first])?;
        let parts = [
            Run { last: row - 1, ..run },
            Run { first: row, last: row, slice },
            Run { first: row + 1, ..run },
        ];
        let mut insert =
            self.tx.prepare_cached("INSERT INTO runs (first, last, slice) VALUES (?1, ?2, ?3)")?;
        for part in parts.into_iter().filter(|part| part.first <= part.last) {
            insert.execute([part.first, part.last, part.slice])?;
        }
        self.mark(slice, Part::Messages)
    }

    /// Forgets the rows after this one: they no longer exist, and their numbers may be reused.
    pub(crate) fn forget_rows_behind(&self, row: i64) -> rusqlite::Result<()> {
        let sql = "SELECT DISTINCT slice FROM runs WHERE last > ?1";
        let slices = self
            .tx
            .prepare_cached(sql)?
            .query_map([row], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        self.tx.prepare_cached("DELETE FROM runs WHERE first > ?1")?.execute([row])?;
        self.tx.prepare_cached("UPDATE runs SET last = ?1 WHERE last > ?1")?.execute([row])?;
        slices.into_iter().try_for_each(|slice| self.mark(slice, Part::Messages))
    }

    /// Marks this part of a slice for a recount.
    pub(crate) fn mark(&self, slice: i64, part: Part) -> rusqlite::Result<()> {
        let sql = "INSERT INTO stale (slice, part, marks) VALUES (?1, ?2, 1) ON CONFLICT DO UPDATE SET marks = marks + 1";
        self.tx.prepare_cached(sql)?.execute([slice, code(part)]).map(drop)
    }

    /// Marks both parts of every counted slice from `first` to `last`.
    pub(crate) fn mark_all(&self, first: i64, last: i64) -> rusqlite::Result<()> {
        let sql = "INSERT INTO stale (slice, part, marks) SELECT place - ?3, ?4, 1 FROM tallies \
                   WHERE place BETWEEN ?1 AND ?2 ON CONFLICT DO UPDATE SET marks = marks + 1";
        let (from, to) = (Grain::Slice.place_of(first), Grain::Slice.place_of(last));
        let mut mark = self.tx.prepare_cached(sql)?;
        for part in [Part::Messages, Part::Sessions] {
            mark.execute([from, to, Grain::Slice.place_of(0), code(part)])?;
        }
        Ok(())
    }

    /// Returns up to `limit` stale parts: first those up to `now`, newest first, then those in the future.
    /// Messages that one user dated into the future must not delay the counts of all other users.
    pub(crate) fn stale(&self, now: i64, limit: usize) -> rusqlite::Result<Vec<Stale>> {
        const PAST: &str =
            "SELECT slice, part, marks FROM stale WHERE slice <= ?1 ORDER BY slice DESC, part DESC LIMIT ?2";
        const FUTURE: &str =
            "SELECT slice, part, marks FROM stale WHERE slice > ?1 ORDER BY slice, part LIMIT ?2";
        let mut stale = Vec::new();
        for sql in [PAST, FUTURE] {
            let mut statement = self.tx.prepare_cached(sql)?;
            let found = statement.query_map(params![now, limit - stale.len()], |row| {
                let is_of_messages = row.get::<_, i64>(1)? == code(Part::Messages);
                let part = if is_of_messages { Part::Messages } else { Part::Sessions };
                Ok(Stale { slice: row.get(0)?, part, marks: row.get(2)? })
            })?;
            stale.extend(found.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(stale)
    }

    /// Stores the recounted part of a slice. The part stays stale if it was marked again in the meantime.
    pub(crate) fn recounted(&mut self, stale: Stale, counted: Tally) -> rusqlite::Result<()> {
        let Stale { slice, part, marks } = stale;
        let mut tally = self.tally(Grain::Slice, slice)?;
        match part {
            Part::Messages => tally.messages = counted.messages,
            Part::Sessions => tally.sessions = counted.sessions,
        }
        self.put(Grain::Slice, slice, &tally)?;
        self.touched.insert(Grain::Slice.number_in(Grain::Hour, slice));
        let sql = "DELETE FROM stale WHERE slice = ?1 AND part = ?2 AND marks = ?3";
        self.tx.prepare_cached(sql)?.execute([slice, code(part), marks]).map(drop)
    }

    /// True if a slice was recounted.
    pub(crate) fn has_changed(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Updates hours and days, and commits the changes together with the progress that they reach.
    pub(crate) fn commit(self, reached: Reached) -> rusqlite::Result<()> {
        for hour in &self.touched {
            self.sum_up(Grain::Slice, Grain::Hour, *hour)?;
        }
        let days: BTreeSet<_> =
            self.touched.iter().map(|hour| Grain::Hour.number_in(Grain::Day, *hour)).collect();
        for day in days {
            self.sum_up(Grain::Hour, Grain::Day, day)?;
        }
        let sql = "UPDATE state SET row = ?1, session = ?2, change = ?3";
        self.tx.prepare_cached(sql)?.execute([reached.row, reached.session, reached.change])?;
        self.tx.commit()
    }

    /// Sets a coarse stretch to the sum of the finer ones in it.
    fn sum_up(&self, fine: Grain, coarse: Grain, number: i64) -> rusqlite::Result<()> {
        let parts = coarse.micros() / fine.micros();
        let mut sum = Tally::default();
        for (_, part) in of(&self.tx, fine, &(number * parts..(number + 1) * parts))? {
            sum.add(&part);
        }
        self.put(coarse, number, &sum)
    }

    fn tally(&self, grain: Grain, number: i64) -> rusqlite::Result<Tally> {
        let sql = "SELECT bytes FROM tallies WHERE place = ?1";
        let found = |row: &rusqlite::Row<'_>| tally(row.get_ref(0)?.as_blob()?);
        let found = self.tx.prepare_cached(sql)?.query_row([grain.place_of(number)], found).optional()?;
        Ok(found.unwrap_or_default())
    }

    fn put(&self, grain: Grain, number: i64, tally: &Tally) -> rusqlite::Result<()> {
        let place = grain.place_of(number);
        if tally.is_empty() {
            return self
                .tx
                .prepare_cached("DELETE FROM tallies WHERE place = ?1")?
                .execute([place])
                .map(drop);
        }
        let sql = "INSERT OR REPLACE INTO tallies (place, bytes) VALUES (?1, ?2)";
        self.tx.prepare_cached(sql)?.execute(params![place, tally.to_bytes()]).map(drop)
    }
}

fn code(part: Part) -> i64 {
    match part {
        Part::Messages => 1,
        Part::Sessions => 2,
    }
}

/// Bytes that do not form a tally are treated as damage.
fn tally(bytes: &[u8]) -> rusqlite::Result<Tally> {
    let damage = || {
        let corrupt = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        rusqlite::Error::SqliteFailure(corrupt, Some("a tally cannot be read".into()))
    };
    Tally::from_bytes(bytes).ok_or_else(damage)
}
