//! Reads rows from the file while the journal writes to it.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::search::{Hit, SearchCursor, SearchError, SearchFilter};
use talktrack_core::stats::{Stats, StatsError, TimeRange};

use crate::local::database::{UuidText, column_or_null, parse_time};
use crate::local::reader_pool::ReaderPool;
use crate::store::sqlite::connections::ReadConnections;
use crate::store::sqlite::dead_letters::DeadLetterReader;
use crate::store::sqlite::derived::DerivedReader;
use crate::store::sqlite::outbox::OutboxReader;
use crate::store::sqlite::rows::{
    MESSAGE_COLUMNS, SESSION_COLUMNS, has_id, message_row, read_session, session_row,
};
use crate::store::sqlite::search::{self, Searchers};
use crate::store::sqlite::session_list::{self, SessionList};
use crate::store::sqlite::{audit, deleted, journal_records, session_preview};
use crate::store::{
    Audit, DeletedSession, MessageCursor, MessageRow, Page, Read, Rows, SessionCursor, SessionFilter,
    SessionPreview, SessionRow, Viewer,
};

const HAS_ID: &str = has_id!("session_id");
const HAS_MESSAGE_ID: &str = has_id!("id");

/// Messages after the one with the id `?4` in a transcript. Used if a cursor cannot carry the last row's
/// time: the query looks it up. NULL sorts first.
const AFTER_ROW: &str = "EXISTS (SELECT 1 FROM conversation_messages AS last WHERE last.id = ?4 AND CASE \
     WHEN conversation_messages.created_at IS last.created_at \
       THEN (coalesce(conversation_messages.seq, 0), conversation_messages.id) > (coalesce(last.seq, 0), last.id) \
     ELSE conversation_messages.created_at IS NOT NULL \
       AND (last.created_at IS NULL OR conversation_messages.created_at > last.created_at) END)";

/// Reads a talktrack SQLite file. Several readers may use the file while one process writes it.
#[derive(Debug, Clone)]
pub struct SqliteReader {
    pub(super) connections: ReadConnections,
    searchers: Arc<Searchers>,
    pub(super) rollups: Arc<ReaderPool<DerivedReader>>,
    /// The only user who may read through this clone. `None`: no restriction.
    viewer: Option<UserId>,
}

impl SqliteReader {
    /// Opens the file.
    ///
    /// # Errors
    /// If the file does not exist, or if SQLite cannot read it.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        // One core is left for the journal and for look-ups, which would wait for a turn on a core otherwise.
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let queries = (cores - 1).max(1);
        Ok(Self {
            connections: ReadConnections::open(path, queries)?,
            searchers: Arc::new(Searchers::new(path.to_owned())),
            rollups: Arc::new(ReaderPool::new(queries)),
            viewer: None,
        })
    }

    /// Returns the view of the records that wait for a remote store.
    pub fn outbox(&self) -> OutboxReader {
        OutboxReader::new(self.connections.clone())
    }

    /// Returns the view of the dead letters.
    pub fn dead_letters(&self) -> DeadLetterReader {
        DeadLetterReader::new(self.connections.clone())
    }

    /// The only user who may read through this reader. `None`: no restriction.
    pub(super) fn viewer(&self) -> Option<&UserId> {
        self.viewer.as_ref()
    }

    /// Returns the number of the newest row of messages, or 0 if there is none.
    pub(super) async fn newest_row(&self) -> Result<i64, ReadError> {
        self.look_up(|connection| {
            connection
                .query_row("SELECT coalesce(max(rowid), 0) FROM conversation_messages", [], |row| row.get(0))
        })
        .await
    }

    /// See [`ReadConnections::look_up`].
    pub(super) async fn look_up<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.connections.look_up(query).await
    }

    /// See [`ReadConnections::run_query`].
    pub(super) async fn run_query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError> {
        self.connections.run_query(query).await
    }
}

#[async_trait]
impl Rows for SqliteReader {
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        let viewer = self.viewer.clone();
        let row = self.look_up(move |connection| read_session(connection, session_id)).await?;
        Ok(row.filter(|row| viewer.is_none() || row.user_id == viewer))
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        let viewer = self.viewer.clone();
        let user = filter.user_id.as_ref().or(viewer.as_ref()).cloned();
        let matching = filter.matching.clone();
        let list = move |connection: &Connection, found: Option<(&str, String)>| {
            session_list::read_page(connection, &SessionList { filter, viewer, found }, after, limit)
        };
        let Some(query) = matching else {
            return self.run_query(move |connection| list(connection, None)).await;
        };
        let asked = self.searchers.run_query(move |connection| {
            let found = search::matching_sessions(connection, &query, user.as_ref())?;
            list(connection, Some(found))
        });
        Ok(asked.await?)
    }

    async fn session_by_external_id(
        &self,
        user_id: &UserId,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError> {
        if self.viewer.as_ref().is_some_and(|viewer| viewer != user_id) {
            return Ok(None);
        }
        let name = external_id.to_owned();
        let user_id = UuidText::new(user_id);
        self.look_up(move |connection| {
            let sql = format!(
                "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE user_id = ?1 AND external_id = ?2 AND {HAS_ID} \
                 ORDER BY started_at DESC, session_id DESC LIMIT 1"
            );
            connection
                .prepare_cached(&sql)?
                .query_row(params![user_id.as_str(), name], session_row)
                .optional()
        })
        .await
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let from = prefix.to_ascii_lowercase();
        let viewer = self.viewer.as_ref().map(ToString::to_string);
        self.run_query(move |connection| {
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
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let viewer = self.viewer.clone();
        self.run_query(move |connection| {
            if viewer.is_some()
                && read_session(connection, session_id)?.is_none_or(|session| session.user_id != viewer)
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
            let session_id = UuidText::new(session_id);
            let at = at.map(|at| at.to_string());
            let mut statement = connection.prepare_cached(&sql)?;
            // Each form uses only some of the parameters. SQLite accepts values for the others as well.
            Page::fill(statement.query_map(params![session_id.as_str(), at, seq, id, limit], message_row)?, Some(limit))
        })
        .await
    }

    async fn session_previews(&self, ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        let ids = ids.to_vec();
        let viewer = self.viewer.clone();
        self.run_query(move |connection| session_preview::read_previews(connection, &ids, viewer.as_ref()))
            .await
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        let viewer = self.viewer.clone();
        self.searchers
            .run_query(move |connection| {
                search::find_messages(connection, &wanted, viewer.as_ref(), after, limit)
            })
            .await
    }

    async fn user_stats(&self, user_id: &UserId, range: &TimeRange) -> Result<Stats, StatsError> {
        self.count_user_stats(user_id, *range).await
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
        self.run_query(move |connection| deleted::inactive_since(connection, since, after, most)).await
    }

    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError> {
        let ids = ids.to_vec();
        self.run_query(move |connection| journal_records::sessions_by_id(connection, &ids)).await
    }

    async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError> {
        let ids = ids.to_vec();
        self.run_query(move |connection| journal_records::messages_by_id(connection, &ids)).await
    }

    async fn last_said_at(&self, session_id: SessionId) -> Result<Option<Timestamp>, ReadError> {
        let sql = "SELECT max(created_at) FROM conversation_messages WHERE session_id = ?1";
        let last = move |connection: &Connection| {
            let id = UuidText::new(session_id);
            connection.prepare_cached(sql)?.query_row([id.as_str()], |row| column_or_null(row, 0, parse_time))
        };
        self.look_up(last).await
    }

    async fn deleted_sessions(&self, ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError> {
        let ids = ids.to_vec();
        self.look_up(move |connection| deleted::find_deleted(connection, &ids)).await
    }

    async fn stats(&self, range: &TimeRange) -> Result<Stats, StatsError> {
        self.rollup_stats(*range).await
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        self.run_query(|connection| {
            // One transaction: all counts are from the same moment.
            let tx = connection.unchecked_transaction()?;
            audit::audit_file(&tx)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::local::database::{FILE_NAME, create_file};

    #[tokio::test]
    async fn look_ups_do_not_wait_for_queries_of_the_pool() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE_NAME);
        create_file(&file).unwrap();
        let reader = SqliteReader::open(&file).unwrap();
        let (runs, running) = mpsc::channel();
        let slow: Vec<_> = (0..2 * thread::available_parallelism().unwrap().get())
            .map(|_| {
                let (reader, runs, (release, released)) = (reader.clone(), runs.clone(), mpsc::channel());
                let query = async move {
                    let held = move |_: &Connection| {
                        runs.send(()).unwrap();
                        Ok(released.recv())
                    };
                    reader.run_query(held).await
                };
                (release, tokio::spawn(query))
            })
            .collect();
        while running.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        // More queries than the pool allows are running or wait, and none of them ends before the look-ups do.
        assert_eq!(reader.session(SessionId::nil()).await.unwrap(), None);
        assert_eq!(reader.session_by_external_id(&UserId::from_u128(0), "a").await.unwrap(), None);
        assert_eq!(reader.last_said_at(SessionId::nil()).await.unwrap(), None);
        for (release, query) in slow {
            release.send(()).unwrap();
            query.await.unwrap().unwrap().unwrap();
        }
    }
}
