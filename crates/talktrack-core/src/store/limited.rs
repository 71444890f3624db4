//! Rows of certain users only, for a caller who may act for these users and for no others.

use std::collections::HashSet;
use std::sync::Arc;

use crate::ids::{SessionId, UserId};
use async_trait::async_trait;

use super::{
    MessageCursor, MessageRow, Page, Read, Rows, SessionCursor, SessionFilter, SessionPreview, SessionRow,
};
use crate::error::ReadError;
use crate::search::{Hit, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Stats, StatsError, TimeRange};

/// The rows of some users. A query that names none of them finds nothing: a caller that forgets to name a
/// user sees too little, never too much.
pub struct LimitedRows {
    reader: Arc<dyn Read>,
    users: Arc<[UserId]>,
}

impl LimitedRows {
    /// Limits `reader` to sessions of these users.
    pub fn new(reader: Arc<dyn Read>, users: Arc<[UserId]>) -> Self {
        Self { reader, users }
    }

    fn includes(&self, user_id: Option<&UserId>) -> bool {
        user_id.is_some_and(|user_id| self.users.contains(user_id))
    }
}

#[async_trait]
impl Rows for LimitedRows {
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        let row = self.reader.session(session_id).await?;
        Ok(row.filter(|row| self.includes(row.user_id.as_ref())))
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        match self.includes(filter.user_id.as_ref()) {
            true => self.reader.sessions(filter, after, limit).await,
            false => Ok(Page::default()),
        }
    }

    async fn session_by_external_id(
        &self,
        user_id: &UserId,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError> {
        match self.includes(Some(user_id)) {
            true => self.reader.session_by_external_id(user_id, external_id).await,
            false => Ok(None),
        }
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let mut rows = self.reader.sessions_by_prefix(prefix, limit).await?;
        rows.retain(|row| self.includes(row.user_id.as_ref()));
        Ok(rows)
    }

    async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        match self.session(session_id).await? {
            Some(_) => self.reader.messages(session_id, after, limit).await,
            None => Ok(Page::default()),
        }
    }

    async fn latest_messages(
        &self,
        session_id: SessionId,
        before: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        match self.session(session_id).await? {
            Some(_) => self.reader.latest_messages(session_id, before, limit).await,
            None => Ok(Page::default()),
        }
    }

    async fn session_previews(&self, ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        let rows = self.reader.sessions_by_id(ids).await?;
        let shown: HashSet<SessionId> =
            rows.iter().filter(|row| self.includes(row.user_id.as_ref())).map(|row| row.session_id).collect();
        let ids: Vec<SessionId> = ids.iter().copied().filter(|id| shown.contains(id)).collect();
        self.reader.session_previews(&ids).await
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        match self.includes(wanted.user_id.as_ref()) {
            true => self.reader.search(wanted, after, limit).await,
            false => Ok(Page::default()),
        }
    }

    async fn user_stats(&self, user_id: &UserId, range: &TimeRange) -> Result<Stats, StatsError> {
        match self.includes(Some(user_id)) {
            true => self.reader.user_stats(user_id, range).await,
            false => Err(StatsError::Read(ReadError::unsupported("the statistics belong to another user"))),
        }
    }
}
