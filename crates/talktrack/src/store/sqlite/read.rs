//! Reads rows from the file while the journal writes to it.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::database::{self, UuidText, column_or_null, parse_time};
use crate::error::ReadError;
use crate::search::{Hit, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Range, Stats, StatsError};
use crate::store::sqlite::rows::{
    MESSAGE_COLUMNS, REMEDY, SESSION_COLUMNS, has_id, message_row, note_damage, session, session_row,
};
use crate::store::sqlite::search::{self, Searchers};
use crate::store::sqlite::stats::Statistics;
use crate::store::sqlite::{audit, deleted, following, glimpse};
use crate::store::{
    Audit, DeletedSession, Glimpse, MessageCursor, MessageRow, Page, Read, Rows, SessionCursor,
    SessionFilter, SessionRow, Viewer,
};

const HAS_ID: &str = has_id!("session_id");
const HAS_MESSAGE_ID: &str = has_id!("id");

/// Sessions after the one with this id in a list, newest first. Used if a cursor cannot carry the last
/// row's start: the query looks it up. NULL sorts last.
const BEFORE_ROW: &str = "EXISTS (SELECT 1 FROM conversation_sessions AS last WHERE last.session_id = ? AND CASE \
     WHEN conversation_sessions.started_at IS last.started_at THEN conversation_sessions.session_id < last.session_id \
     ELSE last.started_at IS NOT NULL \
       AND (conversation_sessions.started_at IS NULL OR conversation_sessions.started_at < last.started_at) END)";

/// Messages after the one with the id `?4` in a transcript, in the same way. NULL sorts first.
const AFTER_ROW: &str = "EXISTS (SELECT 1 FROM conversation_messages AS last WHERE last.id = ?4 AND CASE \
     WHEN conversation_messages.created_at IS last.created_at \
       THEN (coalesce(conversation_messages.seq, 0), conversation_messages.id) > (coalesce(last.seq, 0), last.id) \
     ELSE conversation_messages.created_at IS NOT NULL \
       AND (last.created_at IS NULL OR conversation_messages.created_at > last.created_at) END)";

/// Reads a talktrack SQLite file. Several readers may use the file while one process writes it.
#[derive(Debug, Clone)]
pub struct SqliteReader {
    connection: Arc<Mutex<Connection>>,
    searchers: Arc<Searchers>,
    pub(super) statistics: Arc<Statistics>,
    /// The only user who may read through this clone. `None`: no restriction.
    viewer: Option<Uuid>,
}

impl SqliteReader {
    /// Opens the file.
    ///
    /// # Errors
    /// If the file does not exist, or if SQLite cannot read it.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let connection = Arc::new(Mutex::new(database::open_to_read(path)?));
        let searchers = Arc::new(Searchers::new(path.to_owned()));
        let statistics = Arc::new(Statistics::of(path));
        Ok(Self { connection, searchers, statistics, viewer: None })
    }

    /// The only user who may read through this reader. `None`: no restriction.
    pub(super) fn viewer(&self) -> Option<Uuid> {
        self.viewer
    }

    /// Returns messages after a place in the order in which they were written (0 is the beginning), and the
    /// place to continue from.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn written_since(
        &self,
        place: i64,
        limit: usize,
    ) -> Result<(Page<MessageRow>, i64), ReadError> {
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {MESSAGE_COLUMNS}, rowid FROM conversation_messages WHERE rowid > ?1 AND {HAS_MESSAGE_ID} \
                 AND {HAS_ID} ORDER BY rowid LIMIT ?2"
            );
            let mut statement = connection.prepare_cached(&sql)?;
            let mut next = place;
            let read = |row: &rusqlite::Row<'_>| {
                next = row.get(17)?;
                message_row(row)
            };
            let page = Page::fill(statement.query_map(params![place, limit], read)?, limit)?;
            Ok((page, next))
        })
        .await
    }

    /// Returns the place after the newest message, for [`Self::written_since`].
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn end(&self) -> Result<i64, ReadError> {
        self.ask(|connection| {
            connection
                .query_row("SELECT coalesce(max(rowid), 0) FROM conversation_messages", [], |row| row.get(0))
        })
        .await
    }

    /// Runs a query on a thread that may block.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        let connection = Arc::clone(&self.connection);
        let answer = tokio::task::spawn_blocking(move || asked(&connection.lock(), query)).await;
        answer.map_err(|stopped| ReadError(stopped.to_string()))?
    }
}

/// Runs a query. If the query finds damage, this notes it for the next start of the process that writes the
/// file.
fn asked<T>(
    connection: &Connection,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, ReadError> {
    query(connection).map_err(|error| {
        if !database::is_damage(&error) {
            return error.into();
        }
        note_damage(connection, &error.to_string());
        ReadError(format!("the database file is damaged ({error}); {REMEDY}"))
    })
}

#[async_trait]
impl Rows for SqliteReader {
    async fn session(&self, session_id: Uuid) -> Result<Option<SessionRow>, ReadError> {
        let viewer = self.viewer;
        let row = self.ask(move |connection| session(connection, session_id)).await?;
        Ok(row.filter(|row| viewer.is_none_or(|viewer| row.user_id == Some(viewer))))
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        let viewer = self.viewer;
        let user = filter.user_id.or(viewer);
        let matching = filter.matching.clone();
        let list = move |connection: &Connection, found: Option<(&str, String)>| {
            let page = |place, limit| session_page(connection, &filter, viewer, found.as_ref(), place, limit);
            let mut rows = match after.map(|cursor| (cursor.started_at.known(), cursor.session_id)) {
                None => return page(Place::Anywhere, limit),
                Some((None, id)) => return page(Place::AfterRow(id), limit),
                Some((Some(at), id)) => page(Place::Before(at, id), limit)?,
            };
            // A comparison with NULL is true for no row, so rows with NULL are listed last, by a query of
            // their own.
            if !rows.more {
                let last = page(Place::Null, limit - rows.len())?;
                rows.more = last.more;
                rows.rows.extend(last);
            }
            Ok(rows)
        };
        let Some(query) = matching else {
            return self.ask(move |connection| list(connection, None)).await;
        };
        let asked = self.searchers.ask(move |connection| {
            let found = search::sessions(connection, &query, user)?;
            list(connection, Some(found))
        });
        Ok(asked.await?)
    }

    async fn session_by_external_id(
        &self,
        user_id: Uuid,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError> {
        if self.viewer.is_some_and(|viewer| viewer != user_id) {
            return Ok(None);
        }
        let name = external_id.to_owned();
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE user_id = ?1 AND external_id = ?2 AND {HAS_ID} \
                 ORDER BY started_at DESC, session_id DESC LIMIT 1"
            );
            let user_id = UuidText::new(user_id);
            connection
                .prepare_cached(&sql)?
                .query_row(params![user_id.as_str(), name], session_row)
                .optional()
        })
        .await
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let from = prefix.to_ascii_lowercase();
        let viewer = self.viewer.map(|viewer| viewer.to_string());
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE session_id >= ?1 AND session_id < ?1 || 'g' \
                 AND {HAS_ID} AND (?3 IS NULL OR user_id = ?3) ORDER BY session_id LIMIT ?2"
            );
            connection.prepare_cached(&sql)?.query_map(params![from, limit, viewer], session_row)?.collect()
        })
        .await
    }

    async fn messages(
        &self,
        session_id: Uuid,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let viewer = self.viewer;
        self.ask(move |connection| {
            if let Some(viewer) = viewer
                && session(connection, session_id)?.is_none_or(|session| session.user_id != Some(viewer))
            {
                return Ok(Page::default());
            }
            let at = after.and_then(|cursor| cursor.created_at.known());
            let (seq, id) = after.map(|cursor| (cursor.seq, cursor.id.to_string())).unwrap_or_default();
            let place = match (after, at) {
                (None, _) => "true",
                (Some(_), Some(_)) => "(created_at, coalesce(seq, 0), id) > (?2, ?3, ?4)",
                (Some(_), None) => AFTER_ROW,
            };
            let sql = format!(
                "SELECT {MESSAGE_COLUMNS} FROM conversation_messages WHERE session_id = ?1 AND {HAS_MESSAGE_ID} AND {place} \
                 ORDER BY created_at, coalesce(seq, 0), id LIMIT ?5"
            );
            let (session_id, at) = (UuidText::new(session_id), at.map(|at| at.to_string()));
            let mut statement = connection.prepare_cached(&sql)?;
            // Each form uses only some of the parameters. SQLite accepts values for the others as well.
            Page::fill(statement.query_map(params![session_id.as_str(), at, seq, id, limit], message_row)?, limit)
        })
        .await
    }

    async fn glimpses(&self, ids: &[Uuid]) -> Result<Vec<Glimpse>, ReadError> {
        let (ids, viewer) = (ids.to_vec(), self.viewer);
        self.ask(move |connection| glimpse::of(connection, &ids, viewer)).await
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        let viewer = self.viewer;
        self.searchers
            .ask(move |connection| search::messages(connection, &wanted, viewer, after, limit))
            .await
    }

    async fn stats_of(&self, user_id: Uuid, range: &Range) -> Result<Stats, StatsError> {
        self.counted_of(user_id, *range).await
    }
}

#[async_trait]
impl Read for SqliteReader {
    fn as_user(&self, viewer: Viewer) -> Arc<dyn Rows> {
        Arc::new(Self { viewer: Some(viewer.user_id), ..self.clone() })
    }

    async fn inactive_since(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        most: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        self.ask(move |connection| deleted::inactive_since(connection, since, after, most)).await
    }

    async fn sessions_by_id(&self, ids: &[Uuid]) -> Result<Vec<SessionRow>, ReadError> {
        let ids = ids.to_vec();
        self.ask(move |connection| following::sessions_by_id(connection, &ids)).await
    }

    async fn messages_by_id(&self, ids: &[Uuid]) -> Result<Page<MessageRow>, ReadError> {
        let ids = ids.to_vec();
        self.ask(move |connection| following::messages_by_id(connection, &ids)).await
    }

    async fn last_said_at(&self, session_id: Uuid) -> Result<Option<Timestamp>, ReadError> {
        let sql = "SELECT max(created_at) FROM conversation_messages WHERE session_id = ?1";
        let last = move |connection: &Connection| {
            let id = UuidText::new(session_id);
            connection.prepare_cached(sql)?.query_row([id.as_str()], |row| column_or_null(row, 0, parse_time))
        };
        self.ask(last).await
    }

    async fn deleted_sessions(&self, ids: &[Uuid]) -> Result<Vec<DeletedSession>, ReadError> {
        let ids = ids.to_vec();
        self.ask(move |connection| deleted::find(connection, &ids)).await
    }

    async fn stats(&self, range: &Range) -> Result<Stats, StatsError> {
        self.tallied(*range).await
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        self.ask(|connection| {
            // One transaction: all counts are from the same moment.
            let tx = connection.unchecked_transaction()?;
            audit::audit(&tx)
        })
        .await
    }
}

/// The part of a list that a page is taken from.
#[derive(Clone, Copy)]
enum Place {
    Anywhere,
    Before(Timestamp, Uuid),
    AfterRow(Uuid),
    Null,
}

fn session_page(
    connection: &Connection,
    filter: &SessionFilter,
    viewer: Option<Uuid>,
    found: Option<&(&str, String)>,
    place: Place,
    limit: usize,
) -> rusqlite::Result<Page<SessionRow>> {
    let mut conditions = Conditions::default();
    conditions.add("user_id = ?", viewer.map(|user| [user.to_string()]));
    conditions.add("user_id = ?", filter.user_id.map(|user| [user.to_string()]));
    conditions.add("status = ?", filter.status.map(|status| [status.as_str().to_owned()]));
    conditions.add("started_at >= ?", filter.since.map(|since| [since.to_string()]));
    conditions.add("started_at < ?", filter.until.map(|until| [until.to_string()]));
    match place {
        Place::Anywhere => {}
        Place::Before(at, id) => {
            conditions.add("(started_at, session_id) < (?, ?)", Some([at.to_string(), id.to_string()]));
        }
        Place::AfterRow(id) => conditions.add(BEFORE_ROW, Some([id.to_string()])),
        Place::Null => conditions.add("started_at IS NULL", Some([])),
    }
    if let Some((condition, value)) = found {
        conditions.add(condition, Some([value.clone()]));
    }
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE {HAS_ID}{} \
         ORDER BY started_at DESC, session_id DESC LIMIT {limit}",
        conditions.sql
    );
    let mut statement = connection.prepare_cached(&sql)?;
    Page::fill(statement.query_map(rusqlite::params_from_iter(conditions.values), session_row)?, limit)
}

/// The conditions of a list. A condition without values is left out.
#[derive(Default)]
struct Conditions {
    sql: String,
    values: Vec<String>,
}

impl Conditions {
    fn add<const N: usize>(&mut self, condition: &str, values: Option<[String; N]>) {
        if let Some(values) = values {
            self.sql.push_str(" AND ");
            self.sql.push_str(condition);
            self.values.extend(values);
        }
    }
}
