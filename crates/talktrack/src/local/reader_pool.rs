//! A pool of connections for queries: one query at a time on each connection, and a limited number of them at the
//! same time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, InterruptHandle};
use talktrack_core::error::ReadError;
use tokio::sync::Semaphore;

/// Connections that are kept open between queries.
#[derive(Debug)]
pub(crate) struct ReaderPool<C> {
    idle: Mutex<Vec<C>>,
    permits: Arc<Semaphore>,
}

/// A connection with the files that its queries read.
pub(crate) trait PooledConnection: Send + 'static {
    /// The connection that a query runs on.
    fn connection(&self) -> &Connection;

    /// False if one of the files was replaced, and must be opened again.
    fn is_current(&self) -> bool;
}

impl<C: PooledConnection> ReaderPool<C> {
    /// Creates a pool that runs up to `size` queries at the same time.
    pub(crate) fn new(size: usize) -> Self {
        Self { idle: Mutex::default(), permits: Arc::new(Semaphore::new(size)) }
    }

    /// Runs a query on a thread that may block. Interrupts it after `timeout`, or when the caller stops waiting.
    ///
    /// Waits if as many queries are running as the pool allows. `open` opens another connection if none is idle.
    /// A connection on which a query failed is closed.
    pub(crate) async fn run<T, E>(
        self: &Arc<Self>,
        timeout: Option<Duration>,
        open: impl FnOnce() -> Result<C, E> + Send + 'static,
        query: impl FnOnce(&C) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ReadError> + Send + 'static,
    {
        // Held until the query has ended, even if the caller has stopped waiting. The semaphore is never closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let interrupter = Interrupter::default();
        let pool = Arc::clone(self);
        let running = Arc::clone(&interrupter.0);
        let mut answer = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let reader = pool.take_idle().map_or_else(open, Ok)?;
            running.begin(reader.connection().get_interrupt_handle())?;
            let answer = query(&reader);
            running.end();
            if answer.is_ok() {
                pool.idle.lock().push(reader);
            }
            answer
        });
        let finished = match timeout {
            None => answer.await,
            Some(timeout) => match tokio::time::timeout(timeout, &mut answer).await {
                Ok(finished) => finished,
                Err(_) => {
                    interrupter.0.interrupt();
                    answer.await
                }
            },
        };
        finished.unwrap_or_else(|stopped| Err(ReadError::unavailable(stopped).into()))
    }

    /// Takes a connection that no query uses, and closes those whose files were replaced.
    fn take_idle(&self) -> Option<C> {
        let mut idle = self.idle.lock();
        idle.retain(C::is_current);
        idle.pop()
    }
}

impl PooledConnection for Connection {
    fn connection(&self) -> &Connection {
        self
    }

    fn is_current(&self) -> bool {
        true
    }
}

/// Interrupts a query when it is dropped.
#[derive(Default)]
struct Interrupter(Arc<RunningQuery>);

impl Drop for Interrupter {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// A query that can be interrupted until it has ended. Afterwards its connection runs other queries.
#[derive(Default)]
struct RunningQuery(Mutex<QueryProgress>);

#[derive(Default)]
enum QueryProgress {
    #[default]
    Waiting,
    Running(InterruptHandle),
    /// Ended or interrupted.
    Over,
}

impl RunningQuery {
    /// Notes that the query begins.
    ///
    /// # Errors
    /// If it was interrupted before.
    fn begin(&self, handle: InterruptHandle) -> Result<(), ReadError> {
        let mut progress = self.0.lock();
        if matches!(*progress, QueryProgress::Over) {
            return Err(ReadError::unavailable("the query was interrupted before it began"));
        }
        *progress = QueryProgress::Running(handle);
        Ok(())
    }

    fn end(&self) {
        *self.0.lock() = QueryProgress::Over;
    }

    fn interrupt(&self) {
        // The lock is held meanwhile: the query cannot end, and its connection cannot begin another one.
        let mut progress = self.0.lock();
        if let QueryProgress::Running(handle) = &*progress {
            handle.interrupt();
        }
        *progress = QueryProgress::Over;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Never ends, unless it is interrupted.
    const ENDLESS: &str =
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    fn open() -> Result<Connection, ReadError> {
        Connection::open_in_memory().map_err(ReadError::unavailable)
    }

    fn count(connection: &Connection) -> Result<i64, ReadError> {
        let count = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0));
        count.map_err(ReadError::unavailable)
    }

    /// Returns a query that sends a message when it runs, and ends when it receives one.
    fn held(
        runs: &mpsc::Sender<()>,
    ) -> (mpsc::Sender<()>, impl FnOnce(&Connection) -> Result<i64, ReadError> + use<>) {
        let (runs, (release, released)) = (runs.clone(), mpsc::channel());
        let query = move |connection: &Connection| {
            runs.send(()).unwrap();
            released.recv().unwrap();
            count(connection)
        };
        (release, query)
    }

    #[tokio::test]
    async fn more_queries_than_the_pool_allows_wait_for_their_turn() {
        let pool = Arc::new(ReaderPool::new(2));
        let (runs, running) = mpsc::channel();
        let (releases, queries): (Vec<_>, Vec<_>) = (0..3)
            .map(|_| {
                let (release, query) = held(&runs);
                let pool = Arc::clone(&pool);
                (release, tokio::spawn(async move { pool.run(None, open, query).await }))
            })
            .unzip();
        let begun = async || {
            while running.try_recv().is_err() {
                tokio::task::yield_now().await;
            }
        };
        begun().await;
        begun().await;
        assert_eq!(pool.permits.available_permits(), 0);
        for release in releases {
            release.send(()).unwrap();
        }
        begun().await;
        for query in queries {
            assert_eq!(query.await.unwrap().unwrap(), 0);
        }
        assert!((1..=2).contains(&pool.idle.lock().len()), "connections are kept");
    }

    #[tokio::test]
    async fn a_query_is_interrupted_when_its_time_is_up_or_its_caller_leaves() {
        let pool = Arc::new(ReaderPool::new(1));
        let endless = |connection: &Connection| -> Result<i64, ReadError> {
            connection.query_row(ENDLESS, [], |row| row.get(0)).map_err(ReadError::unavailable)
        };
        let error = pool.run(Some(Duration::from_millis(10)), open, endless).await.unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
        let left = tokio::time::timeout(Duration::from_millis(10), pool.run(None, open, endless)).await;
        assert!(left.is_err());
        // The pool has one place, which is free as soon as the query has ended.
        assert_eq!(pool.run(None, open, count).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_interrupt_that_comes_late_spares_the_next_query_of_the_connection() {
        let pool = Arc::new(ReaderPool::new(1));
        for _ in 0..500 {
            let _ = pool.run(Some(Duration::ZERO), open, count).await;
            assert_eq!(pool.run(None, open, count).await.unwrap(), 0);
        }
    }
}
