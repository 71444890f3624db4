//! Rows from the database. Each question is one unnamed statement, and the lists use the indexes of the schema.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::error::ReadError;
use crate::json::JsonObject;
use crate::record::Status;
use crate::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Range, Stats, StatsError};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::rows::{get, glimpse, message_row, session_row};
use crate::store::postgres::search::with_ids;
use crate::store::postgres::statement::{Statement, moment};
use crate::store::{
    Audit, GLIMPSE_CHARS, Glimpse, MessageCursor, MessageRow, Read, Rows, SessionCursor, SessionFilter,
    SessionRow, Viewer,
};

macro_rules! select_sessions {
    ($rest:literal) => {
        concat!(
            "SELECT session_id, user_id, external_id, status, end_reason, started_at, ended_at, duration_seconds, \
             last_event_at, message_count, metadata::text FROM public.conversation_sessions ",
            $rest
        )
    };
}

macro_rules! select_messages {
    ($rest:literal) => {
        concat!(
            "SELECT id, session_id, user_id, role, content, audio_url, metadata::text, created_at, seq, external_id, kind, \
             revision, interrupted, content_generated, parts::text, metrics::text FROM public.conversation_messages ",
            $rest
        )
    };
}

/// Messages with one of the ids in $1.
pub(super) const MESSAGES_BY_ID: &str = select_messages!("WHERE id = ANY($1::uuid[])");

const SESSIONS_BY_ID: &str = select_sessions!("WHERE session_id = ANY($1::uuid[])");

const SESSION: &str = select_sessions!("WHERE session_id = $1::uuid");

/// Newest first. What is null does not restrict.
const SESSIONS: &str = select_sessions!(
    "WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR status = $2) \
     AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
     AND ($5::timestamptz IS NULL OR (started_at, session_id) < ($5, $6::uuid)) \
     ORDER BY started_at DESC, session_id DESC LIMIT $7::int8"
);

/// Oldest first, by the index on when they began.
const SILENT: &str = select_sessions!(
    "WHERE started_at < $1::timestamptz AND coalesce(last_event_at, started_at) < $1 \
     AND ($2::timestamptz IS NULL OR (started_at, session_id) > ($2, $3::uuid)) \
     ORDER BY started_at, session_id LIMIT $4::int8"
);

/// Of the newest of them, those in which something is found; what is common is found there. Each is asked by itself.
const NEWEST_MATCHING_SESSIONS: &str = select_sessions!(
    "AS session WHERE session_id IN (SELECT session_id FROM public.conversation_sessions \
       WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR status = $2) \
       AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
       AND ($5::timestamptz IS NULL OR (started_at, session_id) < ($5, $6::uuid)) \
       ORDER BY started_at DESC, session_id DESC LIMIT 500) \
     AND (SELECT true FROM public.conversation_search AS found \
       WHERE found.session_id = session.session_id AND found.words @@ $8::text::tsquery LIMIT 1) \
     ORDER BY started_at DESC, session_id DESC LIMIT $7::int8"
);

/// Of all. The array is made first, by the index of the words: else the planner, which takes every word for a frequent one, would ask
/// one session after the other until it has enough.
const MATCHING_SESSIONS: &str = select_sessions!(
    "WHERE ($1::uuid IS NULL OR user_id = $1) AND ($2::text IS NULL OR status = $2) \
     AND ($3::timestamptz IS NULL OR started_at >= $3) AND ($4::timestamptz IS NULL OR started_at < $4) \
     AND ($5::timestamptz IS NULL OR (started_at, session_id) < ($5, $6::uuid)) \
     AND session_id = ANY (ARRAY(SELECT DISTINCT session_id FROM public.conversation_search WHERE words @@ $8::text::tsquery)) \
     ORDER BY started_at DESC, session_id DESC LIMIT $7::int8"
);

const SESSIONS_BY_PREFIX: &str =
    select_sessions!("WHERE session_id BETWEEN $1::uuid AND $2::uuid ORDER BY session_id LIMIT $3::int8");

const MESSAGES: &str = select_messages!(
    "WHERE session_id = $1::uuid AND (created_at, coalesce(seq, 0), id) > ($2::timestamptz, $3::int8, $4::uuid) \
     ORDER BY created_at, coalesce(seq, 0), id LIMIT $5::int8"
);

const FIRST_MESSAGES: &str =
    select_messages!("WHERE session_id = $1::uuid ORDER BY created_at, coalesce(seq, 0), id LIMIT $2::int8");

/// Of each of the sessions in $1, what was said last and how often somebody was interrupted.
const GLIMPSES: &str = "
SELECT last.session_id, last.role, last.words,
  (SELECT count(*) FROM public.conversation_messages cut WHERE cut.session_id = last.session_id AND cut.interrupted)
FROM unnest($1::uuid[]) AS wanted (id) CROSS JOIN LATERAL (
  SELECT session_id, role, left(content, $2::int8::integer) AS words FROM public.conversation_messages
  WHERE session_id = wanted.id AND kind = 'message' AND role IN ('user', 'assistant')
  ORDER BY created_at DESC, coalesce(seq, 0) DESC, id DESC LIMIT 1
) AS last";

/// By the order of acceptance, for whoever follows what comes in.
const ACCEPTED_SINCE: &str = select_messages!("WHERE seq > $1::int8 ORDER BY seq, id LIMIT $2::int8");

/// A session is at fault where its count is below the rows that talktrack wrote, or above all rows: others may write rows,
/// too, and count them or not.
const ODD_SESSIONS: &str = "
SELECT 'session ' || session.session_id || ' says ' || session.message_count || ' messages, ' || rows.total || ' are there'
FROM public.conversation_sessions session
LEFT JOIN (SELECT session_id, count(*) AS total, count(seq) AS ours FROM public.conversation_messages GROUP BY session_id) rows
  USING (session_id)
WHERE session.message_count NOT BETWEEN coalesce(rows.ours, 0) AND coalesce(rows.total, 0) LIMIT 20";

const ORPHANS: &str = "
SELECT 'message ' || id || ' belongs to session ' || session_id || ', which is not there'
FROM public.conversation_messages message
WHERE NOT EXISTS (SELECT FROM public.conversation_sessions session WHERE session.session_id = message.session_id) LIMIT 20";

const COUNTS: &str = "
SELECT (SELECT count(*) FROM public.conversation_sessions), (SELECT count(*) FROM public.conversation_messages)";

impl PostgresStore {
    /// Messages of all sessions that were accepted after this `seq`, in the order of acceptance. Those of other sessions and
    /// of other nodes may come later than some with a higher `seq`: whoever follows looks back a little.
    ///
    /// # Errors
    /// Where the database cannot be asked now.
    pub async fn accepted_since(&self, seq: Seq, limit: usize) -> Result<Vec<MessageRow>, ReadError> {
        let statement = Statement::new(ACCEPTED_SINCE).with(seq, Type::INT8).with(rows(limit), Type::INT8);
        self.ask(statement).await?.iter().map(message_row).collect()
    }
}

#[async_trait]
impl Rows for PostgresStore {
    async fn session(&self, session_id: Uuid) -> Result<Option<SessionRow>, ReadError> {
        let rows = self.ask(Statement::new(SESSION).with(session_id, Type::UUID)).await?;
        rows.first().map(session_row).transpose()
    }

    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        let list = |sql| {
            Statement::new(sql)
                .with(filter.user_id, Type::UUID)
                .with(filter.status.map(Status::as_str), Type::TEXT)
                .with(filter.since.map(moment), Type::TIMESTAMPTZ)
                .with(filter.until.map(moment), Type::TIMESTAMPTZ)
                .with(after.map(|cursor| moment(cursor.started_at)), Type::TIMESTAMPTZ)
                .with(after.map(|cursor| cursor.session_id), Type::UUID)
                .with(rows(limit), Type::INT8)
        };
        let found = match filter.matching.as_ref().map(Query::for_postgres) {
            None => self.ask(list(SESSIONS)).await?,
            Some(words) => {
                let newest = list(NEWEST_MATCHING_SESSIONS).with(words.clone(), Type::TEXT);
                let newest = self.search(newest).await?;
                let is_all = newest.len() == limit;
                if is_all {
                    newest
                } else {
                    let words = with_ids(words, filter.user_id, None);
                    self.search(list(MATCHING_SESSIONS).with(words, Type::TEXT)).await?
                }
            }
        };
        found.iter().map(session_row).collect()
    }

    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError> {
        let Some((first, last)) = range_of(prefix) else { return Ok(Vec::new()) };
        let statement = Statement::new(SESSIONS_BY_PREFIX)
            .with(first, Type::UUID)
            .with(last, Type::UUID)
            .with(rows(limit), Type::INT8);
        self.ask(statement).await?.iter().map(session_row).collect()
    }

    async fn messages(
        &self,
        session_id: Uuid,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Vec<MessageRow>, ReadError> {
        let statement = match after {
            Some(cursor) => Statement::new(MESSAGES)
                .with(session_id, Type::UUID)
                .with(moment(cursor.created_at), Type::TIMESTAMPTZ)
                .with(cursor.seq, Type::INT8)
                .with(cursor.id, Type::UUID),
            None => Statement::new(FIRST_MESSAGES).with(session_id, Type::UUID),
        };
        self.ask(statement.with(rows(limit), Type::INT8)).await?.iter().map(message_row).collect()
    }

    async fn glimpses(&self, ids: &[Uuid]) -> Result<Vec<Glimpse>, ReadError> {
        let statement = Statement::new(GLIMPSES)
            .with(ids.to_vec(), Type::UUID_ARRAY)
            .with(rows(GLIMPSE_CHARS), Type::INT8);
        self.ask(statement).await?.iter().map(glimpse).collect()
    }

    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Vec<Hit>, SearchError> {
        self.find(&wanted, after, limit).await
    }

    async fn stats_of(&self, user_id: Uuid, range: &Range) -> Result<Stats, StatsError> {
        self.count_of(user_id, range).await
    }
}

#[async_trait]
impl Read for PostgresStore {
    fn seen_by(&self, viewer: Viewer) -> Arc<dyn Rows> {
        // The one claim that the policies ask for is that of whoever was let in.
        let sub = JsonObject::parse(&format!(r#"{{"sub":"{}"}}"#, viewer.user_id)).unwrap_or_default();
        Arc::new(Self { viewer: Some(viewer.claims.merged(&sub)), ..self.clone() })
    }

    async fn silent(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError> {
        let statement = Statement::new(SILENT)
            .with(moment(since), Type::TIMESTAMPTZ)
            .with(after.map(|cursor| moment(cursor.started_at)), Type::TIMESTAMPTZ)
            .with(after.map(|cursor| cursor.session_id), Type::UUID)
            .with(rows(limit), Type::INT8);
        self.ask(statement).await?.iter().map(session_row).collect()
    }

    async fn sessions_by_id(&self, ids: &[Uuid]) -> Result<Vec<SessionRow>, ReadError> {
        let statement = Statement::new(SESSIONS_BY_ID).with(ids.to_vec(), Type::UUID_ARRAY);
        self.ask(statement).await?.iter().map(session_row).collect()
    }

    async fn messages_by_id(&self, ids: &[Uuid]) -> Result<Vec<MessageRow>, ReadError> {
        let statement = Statement::new(MESSAGES_BY_ID).with(ids.to_vec(), Type::UUID_ARRAY);
        self.ask(statement).await?.iter().map(message_row).collect()
    }

    async fn stats(&self, range: &Range) -> Result<Stats, StatsError> {
        self.tallied(*range).await
    }

    async fn audit(&self) -> Result<Audit, ReadError> {
        let counts = self.ask(Statement::new(COUNTS)).await?;
        let count =
            |column| counts.first().map_or(Ok(0), |row| get::<i64>(row, column)).map(i64::unsigned_abs);
        let mut problems = Vec::new();
        for question in [ODD_SESSIONS, ORPHANS] {
            for row in self.ask(Statement::new(question)).await? {
                problems.push(get(&row, 0)?);
            }
        }
        let (sessions, messages) = (count(0)?, count(1)?);
        Ok(Audit { books: None, sessions, messages, dead_letters: 0, journal: 0, problems })
    }
}

fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The first and the last UUID that begin with this text; `None` where none does.
fn range_of(prefix: &str) -> Option<(Uuid, Uuid)> {
    let digits: String = prefix.chars().filter(|character| *character != '-').collect();
    let first = format!("{digits:0<32}");
    let last = format!("{digits:f<32}");
    Uuid::try_parse(&first).ok().zip(Uuid::try_parse(&last).ok())
}
