//! `POST /v1/sessions`: starts a session, or resumes it if it is known.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::{NewSession, NotDurable, SessionId, SessionRef, UserId};
use talktrack_protocol::{ClientFrame, Frame, SessionStartFrame};
use utoipa::ToSchema;

use super::body::JsonText;
use super::requests::SessionStart;
use crate::access::{self, SessionName};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// A session that is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StartedSession {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    #[schema(value_type = Uuid)]
    user_id: UserId,
    /// True if the session existed before and was resumed.
    resumed: bool,
}

/// Starts a session
///
/// The server answers when the session is durable. If the session already exists, it is resumed and its end is revoked. The
/// session stays open until a client ends it, or until it had no activity for `idle_timeout`.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "start_session", tag = "writing", request_body = SessionStart,
    responses(
        (status = 201, description = "The session is durable.", body = StartedSession),
        Problem,
    )
)]
pub(crate) async fn start_session(
    State(state): State<AppState>,
    caller: Caller,
    body: JsonText,
) -> Result<(StatusCode, Json<StartedSession>), Problem> {
    let session = new_session(&state, &caller, body.frame("session.start")?).await?;
    let session = access::check_store(&state, &caller, session).await?;
    let session_id = session.session_id;
    let user_id = session.user_id.clone();
    let tracker = state.tracker();
    let receipt = tracker.start_session(session)?;
    let started = receipt.durable().await.inspect_err(|why| {
        if matches!(why, NotDurable::OtherUser | NotDurable::Deleted) {
            tracker.forget_claim(session_id, &user_id);
        }
    });
    // A session that was started over HTTP has no connection that could break.
    tracker.detach(SessionRef::for_user(session_id, user_id.clone()));
    let resumed = started.map_err(|why| access::mask_refusal(&caller, why))?.resumed;
    Ok((StatusCode::CREATED, Json(StartedSession { session_id, user_id, resumed })))
}

async fn new_session(state: &AppState, caller: &Caller, frame: Frame) -> Result<NewSession, Problem> {
    let user_id = caller.resolve_user(frame.user_id)?.ok_or_else(|| Problem::invalid("user_id: missing"))?;
    let ClientFrame::SessionStart(SessionStartFrame { external_id, metadata, started_at, .. }) = frame.body
    else {
        return Err(Problem::invalid("type: must be session.start here, or left out"));
    };
    let name = frame.session_id.map(SessionName::from);
    let session = access::to_start(state, caller, user_id, name.as_ref(), external_id).await?;
    Ok(session.with_metadata(metadata).with_started_at(started_at))
}
