//! `DELETE /v1/sessions/{session_id}/messages/{message_id}`: deletes one message.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::{MessageId, SessionId};
use utoipa::ToSchema;

use super::delete_session::deletion_status;
use super::query::NoQueryParams;
use crate::access::{MessageInPath, SessionName};
use crate::auth::Caller;
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

/// A deleted message, and what was removed with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedMessage {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    #[schema(value_type = Uuid)]
    message_id: MessageId,
    #[serde(flatten)]
    removed: DeletionReport,
}

/// Deletes one message
///
/// Deletes the message permanently, with its dead letters and its records that wait for the database. Later records with its id
/// are refused with the code `deleted`, as long as the session exists. It needs the same right as to delete the session; a user's
/// token deletes only messages that a user wrote. A message that was deleted before is not found (404).
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}/messages/{message_id}", operation_id = "delete_message", tag = "deleting",
    params(
        ("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`."),
        ("message_id" = Uuid, Path, description = "The message's id."),
    ),
    responses(
        (status = 200, description = "The message is deleted everywhere.", body = DeletedMessage),
        (status = 202, description = "The message is deleted on this server, and no list shows it. The database cannot be reached; the server deletes the message there as soon as it can.", body = DeletedMessage),
        Problem,
    )
)]
pub(crate) async fn delete_message(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    MessageInPath(message_id): MessageInPath,
    _: NoQueryParams,
) -> Result<(StatusCode, Json<DeletedMessage>), Problem> {
    let (session_id, removed) =
        deletion::messages::delete_message(&state, &caller, &name, message_id).await?;
    Ok((deletion_status(&removed), Json(DeletedMessage { session_id, message_id, removed })))
}
