//! `POST /v1/sessions/{session_id}/end`: a session ends.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{Closing, Status};
use utoipa::ToSchema;
use uuid::Uuid;

use super::access::{self, SessionId};
use super::body::JsonText;
use super::requests::SessionEnd;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;
use crate::wire::{self, ClientFrame};

/// A session whose end is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedSession {
    session_id: Uuid,
    /// From start to end.
    #[schema(example = 45.2)]
    duration_seconds: f64,
    message_count: u64,
}

/// Ends a session
///
/// Answers when the end, and everything sent before it, is durable. Ending it again changes nothing.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/end", operation_id = "end_session", tag = "writing", request_body = SessionEnd,
    params(("session_id" = Uuid, Path)),
    responses(
        (status = 202, description = "The end is durable.", body = EndedSession),
        Problem,
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    SessionId(session_id): SessionId,
    body: JsonText,
) -> Result<(StatusCode, Json<EndedSession>), Problem> {
    let ClientFrame::SessionEnd { reason, ended_at, status } = body.frame("session.end")?.body else {
        return Err(Problem::invalid("type: must be session.end here, or left out"));
    };
    let reason = wire::reason_of_end(reason).map_err(Problem::invalid)?;
    access::check_writable(&state, &caller, session_id).await?;
    let ended_at = ended_at.unwrap_or_else(|| SystemClock.now());
    let closing = Closing { status: status.unwrap_or(Status::Ended), reason: &reason, ended_at };
    let ended = state.tracker().end_session_as(session_id, closing)?.durable().await?;
    let talktrack::Ended { duration_seconds, message_count } = ended;
    Ok((StatusCode::ACCEPTED, Json(EndedSession { session_id, duration_seconds, message_count })))
}
