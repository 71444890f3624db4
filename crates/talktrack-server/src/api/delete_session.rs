//! `DELETE /v1/sessions/{session_id}`: deletes a session with everything that was said in it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::access::SessionName;
use crate::auth::Caller;
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

/// A session that is gone, and what was removed with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedSession {
    session_id: Uuid,
    #[serde(flatten)]
    removed: DeletionReport,
}

/// Deletes a session
///
/// For good, with its messages, dead letters and what waits for the database. Whatever comes of it later is refused with 410
/// and the code `deleted`, and it cannot begin again. Users delete their own; a key needs the scope `admin`. Deleting it again
/// removes nothing. Of a session that is not there (404), whatever another server delivers later is refused, too: for a user
/// what was accepted for that user.
#[utoipa::path(
    delete, path = "/v1/sessions/{session_id}", operation_id = "delete_session", tag = "deleting", params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "Its UUID, or `external:NAME` with your own name for it, percent-encoded.")),
    responses(
        (status = 200, description = "It is gone everywhere.", body = DeletedSession),
        (status = 202, description = "It is gone here; the database cannot be reached and follows.", body = DeletedSession),
        Problem,
    )
)]
pub(crate) async fn delete_session(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
) -> Result<(StatusCode, Json<DeletedSession>), Problem> {
    let (session_id, removed) = deletion::delete_session(&state, &caller, &name).await?;
    Ok((deletion_status(&removed), Json(DeletedSession { session_id, removed })))
}

/// Returns 200 if the deletion is also done in the database, otherwise 202.
pub(super) fn deletion_status(removed: &DeletionReport) -> StatusCode {
    if removed.is_done() { StatusCode::OK } else { StatusCode::ACCEPTED }
}
