//! `GET /v1/sessions/{session_id}/messages`: what was said, in order.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::store::{MessageCursor, MessageRow};
use utoipa::{IntoParams, ToSchema};

use super::access::{self, SessionId};
use super::query::{Cursor, Limit, Params};
use super::rows::Message;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// How many at most; 50 where it is left out.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Goes on after the page that gave it.
    #[param(value_type = Option<String>, pattern = "^-?[0-9]{1,15}\\.-?[0-9]{1,18}\\.[0-9a-f]{32}$")]
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
    params(("session_id" = Uuid, Path), Page),
    responses(
        (status = 200, description = "A page.", body = Messages),
        Problem,
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    SessionId(session_id): SessionId,
    Params(query): Params<Page>,
) -> Result<Json<Messages>, Problem> {
    let rows = access::rows(&state, &caller)?;
    let Page { limit: Limit(limit), cursor } = query;
    let found = rows.messages(session_id, cursor.map(|Cursor(place)| place), limit).await;
    let found = found.map_err(access::unreadable)?;
    if found.is_empty() {
        // No messages, or no session.
        access::session(&*rows, session_id).await?;
    }
    let next_cursor = found.last().filter(|_| found.len() == limit).map(MessageRow::cursor).map(Cursor);
    Ok(Json(Messages { messages: found.into_iter().map(Message::from).collect(), next_cursor }))
}
