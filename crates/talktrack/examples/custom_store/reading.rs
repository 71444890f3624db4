//! The queries of the toy store. It answers those that the example needs, and refuses the others. A real store answers
//! all of them.

use std::sync::Arc;

use talktrack::search::{Hit, SearchCursor, SearchError, SearchFilter};
use talktrack::stats::{Stats, StatsError, TimeRange};
use talktrack::store::{
    Audit, DeletedSession, MessageCursor, MessageRow, Page, Read, Rows, SessionCursor, SessionFilter,
    SessionPreview, SessionRow, Viewer,
};
use talktrack::{MessageId, ReadError, SessionId, Timestamp, UserId};

use crate::ToyStore;

/// Refuses a query. A wrong answer, such as an empty list, would be worse.
fn refuse<T>() -> Result<T, ReadError> {
    Err(ReadError::unsupported("the toy store does not answer this query"))
}

/// What a user may see. Every query hides the rows of other users.
#[async_trait::async_trait]
impl Rows for ToyStore {
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        let is_shown = |row: &&SessionRow| self.viewer.is_none() || row.user_id == self.viewer;
        Ok(self.tables.lock().sessions.get(&session_id).filter(is_shown).cloned())
    }

    /// The order of a transcript: when it was said, then when it was accepted.
    async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        if self.session(session_id).await?.is_none() {
            return Ok(Page::default());
        }
        let tables = self.tables.lock();
        let mut rows: Vec<_> = tables.messages.values().filter(|row| row.session_id == session_id).collect();
        rows.sort_by_key(|row| row.cursor());
        let rest = rows.into_iter().filter(|row| after.is_none_or(|after| row.cursor() > after));
        Page::fill(rest.map(|row| Ok(row.clone())), Some(limit))
    }

    async fn sessions(
        &self,
        _filter: SessionFilter,
        _after: Option<SessionCursor>,
        _limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        refuse()
    }

    async fn session_by_external_id(&self, _: &UserId, _: &str) -> Result<Option<SessionRow>, ReadError> {
        refuse()
    }

    async fn sessions_by_prefix(&self, _prefix: &str, _limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        refuse()
    }

    async fn session_previews(&self, _ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        refuse()
    }

    async fn search(
        &self,
        _wanted: SearchFilter,
        _after: Option<SearchCursor>,
        _limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        Ok(refuse()?)
    }

    async fn user_stats(&self, _user_id: &UserId, _range: &TimeRange) -> Result<Stats, StatsError> {
        Ok(refuse()?)
    }
}

/// What the tracker and programs with all rights ask.
#[async_trait::async_trait]
impl Read for ToyStore {
    fn as_user(&self, viewer: Viewer) -> Arc<dyn Rows> {
        Arc::new(Self { viewer: Some(viewer.user_id), ..self.clone() })
    }

    /// The writer asks this before it gives up on a record of an unknown session.
    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError> {
        let tables = self.tables.lock();
        Ok(ids.iter().filter_map(|id| tables.sessions.get(id)).cloned().collect())
    }

    /// The writer asks this every few seconds. The toy deletes nothing.
    async fn deleted_sessions(&self, _ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError> {
        Ok(Vec::new())
    }

    async fn inactive_since(
        &self,
        _since: Timestamp,
        _after: Option<SessionCursor>,
        _limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        refuse()
    }

    async fn messages_by_id(&self, _ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError> {
        refuse()
    }

    async fn last_said_at(&self, _session_id: SessionId) -> Result<Option<Timestamp>, ReadError> {
        refuse()
    }

    async fn stats(&self, _range: &TimeRange) -> Result<Stats, StatsError> {
        Ok(refuse()?)
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        refuse()
    }
}
