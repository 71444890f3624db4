//! Recomputes a part of a bucket from its rows, a moment's work at a time.

use std::time::Duration;

use rusqlite::Transaction;
use talktrack_core::clock::Timestamp;
use talktrack_core::stats::{Resolution, StatsBucket};

use crate::local::tables::messages::counted;
use crate::local::tables::sessions::counted::{self as counted_sessions, StartPlace, VisitedStarts};
use crate::store::sqlite::rollup::{BucketPart, RollupTransaction, StaleBucket};

/// A recomputation that is in progress.
pub(super) struct Recomputation {
    pub(super) stale: StaleBucket,
    pub(super) counted: StatsBucket,
    /// The time that it has taken so far.
    pub(super) spent: Duration,
    /// The last row that was counted.
    row: i64,
    /// The last session that was counted.
    session: StartPlace,
}

impl Recomputation {
    pub(super) fn new(stale: StaleBucket) -> Self {
        let session = StartPlace { started_at: bucket_start(stale.bucket), session_id: String::new() };
        let counted = StatsBucket::default();
        let spent = Duration::ZERO;
        Self { stale, counted, spent, row: 0, session }
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
        let bucket = self.stale.bucket;
        while *left > 0 {
            let Some(run) = change.next_run(bucket, self.row)? else { return Ok(true) };
            let limit = *left;
            let mut seen = 0;
            counted::visit_between(moment, run.first, run.last, limit, |row, said| {
                self.row = row;
                seen += 1;
                let Some(said) = said else { return Ok(()) };
                let said_in = Resolution::FiveMinutes.bucket_of(said.created_at);
                if said_in != bucket {
                    // The message moved to an earlier time after it was first counted.
                    return change.move_row(row, said_in);
                }
                if !said.is_final {
                    return Ok(());
                }
                self.counted.messages.add_message(said.role, said.interrupted, said.metrics);
                Ok(())
            })?;
            if seen < limit {
                self.row = run.last;
            }
            *left = left.saturating_sub(seen.max(1));
        }
        Ok(false)
    }

    fn count_sessions(&mut self, moment: &Transaction<'_>, left: &mut usize) -> rusqlite::Result<bool> {
        let until = bucket_start(self.stale.bucket + 1);
        let sessions = &mut self.counted.sessions;
        let visited =
            counted_sessions::visit_starts(moment, &self.session, &until, *left, |status, seconds| {
                sessions.add_session(status, seconds);
            });
        let VisitedStarts { count, last } = visited?;
        *left = left.saturating_sub(count.max(1));
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
