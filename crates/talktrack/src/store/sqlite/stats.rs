//! Reads statistics: for all users from the rollup, for one user from the rows.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;
use talktrack_core::message::Role;
use talktrack_core::record::Status;
use talktrack_core::stats::{Lag, Stats, StatsCounter, StatsError, TimeRange};

use crate::changes;
use crate::local::database::{self, UuidText, column_or_null, parse_time};
use crate::local::reader_pool::PooledConnection as _;
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
        let changes = self.run_query(since).await?;
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
    const SESSIONS: &str = "SELECT started_at, status, duration_seconds FROM conversation_sessions \
         WHERE user_id = ?1 AND started_at >= ?2 AND started_at < ?3";
    const MESSAGES: &str = "SELECT m.created_at, m.role, m.interrupted, m.metrics FROM conversation_sessions s \
         CROSS JOIN conversation_messages m ON m.session_id = s.session_id AND m.created_at >= ?2 AND m.created_at < ?3 \
         WHERE s.user_id = ?1";
    let tx = connection.unchecked_transaction()?;
    let user = UuidText::new(user_id);
    let since = range.since().to_string();
    let until = range.until().to_string();
    let mut counter = StatsCounter::new(range);
    let time = |row: &Row<'_>| column_or_null(row, 0, parse_time);
    let mut sessions = tx.prepare(SESSIONS)?;
    let mut rows = sessions.query(params![user.as_str(), since, until])?;
    while let Some(row) = rows.next()? {
        let status = column_or_null(row, 1, Status::parse)?.unwrap_or(Status::Active);
        let seconds = row.get(2).ok().flatten();
        time(row)?.into_iter().for_each(|at: Timestamp| counter.count_session(at, status, seconds));
    }
    let mut messages = tx.prepare(MESSAGES)?;
    let mut rows = messages.query(params![user.as_str(), since, until])?;
    while let Some(row) = rows.next()? {
        let role = column_or_null(row, 1, |word| word.parse::<Role>().ok())?;
        let Some((at, role)) = time(row)?.zip(role) else { continue };
        let metrics = row.get_ref(3)?.as_str_or_null().ok().flatten();
        counter.count_message(at, role, row.get(2).unwrap_or_default(), metrics);
    }
    Ok(counter.into_stats())
}
