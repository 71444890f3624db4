//! `GET /metrics`: the figures, for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use metrics::gauge;

use crate::state::AppState;

pub(crate) async fn answer(State(state): State<AppState>) -> Response {
    // Looked at anew each time: people empty it while the server runs.
    let kept = talktrack::quarantines(&state.config().local_file()).len();
    gauge!("talktrack_quarantines").set(u32::try_from(kept).unwrap_or(u32::MAX));
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], state.metrics().render()).into_response()
}
