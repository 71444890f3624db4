//! `POST /v1/sessions/{session_id}/end`: ends a session.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{Closing, Ended, NotDurable, SessionId, Status, StoredTime, Timestamp};
use talktrack_protocol::ClientFrame;
use utoipa::ToSchema;

use super::body::JsonText;
use super::query::NoQueryParams;
use super::requests::SessionEnd;
use crate::access::{self, Granted, SessionName};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// A session whose end is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndedSession {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// The time from start to end in seconds. `null` if only the store knows it and the store cannot be reached.
    #[schema(example = 45.2)]
    duration_seconds: Option<f64>,
    /// The number of messages. `null` under the same condition as `duration_seconds`.
    message_count: Option<u64>,
}

/// Ends a session
///
/// The server answers when the end and everything sent before it are durable. Ending a session again changes nothing.
#[utoipa::path(
    post, path = "/v1/sessions/{session_id}/end", operation_id = "end_session", tag = "writing", request_body = SessionEnd,
    params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`.")),
    responses(
        (status = 202, description = "The end is durable.", body = EndedSession),
        Problem,
    )
)]
pub(crate) async fn end_session(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    _: NoQueryParams,
    body: JsonText,
) -> Result<(StatusCode, Json<EndedSession>), Problem> {
    let ClientFrame::SessionEnd { reason, ended_at, status } = body.frame("session.end")?.body else {
        return Err(Problem::invalid("type: must be session.end here, or left out"));
    };
    let reason = talktrack_protocol::reason_of_end(reason).map_err(Problem::invalid)?;
    let granted = access::to_write(&state, &caller, &name).await?;
    let ended_at = ended_at.map(|claimed| state.tracker().end_time(claimed)).transpose()?;
    let ended_at = ended_at.unwrap_or_else(|| SystemClock.now());
    let known = read_totals(&state, &caller, &granted, ended_at).await;
    let closing = Closing::new(status.unwrap_or(Status::Ended), &reason, ended_at).with_known(known);
    let receipt = state.tracker().end_session_as(granted.session(), closing)?;
    let ended = match receipt.durable().await {
        Ok(ended) => Some(ended),
        // The end waits for the store, as everything that a key writes may. Only the store knows the duration and the
        // count.
        Err(NotDurable::UnknownSession) if state.is_remote() && caller.user().is_none() => None,
        Err(why) => return Err(access::mask_refusal(&caller, why).into()),
    };
    let (duration_seconds, message_count) =
        ended.map(|ended| (ended.duration_seconds, ended.message_count)).unzip();
    let session_id = granted.session_id;
    Ok((StatusCode::ACCEPTED, Json(EndedSession { session_id, duration_seconds, message_count })))
}

/// Returns the duration and message count of a session that this node does not have in memory, from the store and the
/// journal. `None` if neither has an answer.
async fn read_totals(
    state: &AppState,
    caller: &Caller,
    granted: &Granted,
    ended_at: Timestamp,
) -> Option<Ended> {
    if !state.is_remote() || state.tracker().session_in_memory(granted.session()).is_some() {
        return None;
    }
    let row = access::find_row(state, caller, granted).await?;
    let ended_at = row.ended_at.as_ref().and_then(StoredTime::known).unwrap_or(ended_at);
    // A start that is not a valid time gives a duration of 0.
    let duration_seconds =
        row.started_at.known().map_or(0.0, |start| ended_at.max(start).seconds_since(start));
    Some(Ended { duration_seconds, message_count: row.message_count.max(0).unsigned_abs() })
}
