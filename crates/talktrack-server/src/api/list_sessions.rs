//! `GET /v1/sessions`: lists sessions, newest first.

#![expect(unused_qualifications, reason = "in what the macro makes of the parameters")]

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use talktrack::search::Query;
use talktrack::store::{SessionCursor, SessionFilter, SessionRow};
use talktrack::{Status, Timestamp};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::query::{Cursor, Limit, QueryParams};
use super::rows::Session;
use crate::access;
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListSessionsQuery {
    /// Of this user.
    user_id: Option<Uuid>,
    /// In this state.
    #[param(value_type = Option<String>, pattern = "^(active|ended|abandoned)$")]
    status: Option<Status>,
    /// Begun at this moment or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Begun before this moment.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// With a message in which all of this is found, as by `/v1/search`.
    #[param(value_type = Option<String>, min_length = 1, max_length = 500)]
    q: Option<Query>,
    /// How many at most; 50 if it is left out. A page of large rows ends earlier.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 500)]
    limit: Limit,
    /// Goes on after the page that gave it.
    #[param(value_type = Option<String>, pattern = "^(r|p?-?[0-9]{1,19})\\.[0-9a-f]{32}$")]
    cursor: Option<Cursor<SessionCursor>>,
}

/// A page of sessions.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Sessions {
    sessions: Vec<Session>,
    /// Where the list goes on; null at its end.
    #[schema(value_type = Option<String>)]
    next_cursor: Option<Cursor<SessionCursor>>,
}

/// Lists sessions
///
/// The newest first. What begins while you turn the pages comes before the first one, and moves nothing.
#[utoipa::path(
    get, path = "/v1/sessions", operation_id = "list_sessions", tag = "reading", params(ListSessionsQuery),
    responses(
        (status = 200, description = "A page.", body = Sessions),
        Problem,
    )
)]
pub(crate) async fn list_sessions(
    State(state): State<AppState>,
    caller: Caller,
    QueryParams(query): QueryParams<ListSessionsQuery>,
) -> Result<Json<Sessions>, Problem> {
    let rows = access::open_rows(&state, &caller)?;
    let ListSessionsQuery { user_id, status, since, until, q, limit: Limit(limit), cursor } = query;
    let filter = SessionFilter { user_id: caller.resolve_user(user_id)?, status, since, until, matching: q };
    let found = rows.sessions(filter, cursor.map(|Cursor(place)| place), limit).await;
    let found = found.map_err(|error| Problem::store_unavailable(&error))?;
    let next_cursor = found.last_before_more().map(SessionRow::cursor).map(Cursor);
    Ok(Json(Sessions { sessions: found.into_iter().map(Session::from).collect(), next_cursor }))
}
