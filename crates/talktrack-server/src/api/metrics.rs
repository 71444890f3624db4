//! `GET /metrics`: metrics for Prometheus. They do not reveal who has conversations, but they do reveal how much a
//! business talks. If identity is checked, they need a key with the scope `metrics` that acts for all users.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics::gauge;

use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::state::AppState;
use crate::telemetry;

/// Returns the metrics for Prometheus
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operating",
    responses(
        (status = 200, description = "The metrics, in the text format of Prometheus.", content_type = "text/plain", body = String),
    )
)]
pub(crate) async fn get_metrics(State(state): State<AppState>, caller: Caller) -> Result<Response, Problem> {
    caller.require_for_all(Scope::Metrics)?;
    // Counted at each request, because people empty the quarantine while the server runs.
    let kept = talktrack::quarantines(&state.config().local_file()).len();
    gauge!("talktrack_quarantines").set(u32::try_from(kept).unwrap_or(u32::MAX));
    telemetry::collect_process_metrics();
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], state.metrics().render()).into_response())
}
