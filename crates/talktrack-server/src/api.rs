//! The HTTP endpoints. Each module is one endpoint, in the same order: its parameters, its response types, its handler.

pub(crate) mod start_session;
pub(crate) mod update_session;
pub(crate) mod end_session;
pub(crate) mod add_messages;
pub(crate) mod add_frames;
pub(crate) mod replace_messages;
pub(crate) mod delete_messages;
pub(crate) mod delete_message;
pub(crate) mod delete_session;
pub(crate) mod delete_user;
pub(crate) mod list_sessions;
pub(crate) mod get_session;
pub(crate) mod list_messages;
pub(crate) mod get_message;
pub(crate) mod add_audio;
pub(crate) mod get_audio;
pub(crate) mod export_user;
pub(crate) mod export;
pub(crate) mod search;
pub(crate) mod stats;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod ready;
pub(crate) mod metrics;
pub(crate) mod docs;

// The modules below are shared by the endpoints.
pub(crate) mod form;
pub(crate) mod body;
mod body_encoding;
mod incoming;
mod idempotency_key;
pub(crate) mod query;
mod range;
mod requests;
mod rows;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

fn json_response(status: StatusCode, document: &serde_json::Value) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}
