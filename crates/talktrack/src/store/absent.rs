//! Stands in for a store that the settings do not name. Messages that the directory acknowledges wait in
//! the outbox, as if the store were down. The SQLite file's own tables are not the store, so nothing is
//! read from them.

use std::sync::Arc;

use async_trait::async_trait;
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::Verdict;
use talktrack_core::search::{Hit, SearchCursor, SearchError, SearchFilter};
use talktrack_core::stats::{Stats, StatsError, TimeRange};
use uuid::Uuid;

use crate::store::{
    Audit, DeletedSession, Delivery, ErrorClass, MessageCursor, MessageRow, Page, Read, Rows, SessionCursor,
    SessionFilter, SessionPreview, SessionRow, Store, StoreError, Viewer,
};

/// Refuses every call with a message that names the missing store.
#[derive(Clone)]
pub(crate) struct AbsentStore {
    why: Arc<str>,
}

impl AbsentStore {
    pub(crate) fn new(why: &str) -> Self {
        Self { why: why.into() }
    }

    fn refuse<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::new(ErrorClass::Systemic, self.why.to_string()))
    }

    fn unreadable<T>(&self) -> Result<T, ReadError> {
        Err(ReadError::unavailable(self.why.to_string()))
    }
}

#[async_trait]
impl Store for AbsentStore {
    async fn write(&self, _delivery: Delivery<'_>) -> Result<Vec<Verdict>, StoreError> {
        self.refuse()
    }

    async fn last_delivery(&self, _node: Uuid, _lane: usize) -> Result<Option<i64>, StoreError> {
        self.refuse()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.refuse()
    }

    async fn end_idle_sessions(&self, _since: Timestamp) -> Result<u64, StoreError> {
        self.refuse()
    }
}

#[async_trait]
impl Rows for AbsentStore {
    async fn session(&self, _session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        self.unreadable()
    }

    async fn sessions(
        &self,
        _filter: SessionFilter,
        _after: Option<SessionCursor>,
        _limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        self.unreadable()
    }

    async fn session_by_external_id(
        &self,
        _user_id: &UserId,
        _external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError> {
        self.unreadable()
    }

    async fn sessions_by_prefix(&self, _prefix: &str, _limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        self.unreadable()
    }

    async fn messages(
        &self,
        _session_id: SessionId,
        _after: Option<MessageCursor>,
        _limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        self.unreadable()
    }

    async fn session_previews(&self, _ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        self.unreadable()
    }

    async fn search(
        &self,
        _wanted: SearchFilter,
        _after: Option<SearchCursor>,
        _limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        self.unreadable().map_err(SearchError::from)
    }

    async fn user_stats(&self, _user_id: &UserId, _range: &TimeRange) -> Result<Stats, StatsError> {
        self.unreadable().map_err(StatsError::from)
    }
}

#[async_trait]
impl Read for AbsentStore {
    fn as_user(&self, _viewer: Viewer) -> Arc<dyn Rows> {
        Arc::new(self.clone())
    }

    async fn inactive_since(
        &self,
        _since: Timestamp,
        _after: Option<SessionCursor>,
        _limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        self.unreadable()
    }

    async fn sessions_by_id(&self, _ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError> {
        self.unreadable()
    }

    async fn messages_by_id(&self, _ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError> {
        self.unreadable()
    }

    async fn last_said_at(&self, _session_id: SessionId) -> Result<Option<Timestamp>, ReadError> {
        self.unreadable()
    }

    async fn deleted_sessions(&self, _ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError> {
        self.unreadable()
    }

    async fn stats(&self, _range: &TimeRange) -> Result<Stats, StatsError> {
        self.unreadable().map_err(StatsError::from)
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        self.unreadable()
    }
}
