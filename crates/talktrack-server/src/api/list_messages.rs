//! `GET /v1/sessions/{session_id}/messages`: lists messages in the order in which they were said.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::store::{MessageCursor, MessageRow};
use utoipa::{IntoParams, ToSchema};

use super::query::{Cursor, Limit, QueryParams};
use super::rows::Message;
use crate::access::{SessionName, SessionView};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListMessagesQuery {
    /// How many at most; 50 if it is left out. A page of large rows ends earlier.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Goes on after the page that gave it.
    #[param(value_type = Option<String>, pattern = "^(r|p?-?[0-9]{1,19})\\.-?[0-9]{1,19}\\.[0-9a-f]{32}$")]
    cursor: Option<Cursor<MessageCursor>>,
}

/// A page of a transcript.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Messages {
    messages: Vec<Message>,
    /// Where the transcript goes on; null at its end.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<Cursor<MessageCursor>>,
}

/// Shows what was said
///
/// In the order of `created_at`, then of acceptance. What is said while you turn the pages comes at the end.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/messages", operation_id = "list_messages", tag = "reading",
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "Its UUID, or `external:NAME` with your own name for it, percent-encoded."), ListMessagesQuery),
    responses(
        (status = 200, description = "A page.", body = Messages),
        Problem,
    )
)]
pub(crate) async fn list_messages(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    QueryParams(query): QueryParams<ListMessagesQuery>,
) -> Result<Json<Messages>, Problem> {
    let view = SessionView::open(&state, &caller, &name).await?;
    let ListMessagesQuery { limit: Limit(limit), cursor } = query;
    let found = view.messages(cursor.map(|Cursor(place)| place), limit).await;
    let found = found.map_err(|error| Problem::store_unavailable(&error))?;
    let next_cursor = found.last_before_more().map(MessageRow::cursor).map(Cursor);
    Ok(Json(Messages { messages: found.into_iter().map(Message::from).collect(), next_cursor }))
}
