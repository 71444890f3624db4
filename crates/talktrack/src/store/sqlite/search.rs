//! Full-text search: the index finds the rows, the rows give the text.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, InterruptHandle, Row, params_from_iter};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::database::{self, column, parse_uuid, text};
use crate::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use crate::store::sqlite::rows::{has_id, read_time, read_word};
use crate::store::sqlite::{derived, search_index};
use crate::store::{Page, SEARCHED_BYTES};

/// The number of searches that run at the same time. Further searches wait.
const MAX_CONCURRENT: usize = 4;
/// The longest time that a search may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// A pool of connections that have both the database and the index open.
#[derive(Debug)]
pub(super) struct Searchers {
    database: PathBuf,
    idle: Mutex<Vec<Searcher>>,
    permits: Arc<Semaphore>,
}

#[derive(Debug)]
struct Searcher {
    connection: Connection,
    /// The inode of the index that the connection has open. The index may have been rebuilt since.
    inode: u64,
}

impl Searchers {
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, idle: Mutex::default(), permits: Arc::new(Semaphore::new(MAX_CONCURRENT)) }
    }

    /// Runs a query on both files, on a thread that may block, and interrupts the query after
    /// [`QUERY_TIMEOUT`].
    pub(super) async fn run_query<T: Send + 'static>(
        self: &Arc<Self>,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SearchError> {
        // Held until the query is finished, even if the caller has stopped waiting. The semaphore is never
        // closed.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let pool = Arc::clone(self);
        let searcher = run_blocking(move || pool.open_searcher()).await?;
        let interrupt = Interrupt(Some(searcher.connection.get_interrupt_handle()));
        let pool = Arc::clone(self);
        let answer = run_blocking(move || {
            let answer = query(&searcher.connection);
            let answer = pool.take_back(searcher, answer);
            drop(permit);
            answer
        });
        interrupt.or_interrupt_after(QUERY_TIMEOUT, answer).await
    }

    fn open_searcher(&self) -> Result<Searcher, SearchError> {
        let path = search_index::path_of(&self.database);
        let missing = || SearchError::NoIndex("the search index is not there yet; try again soon".into());
        let inode = std::fs::metadata(&path).map_err(|_| missing())?.ino();
        let idle = std::mem::take(&mut *self.idle.lock());
        let mut fit = idle.into_iter().filter(|searcher| searcher.inode == inode);
        let found = fit.next();
        self.idle.lock().extend(fit);
        if let Some(searcher) = found {
            return Ok(searcher);
        }
        let connection =
            database::open_to_read(&self.database).map_err(|error| database_error(error.to_string()))?;
        let attached = derived::open_to_read(|| {
            connection.execute("ATTACH ?1 AS search", [path.to_string_lossy()])?;
            connection.query_row("SELECT 1 FROM search.state", [], |_| Ok(()))
        });
        // If the index is incomplete, it has just been created.
        attached.map_err(|_| missing())?;
        Ok(Searcher { connection, inode })
    }

    fn take_back<T>(&self, searcher: Searcher, answer: rusqlite::Result<T>) -> Result<T, SearchError> {
        match answer {
            Ok(answer) => {
                self.idle.lock().push(searcher);
                Ok(answer)
            }
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
                Err(SearchError::TooBroad)
            }
            Err(error) => {
                if database::is_damage(&error) {
                    // Either file may be damaged. The writer of the index checks this file.
                    database::mark_suspect(&search_index::path_of(&self.database), &error.to_string());
                }
                Err(database_error(error.to_string()))
            }
        }
    }
}

/// Interrupts a query on request, or when the caller drops the future.
pub(super) struct Interrupt(pub(super) Option<InterruptHandle>);

impl Interrupt {
    /// Waits for the answer, and interrupts the query if it takes longer than `patience`.
    pub(super) async fn or_interrupt_after<T>(
        mut self,
        limit: Duration,
        answer: impl Future<Output = T>,
    ) -> T {
        let mut answer = std::pin::pin!(answer);
        let answer = match tokio::time::timeout(limit, &mut answer).await {
            Ok(answer) => answer,
            Err(_) => {
                self.now();
                answer.await
            }
        };
        self.0 = None;
        answer
    }

    fn now(&mut self) {
        self.0.take().iter().for_each(InterruptHandle::interrupt);
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.now();
    }
}

async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, SearchError> + Send + 'static,
) -> Result<T, SearchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|stopped| Err(database_error(stopped.to_string())))
}

fn database_error(words: String) -> SearchError {
    SearchError::Read(crate::error::ReadError(words))
}

/// Returns the expression to match in the index.
fn match_expression(query: &Query, user_id: Option<Uuid>, session_id: Option<Uuid>) -> String {
    // The shorter lists come first.
    let session = session_id.map(|id| search_index::session_term(&id.to_string()));
    let user = user_id.map(|id| search_index::user_term(&id.to_string()));
    let parts: Vec<_> = session.into_iter().chain(user).chain([query.to_fts5()]).collect();
    parts.join(" AND ")
}

/// Returns messages that match the whole query, newest first.
pub(super) fn find_messages(
    connection: &Connection,
    wanted: &SearchFilter,
    viewer: Option<Uuid>,
    after: Option<SearchCursor>,
    limit: usize,
) -> rusqlite::Result<Page<Hit>> {
    const FOUND: &str = concat!(
        "SELECT m.id, m.session_id, s.user_id, m.role, m.kind, m.created_at, m.content, t.rowid \
         FROM search.texts t CROSS JOIN conversation_messages m ON m.rowid = t.rowid \
         CROSS JOIN conversation_sessions s ON s.session_id = m.session_id \
         WHERE t.texts MATCH ?1 AND t.rowid < ?2 AND ",
        has_id!("m.id"),
        " AND ",
        has_id!("m.session_id"),
        " AND ",
        has_id!("s.user_id"),
        " ORDER BY t.rowid DESC"
    );
    let expression = match_expression(&wanted.query, wanted.user_id.or(viewer), wanted.session_id);
    let place = after.map_or(i64::MAX, |cursor| cursor.place);
    let mut found = connection.prepare_cached(FOUND)?;
    let mut rows = found.query(rusqlite::params![expression, place])?;
    let mut hits: Page<Hit> = Page::default();
    let mut bytes = 0;
    while !hits.more
        && let Some(row) = rows.next()?
    {
        let content = text(row, 6)?;
        bytes += content.len();
        // The index may be slightly out of date, so each row is checked for the words and for its user and
        // session.
        let Some(snippet) = wanted.query.snippet(&content) else { continue };
        let hit = read_hit(row, snippet)?;
        let is_theirs = |user: Option<Uuid>| user.is_none_or(|user| user == hit.user_id);
        let is_there = wanted.session_id.is_none_or(|session| session == hit.session_id);
        if is_theirs(viewer) && is_theirs(wanted.user_id) && is_there {
            hits.rows.push(hit);
        }
        hits.more = hits.len() >= limit || (bytes >= SEARCHED_BYTES && !hits.is_empty());
    }
    Ok(hits)
}

fn read_hit(row: &Row<'_>, snippet: Vec<crate::search::Piece>) -> rusqlite::Result<Hit> {
    Ok(Hit {
        message_id: column(row, 0, parse_uuid)?,
        session_id: column(row, 1, parse_uuid)?,
        user_id: column(row, 2, parse_uuid)?,
        role: read_word(row, 3, |word| word.parse().ok())?,
        kind: read_word(row, 4, |word| word.parse().ok())?,
        created_at: read_time(row, 5)?,
        snippet,
        place: row.get(7)?,
    })
}

/// If a query has at most this many hits, the condition lists their sessions. If it has more, the index is
/// queried for each session in the order of the list.
const FEW: usize = 2_000;

/// Returns a condition on `session_id` for sessions that match the query, and the value for its parameter.
pub(super) fn matching_sessions(
    connection: &Connection,
    query: &Query,
    user_id: Option<Uuid>,
) -> rusqlite::Result<(&'static str, String)> {
    const OF_HITS: &str = "SELECT m.session_id FROM search.texts t CROSS JOIN conversation_messages m ON m.rowid = t.rowid \
         WHERE t.texts MATCH ? LIMIT ?";
    const ONE_OF: &str = "session_id IN (SELECT value FROM json_each(?))";
    const ASK_EACH: &str = "EXISTS (SELECT 1 FROM search.texts t WHERE t.texts MATCH '\"\u{e001}' || replace(session_id, '-', '') || '\" AND ' || ?)";
    let expression = match_expression(query, user_id, None);
    let mut of_hits = connection.prepare_cached(OF_HITS)?;
    let values = [expression, (FEW + 1).to_string()];
    let mut found: Vec<String> = Vec::new();
    let mut rows = of_hits.query(params_from_iter(values))?;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        count += 1;
        found.push(text(row, 0)?);
    }
    if count > FEW {
        return Ok((ASK_EACH, query.to_fts5()));
    }
    found.sort_unstable();
    found.dedup();
    Ok((ONE_OF, serde_json::to_string(&found).unwrap_or_default()))
}
