//! `GET /v1/search`: finds messages by their words, newest first.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use talktrack::{Kind, MessageId, Role, SessionId, Stored, StoredTime, UserId};
use utoipa::{IntoParams, ToSchema};

use super::query::{Cursor, Limit, QueryParams};
use crate::access;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// After how many seconds a client should retry while the search index is not built yet.
const INDEX_IS_BEING_MADE: u32 = 5;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SearchQuery {
    /// The words that a message must contain, all of them, in any order, case and with or without accents. `"several words"` must
    /// occur in this order; `begin*` matches words that begin so. Everything else is plain text.
    #[param(value_type = String, min_length = 1, max_length = 500, example = "refund \"order number\" deliver*")]
    q: Query,
    /// Only messages in sessions of this user.
    #[param(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
    /// Only messages in this session.
    #[param(value_type = Option<Uuid>)]
    session_id: Option<SessionId>,
    /// The maximum number of messages in the page. Defaults to 50. A page of large messages ends earlier.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// The `next_cursor` of the previous page. Defaults to the first page.
    #[param(value_type = Option<String>, pattern = "^-?[0-9]{1,18}\\.[0-9a-f]{32}$")]
    cursor: Option<Cursor<SearchCursor>>,
}

/// A page of search results.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Found)]
pub(crate) struct SearchResults {
    hits: Vec<FoundMessage>,
    /// The cursor of the next page; `null` on the last page.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<Cursor<SearchCursor>>,
}

/// A message that matches.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FoundMessage {
    #[schema(value_type = Uuid)]
    message_id: MessageId,
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// The user of the session.
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    user_id: UserId,
    /// `user`, `assistant`, `system`, `developer` or `tool`. Any other value that another program wrote is returned unchanged.
    #[schema(value_type = String, example = "user")]
    role: Stored<Role>,
    /// `message`, `tool_call`, `tool_result` or `event`. Any other value that another program wrote is returned unchanged.
    #[schema(value_type = String, example = "message")]
    kind: Stored<Kind>,
    #[schema(value_type = String, format = DateTime)]
    created_at: StoredTime,
    /// The part of the content around the first hit, in pieces. Show each piece as text: nothing in it is markup.
    snippet: Vec<SnippetPiece>,
}

/// A piece of a message's content.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Piece)]
pub(crate) struct SnippetPiece {
    /// The text as it was said. A lone `…` at either end stands for text that is left out.
    #[schema(example = "refund")]
    text: String,
    /// True if this piece matches the query.
    hit: bool,
}

/// Finds messages by their words
///
/// The newest messages come first, in the order of acceptance. A very recent message may not be found yet: the server updates the
/// index in the background, within a second if it is not busy.
#[utoipa::path(
    get, path = "/v1/search", operation_id = "search", tag = "reading", params(SearchQuery),
    responses(
        (status = 200, description = "A page of search results.", body = SearchResults),
        Problem,
    )
)]
pub(crate) async fn search_messages(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(wanted): QueryParams<SearchQuery>,
) -> Result<Json<SearchResults>, Problem> {
    let rows = access::open_rows(&state, &caller)?;
    let SearchQuery { q, user_id, session_id, limit: Limit(limit), cursor } = wanted;
    let filter = SearchFilter::new(q).with_user_id(caller.resolve_user(user_id)?).with_session_id(session_id);
    let found = rows
        .search(filter, cursor.map(|Cursor(place)| place), limit)
        .await
        .map_err(|error| to_problem("q", error))?;
    let next_cursor = found.last_before_more().map(Hit::cursor).map(Cursor);
    Ok(Json(SearchResults { hits: found.into_iter().map(FoundMessage::from).collect(), next_cursor }))
}

/// Converts a failed search to a response. `field` is the name of the field in which the caller gave the words.
pub(crate) fn to_problem(field: &str, error: SearchError) -> Problem {
    match error {
        SearchError::Read(error) => Problem::read_failed(&error),
        error @ SearchError::NoIndex(_) => Problem::unavailable(error.to_string(), INDEX_IS_BEING_MADE),
        error => Problem::invalid(format_args!("{field}: {error}")),
    }
}

impl From<Hit> for FoundMessage {
    fn from(hit: Hit) -> Self {
        let piece = |piece: talktrack::search::Piece| SnippetPiece { text: piece.text, hit: piece.hit };
        Self {
            message_id: hit.message_id,
            session_id: hit.session_id,
            user_id: hit.user_id,
            role: hit.role,
            kind: hit.kind,
            created_at: hit.created_at,
            snippet: hit.snippet.into_iter().map(piece).collect(),
        }
    }
}
