//! `DELETE /v1/sessions/{session_id}`: deletes a session with everything that was said in it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::SessionId;
use utoipa::ToSchema;

use super::query::NoQueryParams;
use crate::access::SessionName;
use crate::auth::Caller;
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

/// A deleted session, and what was removed with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedSession {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    #[serde(flatten)]
    removed: DeletionReport,
}

/// Deletes a session
///
/// Deletes the session permanently, with its messages, its dead letters and its records that wait for the database. The server
/// refuses everything that arrives for it later, with 410 and the code `deleted`; the session cannot begin again. Users delete
/// their own sessions; an API key needs the scope `admin`. Deleting a session again removes nothing. If the session does not
/// exist (404), what another server delivers of it later is refused as well; after a request with a user's token, only what was
/// accepted for this user.
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}", operation_id = "delete_session", tag = "deleting", params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`.")),
    responses(
        (status = 200, description = "The session is deleted everywhere.", body = DeletedSession),
        (status = 202, description = "The session is deleted on this server. The database or the object store cannot be reached; the server deletes the session there as soon as it can.", body = DeletedSession),
        Problem,
    )
)]
pub(crate) async fn delete_session(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    _: NoQueryParams,
) -> Result<(StatusCode, Json<DeletedSession>), Problem> {
    let (session_id, removed) = deletion::delete_session(&state, &caller, &name).await?;
    Ok((deletion_status(&removed), Json(DeletedSession { session_id, removed })))
}

/// Returns 200 if the deletion is also done in the database, otherwise 202.
pub(super) fn deletion_status(removed: &DeletionReport) -> StatusCode {
    if removed.is_done() { StatusCode::OK } else { StatusCode::ACCEPTED }
}
