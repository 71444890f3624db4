//! The HTTP API: the response of every endpoint, arrays of messages and their retries, lists while rows arrive, access
//! to other users' data, and the API description compared with the routes.

mod answers;
mod arrays;
mod description;
mod exports;
mod owners;
mod pages;
mod search;
mod stats;
mod waiting;

// Helpers of the modules above.
mod transcript;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{HttpAnswer, Server};

/// Starts a session of a new user over HTTP and returns its id.
async fn start(server: &Server) -> Uuid {
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": Uuid::new_v4()});
    let answer = server.request("POST", "/v1/sessions").json(&body).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    session
}

/// Returns the path of a session's messages.
fn messages_of(session: Uuid) -> String {
    format!("/v1/sessions/{session}/messages")
}

/// Posts a message or an array of messages.
async fn say(server: &Server, session: Uuid, body: &Value) -> HttpAnswer {
    server.request("POST", messages_of(session)).json(body).send().await
}

/// Returns the texts of a session's messages from all pages.
async fn said(server: &Server, session: Uuid) -> Vec<String> {
    let rows = pages::all(server, &messages_of(session), "messages").await;
    rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect()
}
