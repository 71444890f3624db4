//! Reads statistics: for all users from the rollup, for one user from the rows.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;
use talktrack_core::stats::{Lag, Stats, StatsCounter, StatsError, TimeRange};

use crate::local::database::{self};
use crate::local::reader_pool::PooledConnection as _;
use crate::local::tables::{changes, messages, sessions};
use crate::store::sqlite::connections::to_read_error;
use crate::store::sqlite::derived::DerivedReader;
use crate::store::sqlite::{SqliteReader, rollup};

/// The longest time that a query may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The highest number of unprocessed changes that is reported.
const MOST_CHANGES: usize = 10_000;

fn open_rollup(database: &Path) -> Result<DerivedReader, StatsError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = DerivedReader::open(rollup::path_of(database), |file| {
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(QUERY_TIMEOUT)?;
        connection.pragma_update(None, "query_only", true)?;
        rollup::read_checkpoint(&connection).map(|_| connection)
    });
    // If the file is incomplete, it has just been created.
    opened.map_err(|_| StatsError::NotCounted("nothing is counted yet; try again soon".into()))
}

fn to_rollup_error(reader: &DerivedReader, error: &rusqlite::Error) -> StatsError {
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return StatsError::TooMuch;
    }
    if database::is_damage(error) {
        // The process that writes the file checks it.
        database::mark_suspect(reader.file(), &error.to_string());
        return StatsError::NotCounted(
            "the stored statistics are damaged, and are counted again; try again soon".into(),
        );
    }
    ReadError::unavailable(error.to_string()).into()
}

fn to_count_error(connection: &Connection, error: rusqlite::Error) -> StatsError {
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return StatsError::TooMuch;
    }
    to_read_error(connection, error).into()
}

impl SqliteReader {
    /// Returns the statistics for a range of time that are counted so far.
    pub(super) async fn rollup_stats(&self, range: TimeRange) -> Result<Stats, StatsError> {
        let query = move |connection: &Connection| {
            let tx = connection.unchecked_transaction()?;
            let checkpoint = rollup::read_checkpoint(&tx)?;
            let stale_buckets = rollup::count_stale(&tx, &range.five_minute_buckets())?;
            Ok((
                checkpoint,
                stale_buckets,
                rollup::read_buckets(&tx, range.resolution(), &range.bucket_numbers())?,
            ))
        };
        let database = self.connections.database().to_owned();
        let open = move || open_rollup(&database);
        let query = move |reader: &DerivedReader| {
            query(reader.connection()).map_err(|error| to_rollup_error(reader, &error))
        };
        let (checkpoint, stale_buckets, found) = self.rollups.run(Some(QUERY_TIMEOUT), open, query).await?;
        let newest = self.newest_row().await?;
        let messages = newest.saturating_sub(checkpoint.row).max(0).unsigned_abs();
        let since = move |connection: &Connection| {
            changes::count_kinds_since(connection, &rollup::RECOMPUTED_KINDS, checkpoint.change, MOST_CHANGES)
        };
        let changes = self.connections.run_query(since).await?;
        Ok(Stats::from_buckets(range, found, Lag::new(messages, changes, stale_buckets)))
    }

    /// Returns statistics for a range of time about the sessions of this user.
    pub(super) async fn count_user_stats(
        &self,
        user_id: &UserId,
        range: TimeRange,
    ) -> Result<Stats, StatsError> {
        if self.viewer().is_some_and(|viewer| viewer != user_id) {
            return Ok(StatsCounter::new(range).into_stats());
        }
        let user_id = user_id.clone();
        let count = move |connection: &Connection| {
            count_user_rows(connection, &user_id, range).map_err(|error| to_count_error(connection, error))
        };
        self.connections.run_within(Some(QUERY_TIMEOUT), count).await
    }
}

/// Counts row by row, through the indexes of the user's sessions.
fn count_user_rows(connection: &Connection, user_id: &UserId, range: TimeRange) -> rusqlite::Result<Stats> {
    let tx = connection.unchecked_transaction()?;
    let mut counter = StatsCounter::new(range);
    sessions::counted::visit_of_user(&tx, user_id, &range, |at, status, seconds| {
        counter.count_session(at, status, seconds);
    })?;
    messages::counted::visit_of_user(&tx, user_id, &range, |said| {
        counter.count_message(said.created_at, said.role, said.interrupted, said.metrics);
    })?;
    Ok(counter.into_stats())
}
