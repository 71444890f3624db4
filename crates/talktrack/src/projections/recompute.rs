//! Recomputes a part of a bucket from its rows, a moment's work at a time.

use std::time::Duration;

use rusqlite::{Row, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::message::Role;
use talktrack_core::record::Status;
use talktrack_core::stats::{Resolution, StatsBucket};

use crate::local::database::{column_or_null, parse_time};
use crate::store::sqlite::rollup::{BucketPart, RollupTransaction, StaleBucket};

/// A recomputation that is in progress.
pub(super) struct Recomputation {
    pub(super) stale: StaleBucket,
    pub(super) counted: StatsBucket,
    /// The time that it has taken so far.
    pub(super) spent: Duration,
    /// The last row that was counted.
    row: i64,
    /// The start and the id of the last session that was counted.
    session: (String, String),
}

/// The parts of a message that are counted.
pub(super) struct CountedRow<'r> {
    pub(super) row: i64,
    pub(super) bucket: i64,
    pub(super) role: Role,
    pub(super) interrupted: bool,
    pub(super) metrics: Option<&'r str>,
}

/// Reads a row of `rowid, created_at, role, interrupted, metrics`. `None` if it cannot be read.
pub(super) fn read_counted_row<'r>(row: &'r Row<'_>) -> rusqlite::Result<Option<CountedRow<'r>>> {
    let at = column_or_null(row, 1, parse_time)?;
    let role = column_or_null(row, 2, |word| word.parse::<Role>().ok())?;
    let Some((at, role)) = at.zip(role) else { return Ok(None) };
    Ok(Some(CountedRow {
        row: row.get(0)?,
        bucket: Resolution::FiveMinutes.bucket_of(at),
        role,
        interrupted: row.get(3).unwrap_or_default(),
        metrics: row.get_ref(4)?.as_str_or_null().ok().flatten(),
    }))
}

impl Recomputation {
    pub(super) fn new(stale: StaleBucket) -> Self {
        let begins = bucket_start(stale.bucket);
        let counted = StatsBucket::default();
        let spent = Duration::ZERO;
        Self { stale, counted, spent, row: 0, session: (begins, String::new()) }
    }

    /// Counts at most `rows` further rows, and subtracts them from `rows`. Returns true if the recomputation
    /// is done.
    pub(super) fn advance(
        &mut self,
        moment: &Transaction<'_>,
        change: &RollupTransaction<'_>,
        rows: &mut usize,
    ) -> rusqlite::Result<bool> {
        match self.stale.part {
            BucketPart::Messages => self.count_messages(moment, change, rows),
            BucketPart::Sessions => self.count_sessions(moment, rows),
        }
    }

    fn count_messages(
        &mut self,
        moment: &Transaction<'_>,
        change: &RollupTransaction<'_>,
        left: &mut usize,
    ) -> rusqlite::Result<bool> {
        let sql = "SELECT rowid, created_at, role, interrupted, metrics FROM conversation_messages \
                   WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT ?3";
        let mut statement = moment.prepare_cached(sql)?;
        let bucket = self.stale.bucket;
        while *left > 0 {
            let Some(run) = change.next_run(bucket, self.row)? else { return Ok(true) };
            let limit = *left;
            let mut seen = 0;
            let mut rows = statement.query(params![run.first, run.last, limit])?;
            while let Some(row) = rows.next()? {
                self.row = row.get(0)?;
                seen += 1;
                match read_counted_row(row)? {
                    Some(said) if said.bucket == bucket => {
                        self.counted.messages.add_message(said.role, said.interrupted, said.metrics);
                    }
                    // The message moved to an earlier time after it was first counted.
                    Some(said) => change.move_row(said.row, said.bucket)?,
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

    fn count_sessions(&mut self, moment: &Transaction<'_>, left: &mut usize) -> rusqlite::Result<bool> {
        let sql = "SELECT started_at, session_id, status, duration_seconds FROM conversation_sessions \
                   WHERE (started_at, session_id) > (?1, ?2) AND started_at < ?3 ORDER BY started_at, session_id LIMIT ?4";
        let mut statement = moment.prepare_cached(sql)?;
        let limit = *left;
        let mut seen = 0;
        let (begins, id) = &self.session;
        let mut rows = statement.query(params![begins, id, bucket_start(self.stale.bucket + 1), limit])?;
        let mut last = None;
        while let Some(row) = rows.next()? {
            seen += 1;
            if seen == limit {
                last = Some((row.get(0)?, row.get(1)?));
            }
            let status = column_or_null(row, 2, Status::parse)?.unwrap_or(Status::Active);
            self.counted.sessions.add_session(status, row.get(3).ok().flatten());
        }
        *left = left.saturating_sub(seen.max(1));
        let is_done = last.is_none();
        self.session = last.unwrap_or_default();
        Ok(is_done)
    }
}

/// Returns the beginning of a bucket, in the spelling of the columns.
fn bucket_start(bucket: i64) -> String {
    let moment = Timestamp::from_micros(bucket.saturating_mul(Resolution::FiveMinutes.micros()));
    // No message can be later than the last year that can be written.
    moment.map_or_else(|| "9999-12-31T23:59:59.999999Z".to_owned(), |moment| moment.to_string())
}
