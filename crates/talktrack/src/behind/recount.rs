//! Recounts a part of a slice from its rows, a moment's work at a time.

use std::time::Duration;

use rusqlite::{Row, Transaction, params};

use crate::clock::Timestamp;
use crate::database::{column_or_null, parse_time};
use crate::message::Role;
use crate::record::Status;
use crate::stats::{Grain, Tally};
use crate::store::sqlite::tallies::{Change, Part, Stale};

/// A recount that is in progress.
pub(super) struct Recount {
    pub(super) stale: Stale,
    pub(super) counted: Tally,
    /// The time that it has taken so far.
    pub(super) spent: Duration,
    /// The last row that was counted.
    row: i64,
    /// The start and the id of the last session that was counted.
    session: (String, String),
}

/// The parts of a message that are counted.
pub(super) struct Counted<'r> {
    pub(super) row: i64,
    pub(super) slice: i64,
    pub(super) role: Role,
    pub(super) interrupted: bool,
    pub(super) metrics: Option<&'r str>,
}

/// Reads a row of `rowid, created_at, role, interrupted, metrics`. `None` if it cannot be read.
pub(super) fn counted<'r>(row: &'r Row<'_>) -> rusqlite::Result<Option<Counted<'r>>> {
    let at = column_or_null(row, 1, parse_time)?;
    let role = column_or_null(row, 2, |word| word.parse::<Role>().ok())?;
    let Some((at, role)) = at.zip(role) else { return Ok(None) };
    Ok(Some(Counted {
        row: row.get(0)?,
        slice: Grain::Slice.number_of(at),
        role,
        interrupted: row.get(3).unwrap_or_default(),
        metrics: row.get_ref(4)?.as_str_or_null().ok().flatten(),
    }))
}

impl Recount {
    pub(super) fn of(stale: Stale) -> Self {
        let begins = beginning(stale.slice);
        let (counted, spent) = (Tally::default(), Duration::ZERO);
        Self { stale, counted, spent, row: 0, session: (begins, String::new()) }
    }

    /// Counts at most `rows` further rows, and subtracts them from `rows`. Returns true if the recount is
    /// done.
    pub(super) fn go_on(
        &mut self,
        moment: &Transaction<'_>,
        change: &Change<'_>,
        rows: &mut usize,
    ) -> rusqlite::Result<bool> {
        match self.stale.part {
            Part::Messages => self.messages(moment, change, rows),
            Part::Sessions => self.sessions(moment, rows),
        }
    }

    fn messages(
        &mut self,
        moment: &Transaction<'_>,
        change: &Change<'_>,
        left: &mut usize,
    ) -> rusqlite::Result<bool> {
        let sql = "SELECT rowid, created_at, role, interrupted, metrics FROM conversation_messages \
                   WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT ?3";
        let mut statement = moment.prepare_cached(sql)?;
        let slice = self.stale.slice;
        while *left > 0 {
            let Some(run) = change.next_run(slice, self.row)? else { return Ok(true) };
            let (limit, mut seen) = (*left, 0);
            let mut rows = statement.query(params![run.first, run.last, limit])?;
            while let Some(row) = rows.next()? {
                self.row = row.get(0)?;
                seen += 1;
                match counted(row)? {
                    Some(said) if said.slice == slice => {
                        self.counted.messages.count(said.role, said.interrupted, said.metrics);
                    }
                    // The message moved to an earlier time after it was first counted.
                    Some(said) => change.move_row(said.row, said.slice)?,
                    None => {}
                }
            }
            if seen < limit {
                self.row = run.last;
            }
            *left = left.saturating_sub(seen.max(1));
        }
        Ok(false)
    }

    fn sessions(&mut self, moment: &Transaction<'_>, left: &mut usize) -> rusqlite::Result<bool> {
        let sql = "SELECT started_at, session_id, status, duration_seconds FROM conversation_sessions \
                   WHERE (started_at, session_id) > (?1, ?2) AND started_at < ?3 ORDER BY started_at, session_id LIMIT ?4";
        let mut statement = moment.prepare_cached(sql)?;
        let (limit, mut seen) = (*left, 0);
        let (begins, id) = &self.session;
        let mut rows = statement.query(params![begins, id, beginning(self.stale.slice + 1), limit])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            seen += 1;
            if seen == limit {
                last = Some((row.get(0)?, row.get(1)?));
            }
            let status = column_or_null(row, 2, Status::parse)?.unwrap_or(Status::Active);
            self.counted.sessions.count(status, row.get(3).ok().flatten());
        }
        *left = left.saturating_sub(seen.max(1));
        let is_done = last.is_none();
        self.session = last.unwrap_or_default();
        Ok(is_done)
    }
}

/// Returns the beginning of a slice, in the spelling of the columns.
fn beginning(slice: i64) -> String {
    let moment = Timestamp::from_micros(slice.saturating_mul(Grain::Slice.micros()));
    // No message can be later than the last year that can be written.
    moment.map_or_else(|| "9999-12-31T23:59:59.999999Z".to_owned(), |moment| moment.to_string())
}
