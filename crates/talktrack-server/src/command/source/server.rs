//! Reads from a running server, over its HTTP API.

use std::fmt::Display;

use form_urlencoded::Serializer;
use serde::Deserialize;
use talktrack::search::{Hit, SearchCursor};
use talktrack::store::{MessageCursor, MessageRow, Page, SessionCursor, SessionRow};
use talktrack::{SessionId, UserId};
use talktrack_client::api::{ApiClient, RequestError};

use super::StatsQuery;
use crate::api::query::{Cursor, MAX_LIMIT};
use crate::command::filter::SearchWords;
use crate::error::Failure;

/// Reads the rows that the token allows to read.
pub(in crate::command) struct ServerReader {
    api: ApiClient,
}

/// The query of a request, encoded.
#[derive(Debug, Clone, Default)]
pub(in crate::command) struct ServerQuery(String);

impl ServerQuery {
    /// Adds a parameter, if it has a value.
    pub(in crate::command) fn add(&mut self, name: &str, value: Option<impl Display>) {
        let Some(value) = value else { return };
        let mut pairs = Serializer::for_suffix(std::mem::take(&mut self.0), 0);
        pairs.append_pair(name, &value.to_string());
        self.0 = pairs.finish();
    }

    /// Returns the path with this query.
    pub(in crate::command) fn path(&self, path: &str) -> String {
        if self.0.is_empty() { path.to_owned() } else { format!("{path}?{}", self.0) }
    }
}

#[derive(Deserialize)]
struct SessionList {
    sessions: Vec<SessionRow>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct MessageList {
    messages: Vec<MessageRow>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct HitList {
    hits: Vec<Hit>,
    next_cursor: Option<String>,
}

impl ServerReader {
    pub(in crate::command) fn new(api: ApiClient) -> Self {
        Self { api }
    }

    /// Returns the client of the server.
    pub(in crate::command) fn api(&self) -> &ApiClient {
        &self.api
    }

    /// Returns one session; `None` if it does not exist.
    pub(in crate::command) async fn session(
        &self,
        session_id: SessionId,
    ) -> Result<Option<SessionRow>, Failure> {
        match self.api.get_as(&format!("/v1/sessions/{session_id}")).await {
            Ok(row) => Ok(Some(row)),
            Err(RequestError::Refused(refusal)) if refusal.status == 404 && refusal.detail.is_some() => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads pages until one has a row, because a page may be empty and not the last.
    pub(super) async fn sessions(
        &self,
        filter: &ServerQuery,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, Failure> {
        let mut cursor = after.map(|place| Cursor(place).to_string());
        loop {
            let mut query = filter.clone();
            query.add("limit", Some(limit.min(MAX_LIMIT)));
            query.add("cursor", cursor.take());
            let SessionList { sessions, next_cursor } = self.api.get_as(&query.path("/v1/sessions")).await?;
            if next_cursor.is_none() || !sessions.is_empty() {
                return Ok(Page { rows: sessions, more: next_cursor.is_some() });
            }
            cursor = next_cursor;
        }
    }

    pub(super) async fn sessions_by_prefix(
        &self,
        prefix: &str,
        limit: usize,
    ) -> Result<Vec<SessionRow>, Failure> {
        let mut query = ServerQuery::default();
        query.add("id_prefix", Some(prefix));
        query.add("limit", Some(limit.min(MAX_LIMIT)));
        Ok(self.api.get_as::<SessionList>(&query.path("/v1/sessions")).await?.sessions)
    }

    pub(super) async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, Failure> {
        let mut query = ServerQuery::default();
        query.add("limit", Some(limit.min(MAX_LIMIT)));
        query.add("cursor", after.map(Cursor));
        let path = query.path(&format!("/v1/sessions/{session_id}/messages"));
        let MessageList { messages, next_cursor } = self.api.get_as(&path).await?;
        Ok(Page { rows: messages, more: next_cursor.is_some() })
    }

    pub(super) async fn search(
        &self,
        words: &SearchWords,
        user: Option<&UserId>,
        session: Option<SessionId>,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, Failure> {
        let mut query = ServerQuery::default();
        query.add("q", Some(&words.text));
        query.add("user_id", user);
        query.add("session_id", session);
        query.add("limit", Some(limit.min(MAX_LIMIT)));
        query.add("cursor", after.map(Cursor));
        let HitList { mut hits, next_cursor } = self.api.get_as(&query.path("/v1/search")).await?;
        let next = next_cursor.and_then(|cursor| cursor.parse::<Cursor<SearchCursor>>().ok());
        // The place of a hit is in the cursor only.
        if let (Some(last), Some(Cursor(next))) = (hits.last_mut(), next) {
            last.place = next.place;
        }
        Ok(Page { rows: hits, more: next.is_some() })
    }

    pub(super) async fn stats(&self, wanted: &StatsQuery<'_>) -> Result<serde_json::Value, Failure> {
        let mut query = ServerQuery::default();
        query.add("since", wanted.since);
        query.add("until", wanted.until);
        query.add("step", wanted.step);
        query.add("user_id", wanted.user);
        Ok(self.api.get_as(&query.path("/v1/stats")).await?)
    }
}
