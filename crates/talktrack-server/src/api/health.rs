//! `GET /healthz`: reports that the process is alive.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

/// Checks that the process is alive
#[utoipa::path(
    get, path = "/healthz", operation_id = "health", tag = "operating",
    responses(
        (status = 200, description = "The process is alive."),
    )
)]
pub(crate) async fn get_health() -> Response {
    super::json_response(StatusCode::OK, &json!({"status": "ok"}))
}
