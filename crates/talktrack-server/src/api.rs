//! HTTP answers: one module an endpoint.

pub(crate) mod health;
pub(crate) mod ready;
pub(crate) mod metrics;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

fn json(status: StatusCode, document: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}
