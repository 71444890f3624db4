//! Reads rows from the file while the journal writes to it.

use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use async_trait::async_trait;
use rusqlite::Connection;
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::search::{Hit, SearchCursor, SearchError, SearchFilter};
use talktrack_core::stats::{Stats, StatsError, TimeRange};

use crate::local::reader_pool::ReaderPool;
use crate::local::tables::sessions::list::{self, FoundSessions, SessionList};
use crate::local::tables::{deleted_sessions, messages, sessions};
use crate::store::sqlite::audit;
use crate::store::sqlite::connections::ReadConnections;
use crate::store::sqlite::dead_letters::DeadLetterReader;
use crate::store::sqlite::derived::DerivedReader;
use crate::store::sqlite::outbox::OutboxReader;
use crate::store::sqlite::search::{self, Searchers};
use crate::store::{
    Audit, DeletedSession, MessageCursor, MessageRow, Page, Read, Rows, SessionCursor, SessionFilter,
    SessionPreview, SessionRow, Viewer,
};

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

    /// Reads a page of a session's messages. The page is empty if the viewer may not see the session.
    async fn read_transcript(
        &self,
        session_id: SessionId,
        read: impl FnOnce(&Connection) -> rusqlite::Result<Page<MessageRow>> + Send + 'static,
    ) -> Result<Page<MessageRow>, ReadError> {
        let viewer = self.viewer.clone();
        self.connections
            .run_query(move |connection| {
                if may_see(connection, session_id, viewer.as_ref())? {
                    read(connection)
                } else {
                    Ok(Page::default())
                }
            })
            .await
    }

    /// Returns the number of the newest row of messages, or 0 if there is none.
    pub(super) async fn newest_row(&self) -> Result<i64, ReadError> {
        self.connections.look_up(messages::read::newest_row).await
    }
}

/// True if `viewer` may see the session. `None` may see all.
fn may_see(
    connection: &Connection,
    session_id: SessionId,
    viewer: Option<&UserId>,
) -> rusqlite::Result<bool> {
    let Some(viewer) = viewer else { return Ok(true) };
    let session = sessions::read::read_session(connection, session_id)?;
    Ok(session.is_some_and(|session| session.user_id.as_ref() == Some(viewer)))
}

/// Returns the summaries of those sessions that `viewer` may see.
fn read_previews(
    connection: &Connection,
    ids: &[SessionId],
    viewer: Option<&UserId>,
) -> rusqlite::Result<Vec<SessionPreview>> {
    let mut previews = Vec::with_capacity(ids.len());
    for &session_id in ids {
        if may_see(connection, session_id, viewer)? {
            previews.extend(messages::previews::read_preview(connection, session_id)?);
        }
    }
    Ok(previews)
}

#[async_trait]
impl Rows for SqliteReader {
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        let viewer = self.viewer.clone();
        let row = self
            .connections
            .look_up(move |connection| sessions::read::read_session(connection, session_id))
            .await?;
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
        let read_page = move |connection: &Connection, found: Option<FoundSessions>| {
            list::read_page(connection, &SessionList { filter, viewer, found }, after, limit)
        };
        let Some(query) = matching else {
            return self.connections.run_query(move |connection| read_page(connection, None)).await;
        };
        let asked = self.searchers.run_query(move |connection| {
            let found = search::matching_sessions(connection, &query, user.as_ref())?;
            read_page(connection, Some(found))
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
        let user_id = user_id.clone();
        self.connections
            .look_up(move |connection| sessions::read::read_by_external_id(connection, &user_id, &name))
            .await
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let from = prefix.to_ascii_lowercase();
        let viewer = self.viewer.clone();
        self.connections
            .run_query(move |connection| {
                sessions::read::read_by_prefix(connection, &from, viewer.as_ref(), limit)
            })
            .await
    }

    async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        self.read_transcript(session_id, move |connection| {
            messages::read::read_page(connection, session_id, after, limit)
        })
        .await
    }

    async fn latest_messages(
        &self,
        session_id: SessionId,
        before: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        self.read_transcript(session_id, move |connection| {
            messages::read::read_page_backwards(connection, session_id, before, limit)
        })
        .await
    }

    async fn session_previews(&self, ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        let ids = ids.to_vec();
        let viewer = self.viewer.clone();
        self.connections.run_query(move |connection| read_previews(connection, &ids, viewer.as_ref())).await
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
        self.connections
            .run_query(move |connection| list::read_inactive_since(connection, since, after, most))
            .await
    }

    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError> {
        let ids = ids.to_vec();
        self.connections.run_query(move |connection| sessions::read::read_by_ids(connection, &ids)).await
    }

    async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError> {
        let ids = ids.to_vec();
        self.connections.run_query(move |connection| messages::read::read_by_ids(connection, &ids)).await
    }

    async fn last_said_at(&self, session_id: SessionId) -> Result<Option<Timestamp>, ReadError> {
        self.connections
            .look_up(move |connection| messages::read::read_last_said_at(connection, session_id))
            .await
    }

    async fn deleted_sessions(&self, ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError> {
        let ids = ids.to_vec();
        self.connections.look_up(move |connection| deleted_sessions::read_by_ids(connection, &ids)).await
    }

    async fn stats(&self, range: &TimeRange) -> Result<Stats, StatsError> {
        self.rollup_stats(*range).await
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        self.connections
            .run_query(|connection| {
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
                    reader.connections.run_query(held).await
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
