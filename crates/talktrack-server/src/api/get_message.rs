//! `GET /v1/sessions/{session_id}/messages/{message_id}`: returns one message.

use axum::Json;
use axum::extract::State;

use super::query::NoQueryParams;
use super::rows::Message;
use crate::access::{MessageInPath, SessionName, SessionView};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// Returns one message
///
/// The message is in its latest revision. Its id is the one that the acknowledgement and the lists have.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}/messages/{message_id}", operation_id = "get_message", tag = "reading",
    params(
        ("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."),
        ("message_id" = Uuid, Path, description = "The message's id."),
    ),
    responses(
        (status = 200, description = "The message.", body = Message),
        Problem,
    )
)]
pub(crate) async fn get_message(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    MessageInPath(message_id): MessageInPath,
    _: NoQueryParams,
) -> Result<Json<Message>, Problem> {
    let view = SessionView::open(&state, &caller, &name).await?;
    let found = view.message(message_id).await.map_err(|error| Problem::read_failed(&error))?;
    Ok(Json(found.ok_or_else(Problem::message_not_found)?.into()))
}
