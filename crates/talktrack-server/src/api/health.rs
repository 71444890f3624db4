//! `GET /healthz`: the process is there and answers.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

pub(crate) async fn answer() -> Response {
    super::json(StatusCode::OK, &json!({"status": "ok"}))
}
