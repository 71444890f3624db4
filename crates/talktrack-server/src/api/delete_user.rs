//! `DELETE /v1/users/{user_id}`: deletes everything that a user ever said.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::UserId;
use utoipa::ToSchema;

use super::delete_session::deletion_status;
use super::query::NoQueryParams;
use crate::access::UserInPath;
use crate::auth::Caller;
use crate::deletion::{self, DeletionReport};
use crate::error::Problem;
use crate::state::AppState;

/// A deleted user, and what was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletedUser {
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    user_id: UserId,
    #[serde(flatten)]
    removed: DeletionReport,
}

/// Deletes a user
///
/// Deletes all sessions of the user, each as `DELETE /v1/sessions/{session_id}` does. Sessions that began before the deletion
/// and that another server delivers later are refused. The user may come back with new sessions. Users delete themselves; an
/// API key needs the scope `admin`. If there is nothing of the user, nothing is removed.
#[utoipa::path(
    delete, path = "/v1/users/{user_id}", operation_id = "delete_user", tag = "deleting", params(("user_id" = String, Path, min_length = 1, max_length = 256, description = "The user's id, percent-encoded.")),
    responses(
        (status = 200, description = "Everything is deleted.", body = DeletedUser),
        (status = 202, description = "Everything is deleted on this server. The database or the object store cannot be reached; the server deletes the rest there as soon as it can.", body = DeletedUser),
        Problem,
    )
)]
pub(crate) async fn delete_user(
    State(state): State<AppState>,
    caller: Caller,
    UserInPath(user_id): UserInPath,
    _: NoQueryParams,
) -> Result<(StatusCode, Json<DeletedUser>), Problem> {
    caller.require_delete()?;
    caller.resolve_user(Some(user_id.clone()))?;
    let removed = deletion::delete_user(&state, user_id.clone()).await?;
    Ok((deletion_status(&removed), Json(DeletedUser { user_id, removed })))
}
