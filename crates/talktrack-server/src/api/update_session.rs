//! `PATCH /v1/sessions/{session_id}`: keys are merged into the session's metadata.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{self, SessionId};
use super::body::JsonText;
use super::requests::SessionUpdate;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;
use crate::wire::ClientFrame;

/// A session whose update is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UpdatedSession {
    session_id: Uuid,
}

/// Merges keys into a session's metadata
///
/// Each key replaces the one of the same name; others stay. Answers when that is durable.
#[utoipa::path(
    patch, path = "/v1/sessions/{session_id}", operation_id = "update_session", tag = "writing", request_body = SessionUpdate,
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 202, description = "The update is durable.", body = UpdatedSession),
        Problem,
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    SessionId(session_id): SessionId,
    body: JsonText,
) -> Result<(StatusCode, Json<UpdatedSession>), Problem> {
    let ClientFrame::SessionUpdate { metadata } = body.frame("session.update")?.body else {
        return Err(Problem::invalid("type: must be session.update here, or left out"));
    };
    access::check_writable(&state, &caller, session_id).await?;
    state.tracker().update_session(session_id, metadata)?.durable().await?;
    Ok((StatusCode::ACCEPTED, Json(UpdatedSession { session_id })))
}
