//! Reads statistics: for all users from the rollup, for one user from the rows, for dead letters from their
//! index.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Row, params};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::changes;
use crate::clock::Timestamp;
use crate::database::{self, UuidText, column_or_null, parse_time};
use crate::error::ReadError;
use crate::message::Role;
use crate::record::Status;
use crate::stats::{Behind, Counter, Range, Stats, StatsError};
use crate::store::sqlite::search::Interrupt;
use crate::store::sqlite::{SqliteReader, derived, tallies};

/// The number of queries that run at the same time. Further queries wait.
const SEATS: usize = 2;
/// The longest time that a query may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The highest number of unprocessed changes that is reported.
const MOST_CHANGES: usize = 10_000;

/// Runs queries for statistics.
#[derive(Debug)]
pub(super) struct Statistics {
    database: PathBuf,
    seats: Arc<Semaphore>,
}

impl Statistics {
    pub(super) fn of(database: &Path) -> Self {
        Self { database: database.to_owned(), seats: Arc::new(Semaphore::new(SEATS)) }
    }

    /// Runs a query on a connection of its own, so that no other reader waits, and interrupts the query
    /// after [`PATIENCE`].
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        open: impl FnOnce(&Path) -> Result<Connection, StatsError> + Send + 'static,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StatsError> {
        // Held until the query is finished, even if the caller has stopped waiting. The semaphore is never
        // closed.
        let seat = Arc::clone(&self.seats).acquire_owned().await;
        let path = self.database.clone();
        let tallies = tallies::path_of(&path);
        let connection = blocking(move || open(&path)).await?;
        let interrupt = Interrupt(Some(connection.get_interrupt_handle()));
        let answer = blocking(move || {
            let answer = question(&connection).map_err(|error| failed(&connection, &tallies, &error));
            drop(seat);
            answer
        });
        interrupt.unless_within(PATIENCE, answer).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StatsError> + Send + 'static,
) -> Result<T, StatsError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|stopped| Err(ReadError(stopped.to_string()).into()))
}

fn failed(connection: &Connection, tallies: &Path, error: &rusqlite::Error) -> StatsError {
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return StatsError::TooMuch;
    }
    if database::is_damage(error)
        && let Some(path) = connection.path().map(Path::new)
    {
        // The process that writes the file checks it.
        database::mark_suspect(path, &error.to_string());
        if path == tallies {
            return StatsError::NotCounted(
                "what was counted is damaged, and is counted anew; try again soon".into(),
            );
        }
    }
    ReadError(error.to_string()).into()
}

fn open_database(path: &Path) -> Result<Connection, StatsError> {
    Ok(database::open_to_read(path).map_err(ReadError::from)?)
}

fn open_tallies(database: &Path) -> Result<Connection, StatsError> {
    let missing = || StatsError::NotCounted("nothing is counted yet; try again soon".into());
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = derived::opened(|| {
        let connection = Connection::open_with_flags(tallies::path_of(database), flags)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "query_only", true)?;
        tallies::reached(&connection).map(|_| connection)
    });
    // If the file is incomplete, it has just been created.
    opened.map_err(|_| missing())
}

impl SqliteReader {
    /// Returns the statistics for a range of time that are counted so far.
    pub(super) async fn tallied(&self, range: Range) -> Result<Stats, StatsError> {
        let question = move |connection: &Connection| {
            let tx = connection.unchecked_transaction()?;
            let reached = tallies::reached(&tx)?;
            let slices = tallies::stale_in(&tx, &range.slices())?;
            Ok((reached, slices, tallies::of(&tx, range.grain(), &range.numbers())?))
        };
        let (reached, slices, found) = self.statistics.ask(open_tallies, question).await?;
        let newest = self.end().await?;
        let messages = newest.saturating_sub(reached.row).max(0).unsigned_abs();
        let since = move |connection: &Connection| {
            changes::count_kinds_since(connection, &tallies::RECOUNTED, reached.change, MOST_CHANGES)
        };
        let changes = self.ask(since).await?;
        Ok(Stats::tallied(range, found, Behind { messages, changes, slices }))
    }

    /// Returns statistics for a range of time about the sessions of this user.
    pub(super) async fn counted_of(&self, user_id: Uuid, range: Range) -> Result<Stats, StatsError> {
        if self.viewer().is_some_and(|viewer| viewer != user_id) {
            return Ok(Counter::of(range).into_stats());
        }
        self.statistics.ask(open_database, move |connection| count_of(connection, user_id, range)).await
    }

    /// Returns, for each stretch of a range, the number of this data directory's messages that became dead
    /// letters in it and still are.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letters_over(&self, range: &Range) -> Result<Vec<u64>, ReadError> {
        let range = *range;
        self.ask(move |connection| {
            let sql = "SELECT died_at FROM dead_letters \
                       WHERE message_id IS NOT NULL AND died_at >= ?1 AND died_at < ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let mut rows = statement.query([range.since().to_string(), range.until().to_string()])?;
            let mut stretches = vec![0; range.len()];
            while let Some(row) = rows.next()? {
                let at = column_or_null(row, 0, parse_time)?;
                let stretch = at.and_then(|at| stretches.get_mut(range.place_of(at)?));
                stretch.into_iter().for_each(|count| *count += 1);
            }
            Ok(stretches)
        })
        .await
    }
}

/// Counts row by row, through the indexes of the user's sessions.
fn count_of(connection: &Connection, user_id: Uuid, range: Range) -> rusqlite::Result<Stats> {
    const SESSIONS: &str = "SELECT started_at, status, duration_seconds FROM conversation_sessions \
         WHERE user_id = ?1 AND started_at >= ?2 AND started_at < ?3";
    const MESSAGES: &str = "SELECT m.created_at, m.role, m.interrupted, m.metrics FROM conversation_sessions s \
         CROSS JOIN conversation_messages m ON m.session_id = s.session_id AND m.created_at >= ?2 AND m.created_at < ?3 \
         WHERE s.user_id = ?1";
    let tx = connection.unchecked_transaction()?;
    let (user, since, until) = (UuidText::new(user_id), range.since().to_string(), range.until().to_string());
    let mut counter = Counter::of(range);
    let time = |row: &Row<'_>| column_or_null(row, 0, parse_time);
    let mut sessions = tx.prepare(SESSIONS)?;
    let mut rows = sessions.query(params![user.as_str(), since, until])?;
    while let Some(row) = rows.next()? {
        let status = column_or_null(row, 1, Status::parse)?.unwrap_or(Status::Active);
        let seconds = row.get(2).ok().flatten();
        time(row)?.into_iter().for_each(|at: Timestamp| counter.session(at, status, seconds));
    }
    let mut messages = tx.prepare(MESSAGES)?;
    let mut rows = messages.query(params![user.as_str(), since, until])?;
    while let Some(row) = rows.next()? {
        let role = column_or_null(row, 1, |word| word.parse::<Role>().ok())?;
        let Some((at, role)) = time(row)?.zip(role) else { continue };
        let metrics = row.get_ref(3)?.as_str_or_null().ok().flatten();
        counter.message(at, role, row.get(2).unwrap_or_default(), metrics);
    }
    Ok(counter.into_stats())
}
