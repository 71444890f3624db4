//! `POST /v1/sessions`: starts a session. If it exists, the request changes nothing, or resumes it if it asks for that.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::{NewSession, NotDurable, SessionId, SessionRef, UserId};
use utoipa::ToSchema;

use super::body::JsonText;
use super::idempotency_key::IdempotencyKey;
use super::query::NoQueryParams;
use super::requests::SessionStart;
use crate::access;
use crate::auth::Caller;
use crate::error::Problem;
use crate::session_frames::{self, PreparedStart};
use crate::state::AppState;

/// A session that is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StartedSession {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    #[schema(value_type = String, min_length = 1, max_length = 256)]
    user_id: UserId,
    /// True if the session existed before and was resumed.
    resumed: bool,
    /// True if the session existed before, and the request changed nothing.
    #[serde(skip_serializing_if = "is_false")]
    #[schema(required = false)]
    repeated: bool,
    /// The fields of a repeated start that differ from the session, each with what the session has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    warnings: Vec<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Starts a session
///
/// The server answers when the session is durable. If the session already exists, the request changes nothing: the answer is 200
/// with `repeated`, and `warnings` name the fields that differ. With `resume`, an existing session continues instead, and its end
/// is revoked. The session stays open until a client ends it, or until it had no activity for `idle_timeout`.
#[utoipa::path(
    post, path = "/v1/sessions", operation_id = "start_session", tag = "writing", request_body = SessionStart,
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 256, description = "Without `session_id` and `external_id`, the server derives the session's id from the caller and this key, so that the request can be sent again.")),
    responses(
        (status = 200, description = "The session exists, and nothing was changed.", body = StartedSession),
        (status = 201, description = "The session is durable.", body = StartedSession),
        Problem,
    )
)]
pub(crate) async fn start_session(
    State(state): State<AppState>,
    caller: Caller,
    _: NoQueryParams,
    key: IdempotencyKey,
    body: JsonText,
) -> Result<(StatusCode, Json<StartedSession>), Problem> {
    let derived = key.session_id(&caller);
    let session = session_frames::new_session(&state, &caller, derived, body.frame("session.start")?).await?;
    let session = match session_frames::prepare_start(&state, &caller, session).await? {
        PreparedStart::New(session) => session,
        PreparedStart::Repeated { session: NewSession { session_id, user_id, .. }, warnings } => {
            let repeated = StartedSession { session_id, user_id, resumed: false, repeated: true, warnings };
            return Ok((StatusCode::OK, Json(repeated)));
        }
    };
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
    let started = StartedSession { session_id, user_id, resumed, repeated: false, warnings: Vec::new() };
    Ok((StatusCode::CREATED, Json(started)))
}
