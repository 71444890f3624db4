//! `POST /v1/sessions`: starts a session. If it exists, the request changes nothing, or resumes it if it asks for that.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use talktrack::store::SessionRow;
use talktrack::{Dimensions, JsonObject, NewSession, NotDurable, SessionId, SessionRef, Stored, UserId};
use talktrack_protocol::{ClientFrame, Frame, SessionStartFrame};
use utoipa::ToSchema;

use super::body::JsonText;
use super::idempotency_key::IdempotencyKey;
use super::query::NoQueryParams;
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
    let mut session = new_session(&state, &caller, &key, body.frame("session.start")?).await?;
    state.tracker().check_start(&mut session)?;
    if !session.resume
        && let Some(row) = access::find_existing(&state, &caller, &session).await
    {
        let warnings = find_differences(&session, &row);
        let NewSession { session_id, user_id, .. } = session;
        let repeated = StartedSession { session_id, user_id, resumed: false, repeated: true, warnings };
        return Ok((StatusCode::OK, Json(repeated)));
    }
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
    let started = StartedSession { session_id, user_id, resumed, repeated: false, warnings: Vec::new() };
    Ok((StatusCode::CREATED, Json(started)))
}

async fn new_session(
    state: &AppState,
    caller: &Caller,
    key: &IdempotencyKey,
    frame: Frame,
) -> Result<NewSession, Problem> {
    let user_id = caller.resolve_user(frame.user_id)?.ok_or_else(|| Problem::invalid("user_id: missing"))?;
    let ClientFrame::SessionStart(SessionStartFrame {
        external_id,
        metadata,
        dimensions,
        started_at,
        resume,
        ..
    }) = frame.body
    else {
        return Err(Problem::invalid("type: must be session.start here, or left out"));
    };
    let name = frame.session_id.map(SessionName::from);
    let derived = key.session_id(caller).filter(|_| name.is_none() && external_id.is_none());
    let session = access::to_start(state, caller, user_id, name.as_ref(), external_id).await?;
    let session_id = derived.unwrap_or(session.session_id);
    Ok(session
        .with_session_id(session_id)
        .with_metadata(metadata)
        .with_dimensions(dimensions)
        .with_started_at(started_at)
        .with_resume(resume))
}

/// The maximum number of differences that an answer names.
const MAX_DIFFERENCES: usize = 16;

fn as_fields(dimensions: &Dimensions) -> Map<String, Value> {
    serde_json::to_value(dimensions).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
}

/// Returns what a repeated start says otherwise than the session.
fn find_differences(session: &NewSession, row: &SessionRow) -> Vec<String> {
    let mut differences = Vec::new();
    if session.external_id.is_some() && session.external_id != row.external_id {
        let kept = row.external_id.as_deref().map_or("none".to_owned(), |id| format!("{id:?}"));
        differences.push(format!("external_id: the session has {kept}"));
    }
    if let Some(started_at) = session.started_at
        && row.started_at.known() != Some(started_at)
    {
        differences.push(format!("started_at: the session has {}", row.started_at));
    }
    let stored = as_fields(&row.dimensions);
    for (name, _) in
        as_fields(&session.dimensions).iter().filter(|(name, value)| stored.get(*name) != Some(*value))
    {
        let kept = stored.get(name).map_or("none".to_owned(), Value::to_string);
        differences.push(format!("{name}: the session has {kept}"));
    }
    let stored = row.metadata.as_ref().and_then(Stored::as_object).unwrap_or_default().to_value();
    let given = session.metadata.as_ref().map(JsonObject::to_value).unwrap_or_default();
    for (key, _) in given.iter().filter(|(key, value)| stored.get(*key) != Some(*value)) {
        let what = if stored.contains_key(key) { "another value" } else { "no such key" };
        differences.push(format!("metadata.{}: the session has {what}", key.escape_debug()));
    }
    differences.truncate(MAX_DIFFERENCES);
    differences
}
