//! Reads rows from the database. Each query is one unnamed statement, and the lists use the indexes of the
//! schema.

use std::sync::Arc;

use async_trait::async_trait;
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::record::Status;
use talktrack_core::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use talktrack_core::stats::{Stats, StatsError, TimeRange};
use talktrack_core::store::{
    Audit, CountedMessage, DeletedSession, MessageCursor, MessageRow, PREVIEW_CHARS, Page, Read, Rows,
    SessionCursor, SessionFilter, SessionPreview, SessionRow, Viewer,
};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::owners::user_key;
use crate::queries::{
    COUNTS, DELETED_SESSIONS, FIRST_MESSAGES, INACTIVE_SESSIONS, LAST_MESSAGES, LAST_SAID_AT,
    MATCHING_SESSIONS, MESSAGE_COUNT, MESSAGES, MESSAGES_BACKWARDS, MESSAGES_BACKWARDS_WITHOUT_TIME,
    MESSAGES_BY_ID, MESSAGES_WITHOUT_TIME, NEWEST_MATCHING_SESSIONS, ODD_SESSIONS, ORPHANS, SESSION,
    SESSION_BY_NAME, SESSION_PREVIEWS, SESSIONS, SESSIONS_AMONG, SESSIONS_BY_ID, SESSIONS_BY_PREFIX,
    SESSIONS_OF_USER_AT, VISIBLE_MESSAGES,
};
use crate::rows::{
    SESSION_COLUMNS, get, get_id, get_id_or_null, get_time, get_user, is_full, message_page, session_page,
    session_preview, session_row, time_param,
};
use crate::search::with_ids;
use crate::statement::{Statement, moment};
use crate::store::PostgresStore;

impl PostgresStore {
    /// Returns the viewer's sessions that match and in which the viewer may see a matching message. The
    /// search index names candidates; they are listed with the viewer's rights.
    async fn matching_sessions_of(
        &self,
        viewer: &Viewer,
        query: &Query,
        filter: &SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        let named = self.sessions_with(viewer, query).await?;
        let (mut rows, mut after): (Vec<Result<SessionRow, ReadError>>, _) = (Vec::new(), after);
        loop {
            let among = session_page_query(SESSIONS_AMONG, filter, after, limit).uuids(named.iter().copied());
            let listed = session_page(&self.run_query(among).await?, limit)?;
            let ids: Vec<_> = listed.iter().map(|row| row.session_id).collect();
            let seen = self.visible_sessions(viewer, query, &ids).await?;
            after = listed.last_before_more().map(SessionRow::cursor);
            let is_shown = |row: &SessionRow| seen.contains(&row.session_id);
            rows.extend(listed.into_iter().filter(is_shown).map(Ok));
            let page = Page::fill(rows, Some(limit))?;
            if page.more || after.is_none() {
                return Ok(page);
            }
            rows = page.rows.into_iter().map(Ok).collect();
        }
    }
}

#[async_trait]
impl Rows for PostgresStore {
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError> {
        let rows = self.run_query(Statement::new(SESSION).uuid(session_id)).await?;
        rows.first().map(session_row).transpose()
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError> {
        let found = match (&filter.matching, &self.viewer) {
            (None, _) => self.run_query(session_page_query(SESSIONS, &filter, after, limit)).await?,
            (Some(query), Some(viewer)) => {
                return self.matching_sessions_of(viewer, query, &filter, after, limit).await;
            }
            (Some(query), None) => {
                let words = query.to_tsquery();
                let newest = session_page_query(NEWEST_MATCHING_SESSIONS, &filter, after, limit);
                let newest = self.query_index(newest.with(words.clone(), Type::TEXT)).await?;
                if is_full(&newest, Some(limit), SESSION_COLUMNS)? {
                    newest
                } else {
                    let words = with_ids(words, filter.user_id.as_ref(), None);
                    let all = session_page_query(MATCHING_SESSIONS, &filter, after, limit);
                    self.query_index(all.with(words, Type::TEXT)).await?
                }
            }
        };
        session_page(&found, limit)
    }

    async fn session_by_external_id(
        &self,
        user_id: &UserId,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError> {
        let statement = Statement::new(SESSION_BY_NAME)
            .with(user_key(user_id), Type::TEXT)
            .with(external_id.to_owned(), Type::TEXT);
        self.run_query(statement).await?.first().map(session_row).transpose()
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let Some((first, last)) = uuid_range(prefix) else { return Ok(Vec::new()) };
        let statement =
            Statement::new(SESSIONS_BY_PREFIX).uuid(first).uuid(last).with(row_limit(limit), Type::INT8);
        self.run_query(statement).await?.iter().map(session_row).collect()
    }

    async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let about = |sql| Statement::new(sql).uuid(session_id);
        let Some(cursor) = after else {
            let first = about(FIRST_MESSAGES).with(row_limit(limit), Type::INT8);
            return message_page(&self.run_query(first).await?, Some(limit));
        };
        let mut found = Page::default();
        let place = time_param(cursor.created_at);
        if place.is_some() {
            let next = about(MESSAGES)
                .with(place, Type::TIMESTAMPTZ)
                .with(cursor.seq.get(), Type::INT8)
                .uuid(cursor.id)
                .with(row_limit(limit), Type::INT8);
            found = message_page(&self.run_query(next).await?, Some(limit))?;
        }
        if !found.more {
            let limit = limit - found.len();
            let last = about(MESSAGES_WITHOUT_TIME)
                .with(cursor.seq.get(), Type::INT8)
                .uuid_or_null(place.is_none().then_some(cursor.id))
                .with(row_limit(limit), Type::INT8);
            let last = message_page(&self.run_query(last).await?, Some(limit))?;
            found.more = last.more;
            found.rows.extend(last);
        }
        Ok(found)
    }

    async fn latest_messages(
        &self,
        session_id: SessionId,
        before: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let about = |sql| Statement::new(sql).uuid(session_id);
        let statement = match before.map(|cursor| (time_param(cursor.created_at), cursor)) {
            None => about(LAST_MESSAGES),
            Some((None, cursor)) => {
                about(MESSAGES_BACKWARDS_WITHOUT_TIME).with(cursor.seq.get(), Type::INT8).uuid(cursor.id)
            }
            Some((at, cursor)) => about(MESSAGES_BACKWARDS)
                .with(at, Type::TIMESTAMPTZ)
                .with(cursor.seq.get(), Type::INT8)
                .uuid(cursor.id),
        };
        let statement = statement.with(row_limit(limit), Type::INT8);
        message_page(&self.run_query(statement).await?, Some(limit))
    }

    async fn visible_messages(&self, ids: &[MessageId]) -> Result<Vec<MessageId>, ReadError> {
        let statement = Statement::new(VISIBLE_MESSAGES).uuids(ids.iter().copied());
        self.run_query(statement).await?.iter().map(|row| get_id(row, 0)).collect()
    }

    async fn session_previews(&self, ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError> {
        let statement = Statement::new(SESSION_PREVIEWS)
            .uuids(ids.iter().copied())
            .with(row_limit(PREVIEW_CHARS), Type::INT8);
        self.run_query(statement).await?.iter().map(session_preview).collect()
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        self.find_hits(&wanted, after, limit).await
    }

    async fn user_stats(&self, user_id: &UserId, range: &TimeRange) -> Result<Stats, StatsError> {
        self.count_user_stats(user_id, range).await
    }
}

#[async_trait]
impl Read for PostgresStore {
    fn as_user(&self, viewer: Viewer) -> Arc<dyn Rows> {
        // The one claim that the policies use must be the authenticated user.
        let sub = serde_json::json!({"sub": viewer.user_id.to_string()});
        let sub = JsonObject::parse(&sub.to_string()).unwrap_or_default();
        let viewer = Viewer::new(viewer.user_id, viewer.claims.merged(&sub));
        Arc::new(Self { viewer: Some(viewer), ..self.clone() })
    }

    async fn inactive_since(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        let statement = Statement::new(INACTIVE_SESSIONS)
            .with(moment(since), Type::TIMESTAMPTZ)
            .with(after.and_then(|cursor| time_param(cursor.started_at)), Type::TIMESTAMPTZ)
            .uuid_or_null(after.map(|cursor| cursor.session_id))
            .with(row_limit(limit), Type::INT8);
        self.run_query(statement).await?.iter().map(session_row).collect()
    }

    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError> {
        let statement = Statement::new(SESSIONS_BY_ID).uuids(ids.iter().copied());
        self.run_query(statement).await?.iter().map(session_row).collect()
    }

    async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError> {
        let statement = Statement::new(MESSAGES_BY_ID).uuids(ids.iter().copied());
        message_page(&self.run_query(statement).await?, None)
    }

    async fn message_count(
        &self,
        session_id: SessionId,
        ids: &[MessageId],
    ) -> Result<Option<(i64, Vec<CountedMessage>)>, ReadError> {
        let statement = Statement::new(MESSAGE_COUNT).uuid(session_id).uuids(ids.iter().copied());
        let rows = self.run_query(statement).await?;
        let Some(session) = rows.first() else { return Ok(None) };
        let mut found = Vec::new();
        for row in &rows {
            if let Some(id) = get_id_or_null(row, 1)? {
                found.push(CountedMessage {
                    id,
                    revision: get::<i32>(row, 2)?.into(),
                    is_final: get(row, 3)?,
                });
            }
        }
        Ok(Some((get(session, 0)?, found)))
    }

    async fn last_said_at(&self, session_id: SessionId) -> Result<Option<Timestamp>, ReadError> {
        let rows = self.run_query(Statement::new(LAST_SAID_AT).uuid(session_id)).await?;
        let last = rows.first().map(|row| get_time(row, 0)).transpose()?;
        Ok(last.and_then(|time| time.known()))
    }

    async fn sessions_of_user_at(
        &self,
        user_id: &UserId,
        at: Timestamp,
    ) -> Result<Vec<SessionId>, ReadError> {
        let statement = Statement::new(SESSIONS_OF_USER_AT)
            .with(user_key(user_id), Type::TEXT)
            .with(moment(at), Type::TIMESTAMPTZ);
        self.run_query(statement).await?.iter().map(|row| get_id(row, 0)).collect()
    }

    async fn deleted_sessions(&self, ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError> {
        let rows = self.run_query(Statement::new(DELETED_SESSIONS).uuids(ids.iter().copied())).await?;
        let deleted = |row| Ok(DeletedSession { session_id: get_id(row, 0)?, user_id: get_user(row, 1, 2)? });
        rows.iter().map(deleted).collect()
    }

    async fn stats(&self, range: &TimeRange) -> Result<Stats, StatsError> {
        self.rollup_stats(*range).await
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        let counts = self.run_query(Statement::new(COUNTS)).await?;
        let count =
            |column| counts.first().map_or(Ok(0), |row| get::<i64>(row, column)).map(i64::unsigned_abs);
        let sessions = count(0)?;
        let messages = count(1)?;
        let mut audit =
            Audit { books: None, sessions, messages, dead_letters: 0, journal: 0, problems: Vec::new() };
        for question in [ODD_SESSIONS, ORPHANS] {
            let wanted = row_limit(Audit::PROBLEMS_WANTED);
            let rows = self.run_query(Statement::new(question).with(wanted, Type::INT8)).await?;
            audit.add_problems(rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?);
        }
        Ok(audit)
    }
}

/// Builds the statement for a page of sessions.
fn session_page_query<'a>(
    sql: &'static str,
    filter: &SessionFilter,
    after: Option<SessionCursor>,
    limit: usize,
) -> Statement<'a> {
    Statement::new(sql)
        .with(filter.user_id.as_ref().map(user_key), Type::TEXT)
        .with(filter.status.map(Status::as_str), Type::TEXT)
        .with(filter.since.map(moment), Type::TIMESTAMPTZ)
        .with(filter.until.map(moment), Type::TIMESTAMPTZ)
        .with(after.and_then(|cursor| time_param(cursor.started_at)), Type::TIMESTAMPTZ)
        .uuid_or_null(after.map(|cursor| cursor.session_id))
        .with(row_limit(limit), Type::INT8)
        .with(filter.external_id.clone(), Type::TEXT)
}

fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Returns the first and the last UUID that begin with this text; `None` if no UUID does.
fn uuid_range(prefix: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = prefix.chars().filter(|character| *character != '-').collect();
    let first = format!("{digits:0<32}");
    let last = format!("{digits:f<32}");
    Uuid::try_parse(&first).ok().zip(Uuid::try_parse(&last).ok())
}
