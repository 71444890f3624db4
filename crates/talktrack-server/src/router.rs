//! The table of routes.

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::get;

use crate::api;
use crate::error::Problem;
use crate::socket;
use crate::state::AppState;

/// Everything the server answers to.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .route("/v1/ws", get(socket::connect))
        .route("/healthz", get(api::health::answer))
        .route("/readyz", get(api::ready::answer))
        .route("/metrics", get(api::metrics::answer))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .with_state(state)
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::without_code(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Problem {
    Problem::without_code(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not answer to {method}", uri.path()),
    )
}
