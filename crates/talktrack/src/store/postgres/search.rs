//! Searching in the database: the table `conversation_search` says which messages, their rows what was said.
//!
//! A word may be in half of all messages or in three. For the former the newest messages are looked at one by one until there
//! are enough, for the latter the index on the words names them all. Which of the two it is nobody knows beforehand, the
//! planner neither: so the newest are looked at first, a bounded number of them. A user's messages are looked at one by one in
//! any case: under row-level security the database asks the policy first, and the index on the words has no say.

use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::error::ReadError;
use crate::json::JsonObject;
use crate::search::{Hit, SearchCursor, SearchError, SearchFilter};
use crate::store::postgres::PostgresStore;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::rows::{get, timestamp, word};
use crate::store::postgres::statement::Statement;

macro_rules! select_hits {
    ($from:literal, $order:literal) => {
        concat!(
            "SELECT message.id, message.session_id, found.user_id, message.role, message.kind, message.created_at, found.place, \
             message.content FROM (",
            $from,
            ") AS found JOIN public.conversation_messages AS message ON message.id = found.message_id \
             WHERE found.words @@ $1::text::tsquery AND ($2::bigint IS NULL OR (found.place, found.message_id) < ($2, $3::uuid)) \
             AND ($5::uuid IS NULL OR found.user_id = $5) AND ($6::uuid IS NULL OR found.session_id = $6) ORDER BY ",
            $order,
            " LIMIT $4::bigint"
        )
    };
}

/// Among the newest.
const NEWEST: &str = select_hits!(
    "SELECT * FROM public.conversation_search WHERE ($2::bigint IS NULL OR (place, message_id) < ($2, $3::uuid)) \
     ORDER BY place DESC, message_id DESC LIMIT 5000",
    "found.place DESC, found.message_id DESC"
);

/// Among all, by their words. The sum keeps the planner from reading all messages in their order instead.
const BY_WORDS: &str =
    select_hits!("SELECT * FROM public.conversation_search", "found.place + 0 DESC, found.message_id DESC");

/// Among those of a user, in their order.
const OF_USER: &str = select_hits!(
    "SELECT * FROM public.conversation_search WHERE user_id = $5::uuid",
    "found.place DESC, found.message_id DESC"
);

impl PostgresStore {
    /// Hits, newest first.
    pub(super) async fn find(
        &self,
        wanted: &SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Vec<Hit>, SearchError> {
        let mut hits: Vec<Hit> = Vec::new();
        let mut after = after;
        loop {
            let missing = limit - hits.len();
            let rows = self.find_rows(wanted, after, missing).await?;
            for row in &rows {
                let place = SearchCursor { place: get(row, 6)?, id: get(row, 0)? };
                after = Some(place);
                // A message may have been revised a moment ago: what is shown has it in it.
                if let Some(snippet) = wanted.query.snippet(get(row, 7)?) {
                    hits.push(Hit {
                        message_id: place.id,
                        session_id: get(row, 1)?,
                        user_id: get(row, 2)?,
                        role: word(row, 3, |word| word.parse().ok())?,
                        kind: word(row, 4, |word| word.parse().ok())?,
                        created_at: timestamp(row, 5)?,
                        snippet,
                        place: place.place,
                    });
                }
            }
            if rows.len() < missing || hits.len() == limit {
                return Ok(hits);
            }
        }
    }

    async fn find_rows(
        &self,
        wanted: &SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Vec<Row>, SearchError> {
        let viewer = self.viewer.as_ref().and_then(subject);
        let user = wanted.user_id.or(viewer);
        let statement = |sql, query: String| {
            Statement::new(sql)
                .with(query, Type::TEXT)
                .with(after.map(|after| after.place), Type::INT8)
                .with(after.map(|after| after.id), Type::UUID)
                .with(i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8)
                .with(user, Type::UUID)
                .with(wanted.session_id, Type::UUID)
        };
        let words = wanted.query.for_postgres();
        if viewer.is_some() {
            return self.search(statement(OF_USER, words)).await;
        }
        if user.is_none() && wanted.session_id.is_none() {
            let newest = self.search(statement(NEWEST, words.clone())).await?;
            if newest.len() == limit {
                return Ok(newest);
            }
        }
        self.search(statement(BY_WORDS, with_ids(words, wanted.user_id, wanted.session_id))).await
    }

    /// Asks what needs the index.
    pub(super) async fn search(&self, statement: Statement<'_>) -> Result<Vec<Row>, SearchError> {
        self.try_ask(statement).await.map_err(|failure: Failure| {
            if failure.is_about_the_schema() || failure.is_about_rights() {
                return SearchError::NoIndex(
                    "the database has no index to search by, or keeps talktrack from it (run: talktrack doctor)".into(),
                );
            }
            if failure.is_over_time() { SearchError::TooBroad } else { ReadError(failure.message().to_owned()).into() }
        })
    }
}

/// Whose a message is and which session's are words of it, so that the index finds what has all of them.
pub(super) fn with_ids(words: String, user_id: Option<Uuid>, session_id: Option<Uuid>) -> String {
    let user = user_id.map(|id| format!(" & '{}{}'", crate::search::USER, id.simple()));
    let session = session_id.map(|id| format!(" & '{}{}'", crate::search::SESSION, id.simple()));
    words + &user.unwrap_or_default() + &session.unwrap_or_default()
}

fn subject(claims: &JsonObject) -> Option<Uuid> {
    let claims: serde_json::Map<String, serde_json::Value> = serde_json::from_str(claims.as_str()).ok()?;
    claims.get("sub")?.as_str()?.parse().ok()
}
