//! `GET /v1/sessions/{session_id}`: one session.

use axum::Json;
use axum::extract::State;

use super::access::{self, SessionId};
use super::rows::Session;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// Shows a session
///
/// Its messages are a list of their own.
#[utoipa::path(
    get, path = "/v1/sessions/{session_id}", operation_id = "get_session", tag = "reading", params(("session_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The session.", body = Session),
        Problem,
    )
)]
pub(crate) async fn answer(
    State(state): State<AppState>,
    caller: Caller,
    SessionId(session_id): SessionId,
) -> Result<Json<Session>, Problem> {
    let rows = access::rows(&state, &caller)?;
    Ok(Json(access::session(&*rows, session_id).await?.into()))
}
