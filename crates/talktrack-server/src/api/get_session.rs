//! `GET /v1/sessions/{session_id}`: returns one session.

use axum::Json;
use axum::extract::State;

use super::query::NoQueryParams;
use super::rows::Session;
use crate::access::{SessionName, SessionView};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// Returns a session
///
/// The messages of the session are a separate list.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}", operation_id = "get_session", tag = "reading", params(("session_id" = String, Path, pattern = "^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|external:[A-Za-z0-9._~@+-]{1,200})$", description = "The session's UUID, or `external:NAME` (percent-encoded) with its `external_id`.")),
    responses(
        (status = 200, description = "The session.", body = Session),
        Problem,
    )
)]
pub(crate) async fn get_session(
    State(state): State<AppState>,
    caller: Caller,
    name: SessionName,
    _: NoQueryParams,
) -> Result<Json<Session>, Problem> {
    Ok(Json(SessionView::open(&state, &caller, &name).await?.session.into()))
}
