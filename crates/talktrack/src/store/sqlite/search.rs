//! Full-text search: the index finds the rows, the rows give the text.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};

use crate::local::database;
use crate::local::reader_pool::{PooledConnection as _, ReaderPool};
use crate::local::tables::messages::search as found_messages;
use crate::local::tables::sessions::list::FoundSessions;
use crate::store::sqlite::derived::DerivedReader;
use crate::store::sqlite::search_index;
use crate::store::{Page, SEARCHED_BYTES};

/// The number of searches that run at the same time. Further searches wait.
const MAX_CONCURRENT: usize = 4;
/// The longest time that a search may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs queries on connections that have both the database and the index open.
#[derive(Debug)]
pub(super) struct Searchers {
    database: PathBuf,
    pool: Arc<ReaderPool<DerivedReader>>,
}

impl Searchers {
    pub(super) fn new(database: PathBuf) -> Self {
        Self { database, pool: Arc::new(ReaderPool::new(MAX_CONCURRENT)) }
    }

    /// Runs a query on both files.
    pub(super) async fn run_query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, SearchError> {
        let database = self.database.clone();
        let open = move || open_searcher(&database);
        let query = |searcher: &DerivedReader| {
            query(searcher.connection()).map_err(|error| to_search_error(searcher, &error))
        };
        self.pool.run(Some(QUERY_TIMEOUT), open, query).await
    }
}

fn open_searcher(database: &Path) -> Result<DerivedReader, SearchError> {
    let connection = database::open_to_read(database).map_err(database::read_error)?;
    let opened = DerivedReader::open(search_index::path_of(database), |index| {
        connection.execute("ATTACH ?1 AS search", [index.to_string_lossy()])?;
        connection.query_row("SELECT 1 FROM search.state", [], |_| Ok(()))?;
        Ok(connection)
    });
    // If the index is incomplete, it has just been created.
    opened.map_err(|_| SearchError::NoIndex("the search index is not there yet; try again soon".into()))
}

fn to_search_error(searcher: &DerivedReader, error: &rusqlite::Error) -> SearchError {
    if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) {
        return SearchError::TooBroad;
    }
    if database::is_damage(error) {
        // Either file may be damaged. The writer of the index checks this file.
        database::mark_suspect(searcher.file(), &error.to_string());
    }
    ReadError::unavailable(error.to_string()).into()
}

/// Returns the expression to match in the index.
fn match_expression(query: &Query, user_id: Option<&UserId>, session_id: Option<SessionId>) -> String {
    // The shorter lists come first.
    let session = session_id.map(|id| search_index::session_term(&id.to_string()));
    let user = user_id.map(|id| search_index::user_term(&id.as_uuid().to_string()));
    let parts: Vec<_> = session.into_iter().chain(user).chain([query.to_fts5()]).collect();
    parts.join(" AND ")
}

/// Returns messages that match the whole query, newest first.
pub(super) fn find_messages(
    connection: &Connection,
    wanted: &SearchFilter,
    viewer: Option<&UserId>,
    after: Option<SearchCursor>,
    limit: usize,
) -> rusqlite::Result<Page<Hit>> {
    let expression = match_expression(&wanted.query, wanted.user_id.as_ref().or(viewer), wanted.session_id);
    let place = after.map_or(i64::MAX, |cursor| cursor.place);
    let mut hits: Page<Hit> = Page::default();
    let mut bytes = 0;
    found_messages::visit_found(connection, &expression, place, |found| {
        let content = found.content()?;
        bytes += content.len();
        // The index may be slightly out of date, so each row is checked for the words and for its user and
        // session.
        let Some(snippet) = wanted.query.snippet(&content) else { return Ok(ControlFlow::Continue(())) };
        let hit = found.read_hit(snippet)?;
        let is_theirs = |user: Option<&UserId>| user.is_none_or(|user| *user == hit.user_id);
        let is_there = wanted.session_id.is_none_or(|session| session == hit.session_id);
        if is_theirs(viewer) && is_theirs(wanted.user_id.as_ref()) && is_there {
            hits.rows.push(hit);
        }
        hits.more = hits.len() >= limit || (bytes >= SEARCHED_BYTES && !hits.is_empty());
        Ok(if hits.more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    Ok(hits)
}

/// If a query has at most this many hits, the list is restricted to their sessions. If it has more, the index is
/// queried for each session in the order of the list.
const FEW: usize = 2_000;

/// Returns the sessions that match the query.
pub(super) fn matching_sessions(
    connection: &Connection,
    query: &Query,
    user_id: Option<&UserId>,
) -> rusqlite::Result<FoundSessions> {
    let expression = match_expression(query, user_id, None);
    let mut found = found_messages::read_sessions_of_found(connection, expression, FEW + 1)?;
    if found.len() > FEW {
        return Ok(FoundSessions::EachMatching(query.to_fts5()));
    }
    found.sort_unstable();
    found.dedup();
    Ok(FoundSessions::OneOf(found))
}
