//! Full-text search in the database: the table `conversation_search` finds the messages, their rows give
//! the text.
//!
//! A word may be in half of all messages or in three. For a frequent word it is best to check the newest
//! messages one by one until there are enough hits; for a rare one the index on the words names all of
//! them. Which case applies is not known in advance, not even to the planner. So a bounded number of the
//! newest messages is checked first.
//!
//! Users have no privileges on the index. For a viewer the server queries the index with its own rights,
//! for this user's messages only, and then reads these messages with the viewer's rights: if the project's
//! policies hide a message, they hide its words too.

use std::collections::HashMap;

use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use talktrack_core::store::{Page, SEARCHED_BYTES, Viewer};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::connections::{QUERY_TIMEOUT, run_within};
use crate::failure::Failure;
use crate::rows::{get, get_id, get_or_default, get_time, get_user, get_word, is_full};
use crate::statement::Statement;
use crate::store::PostgresStore;

macro_rules! select_hits {
    ($from:literal, $order:literal) => {
        concat!(
            "SELECT id, session_id, user_id, role, kind, created_at, place, content, user_external_id, listed FROM (SELECT *, count(*) OVER () AS listed, \
             sum(weight) OVER (ORDER BY place DESC, id DESC ROWS UNBOUNDED PRECEDING) - weight AS bytes FROM (\
             SELECT *, coalesce(octet_length(content::text), 0) AS weight FROM (\
             SELECT message.id, message.session_id, found.user_id, message.role, message.kind, message.created_at, found.place, \
             message.content, found.user_external_id FROM (",
            $from,
            ") AS found JOIN public.conversation_messages AS message ON message.id = found.message_id \
             WHERE message.status = 'final' AND found.words @@ $1::text::tsquery AND ($2::bigint IS NULL OR (found.place, found.message_id) < ($2, $3::uuid)) \
             AND ($5::uuid IS NULL OR found.user_id = $5 AND found.user_external_id IS NOT DISTINCT FROM $7::text) AND ($6::uuid IS NULL OR found.session_id = $6) ORDER BY ",
            $order,
            " LIMIT $4::bigint) AS hits OFFSET 0) AS measured) AS weighed WHERE bytes < 4194304 ORDER BY place DESC, id DESC"
        )
    };
}

/// Searches the newest 5,000 messages.
const NEWEST: &str = select_hits!(
    "SELECT * FROM public.conversation_search WHERE ($2::bigint IS NULL OR (place, message_id) < ($2, $3::uuid)) \
     ORDER BY place DESC, message_id DESC LIMIT 5000",
    "found.place DESC, found.message_id DESC"
);

/// Searches all messages through the index on the words. The sum keeps the planner from reading all
/// messages in their order instead.
const BY_WORDS: &str =
    select_hits!("SELECT * FROM public.conversation_search", "found.place + 0 DESC, found.message_id DESC");

/// Searches the messages of a user, newest first. Returns ids and places, without any text.
const OF_USER: &str = "SELECT message_id, place FROM public.conversation_search \
     WHERE user_id = $5::uuid AND user_external_id IS NOT DISTINCT FROM $7::text AND words @@ $1::text::tsquery AND ($6::uuid IS NULL OR session_id = $6) \
     AND ($2::bigint IS NULL OR (place, message_id) < ($2, $3::uuid)) ORDER BY place DESC, message_id DESC LIMIT $4::bigint";

/// Reads those of these messages that the viewer may see.
const FOUND_MESSAGES: &str = "SELECT id, session_id, role, kind, created_at, content, listed FROM (\
     SELECT *, count(*) OVER () AS listed, sum(weight) \
       OVER (ORDER BY array_position($1::uuid[], id) ROWS UNBOUNDED PRECEDING) - weight AS bytes FROM (\
       SELECT id, session_id, role, kind, created_at, content, coalesce(octet_length(content::text), 0) AS weight FROM public.conversation_messages WHERE id = ANY($1::uuid[]) AND status = 'final' OFFSET 0) AS hits) AS weighed \
     WHERE bytes < 4194304 ORDER BY array_position($1::uuid[], id)";

/// The least number of a viewer's index entries that are looked up at once. The project's policies may hide
/// most of them.
const AT_LEAST: usize = 50;

/// Finds a user's sessions with the words, even if the viewer may not see the message with them.
const SESSIONS_OF_USER: &str = "SELECT DISTINCT session_id FROM public.conversation_search \
     WHERE user_id = $1::uuid AND user_external_id IS NOT DISTINCT FROM $3::text AND words @@ $2::text::tsquery";

/// Finds the newest messages with the words in each session, at most 1,000.
const IN_SESSIONS: &str = "SELECT found.message_id FROM unnest($1::uuid[]) AS wanted (id) CROSS JOIN LATERAL \
     (SELECT message_id FROM public.conversation_search WHERE session_id = wanted.id AND user_id = $2::uuid \
       AND user_external_id IS NOT DISTINCT FROM $4::text AND words @@ $3::text::tsquery ORDER BY place DESC LIMIT 1000) AS found";

/// Returns the sessions of those messages that the viewer may see.
const SEEN_IN: &str =
    "SELECT DISTINCT session_id FROM public.conversation_messages WHERE id = ANY($1::uuid[])";

/// Number of columns of a hit before the column with the number of rows listed.
const HIT_COLUMNS: usize = 9;
/// The same for the query with the viewer's rights.
const VIEWER_COLUMNS: usize = 6;

impl PostgresStore {
    /// Returns a page of hits, newest first.
    pub(super) async fn find_hits(
        &self,
        wanted: &SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError> {
        let mut hits: Page<Hit> = Page::default();
        let mut after = after;
        let mut bytes = 0;
        loop {
            let missing = limit - hits.len();
            let found = match &self.viewer {
                None => self.find_unrestricted(wanted, after, missing).await?,
                Some(viewer) => self.find_for_viewer(viewer, wanted, after, missing.max(AT_LEAST)).await?,
            };
            bytes += found.bytes;
            hits.rows.extend(found.hits.into_iter().take(missing));
            hits.more = hits.len() >= limit || (bytes >= SEARCHED_BYTES && !hits.is_empty());
            if found.last.is_none() || hits.more {
                hits.more &= hits.len() >= limit || found.last.is_some();
                return Ok(hits);
            }
            after = found.last;
        }
    }

    async fn find_unrestricted(
        &self,
        wanted: &SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<FoundHits, SearchError> {
        let rows = self.find_rows(wanted, after, limit).await?;
        let mut found = FoundHits::default();
        for row in &rows {
            let place = SearchCursor { place: get(row, 6)?, id: get_id(row, 0)? };
            found.last = Some(place);
            let content: &str = get_or_default(row, 7)?;
            found.bytes += content.len();
            let Some(snippet) = wanted.query.snippet(content) else { continue };
            let Some(user_id) = get_user(row, 2, 8)? else { continue };
            found.hits.push(Hit {
                message_id: place.id,
                session_id: get_id(row, 1)?,
                user_id,
                role: get_word(row, 3, |word| word.parse().ok())?,
                kind: get_word(row, 4, |word| word.parse().ok())?,
                created_at: get_time(row, 5)?,
                snippet,
                place: place.place,
            });
        }
        if !is_full(&rows, Some(limit), HIT_COLUMNS)? {
            found.last = None;
        }
        Ok(found)
    }

    /// Queries the index with the server's rights, and reads the messages with the viewer's rights.
    async fn find_for_viewer(
        &self,
        viewer: &Viewer,
        wanted: &SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<FoundHits, SearchError> {
        if wanted.user_id.as_ref().is_some_and(|user| *user != viewer.user_id) {
            return Ok(FoundHits::default());
        }
        let words = with_ids(wanted.query.to_tsquery(), Some(&viewer.user_id), wanted.session_id);
        let query = hits_query(OF_USER, words, wanted, after, limit, Some(&viewer.user_id));
        let entries = self.query_index(query).await?;
        let places: Vec<_> = entries
            .iter()
            .map(|row| Ok(SearchCursor { place: get(row, 1)?, id: get_id(row, 0)? }))
            .collect::<Result<_, ReadError>>()?;
        let rows =
            self.run_query(Statement::new(FOUND_MESSAGES).uuids(places.iter().map(|place| place.id))).await?;
        let mut seen: HashMap<MessageId, Hit> = HashMap::new();
        let mut bytes = 0;
        let mut last_read = None;
        for row in &rows {
            let message_id = get_id(row, 0)?;
            let content: &str = get_or_default(row, 5)?;
            (bytes, last_read) = (bytes + content.len(), Some(message_id));
            let Some(snippet) = wanted.query.snippet(content) else { continue };
            let hit = Hit {
                message_id,
                session_id: get_id(row, 1)?,
                user_id: viewer.user_id.clone(),
                role: get_word(row, 2, |word| word.parse().ok())?,
                kind: get_word(row, 3, |word| word.parse().ok())?,
                created_at: get_time(row, 4)?,
                snippet,
                place: 0,
            };
            seen.insert(message_id, hit);
        }
        let last = if is_full(&rows, None, VIEWER_COLUMNS)? {
            places.iter().find(|place| Some(place.id) == last_read)
        } else {
            places.last().filter(|_| places.len() == limit)
        };
        let in_order =
            places.iter().filter_map(|at| Some(Hit { place: at.place, ..seen.remove(&at.id)? })).collect();
        Ok(FoundHits { hits: in_order, last: last.copied(), bytes })
    }

    /// Returns the ids of the viewer's sessions that contain the words. The caller lists them with the
    /// viewer's rights.
    pub(super) async fn sessions_with(
        &self,
        viewer: &Viewer,
        query: &Query,
    ) -> Result<Vec<SessionId>, SearchError> {
        let words = with_ids(query.to_tsquery(), Some(&viewer.user_id), None);
        let of_user = Statement::new(SESSIONS_OF_USER).uuid(viewer.user_id.as_uuid()).with(words, Type::TEXT);
        let of_user = of_user.user_text(Some(&viewer.user_id));
        Ok(read_ids(&self.query_index(of_user).await?)?)
    }

    /// Returns those of the sessions in which the viewer may see a message with the words.
    pub(super) async fn visible_sessions(
        &self,
        viewer: &Viewer,
        query: &Query,
        sessions: &[SessionId],
    ) -> Result<Vec<SessionId>, SearchError> {
        let found = Statement::new(IN_SESSIONS)
            .uuids(sessions.iter().copied())
            .uuid(viewer.user_id.as_uuid())
            .with(query.to_tsquery(), Type::TEXT)
            .user_text(Some(&viewer.user_id));
        let messages: Vec<MessageId> = read_ids(&self.query_index(found).await?)?;
        let seen = Statement::new(SEEN_IN).uuids(messages.into_iter());
        Ok(read_ids(&self.run_query(seen).await?)?)
    }

    async fn find_rows(
        &self,
        wanted: &SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Vec<Row>, SearchError> {
        let words = wanted.query.to_tsquery();
        if wanted.user_id.is_none() && wanted.session_id.is_none() {
            let newest =
                self.query_index(hits_query(NEWEST, words.clone(), wanted, after, limit, None)).await?;
            if is_full(&newest, Some(limit), HIT_COLUMNS)? {
                return Ok(newest);
            }
        }
        let words = with_ids(words, wanted.user_id.as_ref(), wanted.session_id);
        self.query_index(hits_query(BY_WORDS, words, wanted, after, limit, wanted.user_id.as_ref())).await
    }

    /// Runs a query that needs the index, with the server's rights.
    pub(super) async fn query_index(&self, statement: Statement<'_>) -> Result<Vec<Row>, SearchError> {
        let found = async {
            let client = self.readers.get().await?;
            run_within(client, QUERY_TIMEOUT, async |client| Ok(statement.query(client).await?)).await
        };
        found.await.map_err(|failure: Failure| {
            if failure.is_about_the_schema() || failure.is_about_rights() {
                return SearchError::NoIndex(
                    "the database has no search index, or talktrack may not read it (run: talktrack doctor)"
                        .into(),
                );
            }
            if failure.is_over_time() {
                SearchError::TooBroad
            } else {
                ReadError::unavailable(failure.message()).into()
            }
        })
    }
}

/// Adds the user and the session to the expression. Both are words of each indexed message, so the index
/// finds messages with all of them.
pub(super) fn with_ids(words: String, user_id: Option<&UserId>, session_id: Option<SessionId>) -> String {
    let user = user_id.map(|id| format!(" & '{}{}'", talktrack_core::search::USER, id.as_uuid().simple()));
    let session =
        session_id.map(|id| format!(" & '{}{}'", talktrack_core::search::SESSION, id.as_uuid().simple()));
    words + &user.unwrap_or_default() + &session.unwrap_or_default()
}

/// Builds a query of the index.
fn hits_query<'a>(
    sql: &'static str,
    words: String,
    wanted: &SearchFilter,
    after: Option<SearchCursor>,
    limit: usize,
    user: Option<&UserId>,
) -> Statement<'a> {
    Statement::new(sql)
        .with(words, Type::TEXT)
        .with(after.map(|after| after.place), Type::INT8)
        .uuid_or_null(after.map(|after| after.id))
        .with(i64::try_from(limit).unwrap_or(i64::MAX), Type::INT8)
        .uuid_or_null(user.map(UserId::as_uuid))
        .uuid_or_null(wanted.session_id)
        .user_text(user)
}

fn read_ids<T: From<Uuid>>(rows: &[Row]) -> Result<Vec<T>, ReadError> {
    rows.iter().map(|row| get_id(row, 0)).collect()
}

/// The result of one query of the index.
#[derive(Default)]
struct FoundHits {
    /// The hits. A message may have been revised meanwhile, so each was checked for the words.
    hits: Vec<Hit>,
    /// The last index entry that was read, if there may be more after it.
    last: Option<SearchCursor>,
    /// Bytes of the messages that were read.
    bytes: usize,
}
