//! The connections that read the file: one for look-ups, and a pool for all other queries.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::Connection;
use talktrack_core::error::ReadError;

use crate::local::database::{self, read_error};
use crate::local::reader_pool::ReaderPool;

/// The connections of a reader and of its views. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ReadConnections {
    database: Arc<Path>,
    /// Looks up single rows by their keys. Writes to sessions that are not in memory wait for these look-ups, so no
    /// other query uses this connection.
    lookups: Arc<Mutex<Connection>>,
    /// Runs all other queries. A slow one keeps one connection and one core busy.
    pool: Arc<ReaderPool<Connection>>,
}

impl ReadConnections {
    /// Opens the connection for look-ups. `queries` is the number of other queries that run at once.
    pub(super) fn open(path: &Path, queries: usize) -> Result<Self, ReadError> {
        Ok(Self {
            database: path.into(),
            lookups: Arc::new(Mutex::new(database::open_to_read(path).map_err(read_error)?)),
            pool: Arc::new(ReaderPool::new(queries)),
        })
    }

    /// The path of the file.
    pub(super) fn database(&self) -> &Path {
        &self.database
    }

    /// Looks up rows by their keys, on the connection that is kept for this. A query whose cost grows with the size
    /// of the file belongs to [`Self::run_query`].
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let lookups = Arc::clone(&self.lookups);
        let answer = tokio::task::spawn_blocking(move || {
            let connection = lookups.lock();
            query(&connection).map_err(|error| to_read_error(&connection, error))
        });
        answer.await.map_err(ReadError::unavailable)?
    }

    /// Runs a query on a connection of the pool. Waits while other queries keep all cores but one busy.
    pub(super) async fn run_query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let query =
            |connection: &Connection| query(connection).map_err(|error| to_read_error(connection, error));
        self.run_within(None, query).await
    }

    /// Runs a query on a connection of the pool, and interrupts it after `timeout`.
    pub(super) async fn run_within<T, E>(
        &self,
        timeout: Option<Duration>,
        query: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ReadError> + Send + 'static,
    {
        let database = Arc::clone(&self.database);
        let open = move || Ok(database::open_to_read(&database).map_err(read_error)?);
        self.pool.run(timeout, open, query).await
    }
}

/// Converts the error of a query. If it says that the file is damaged, this notes it for the next start of the
/// process that writes the file.
pub(super) fn to_read_error(connection: &Connection, error: rusqlite::Error) -> ReadError {
    match database::describe_damage(connection, &error) {
        Some(damage) => ReadError::damaged(damage),
        None => ReadError::unavailable(error),
    }
}
