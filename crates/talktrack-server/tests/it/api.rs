//! The HTTP API: what every endpoint answers, arrays and their retries, lists while rows arrive, who may see what, and the
//! description against the routes.

mod answers;
mod arrays;
mod description;
mod exports;
mod owners;
mod pages;
mod search;
mod stats;
mod waiting;

// What these are made of.
mod transcript;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{HttpAnswer, Server};

/// Starts a session over HTTP, of a new user.
async fn start(server: &Server) -> Uuid {
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": Uuid::new_v4()});
    let answer = server.request("POST", "/v1/sessions").json(&body).send().await;
    assert_eq!(answer.status, 201, "{answer:?}");
    session
}

/// Where a session's messages are.
fn messages_of(session: Uuid) -> String {
    format!("/v1/sessions/{session}/messages")
}

/// Hands messages over, one or an array.
async fn say(server: &Server, session: Uuid, body: &Value) -> HttpAnswer {
    server.request("POST", messages_of(session)).json(body).send().await
}

/// The texts of a transcript, however many pages it has.
async fn said(server: &Server, session: Uuid) -> Vec<String> {
    let rows = pages::all(server, &messages_of(session), "messages").await;
    rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect()
}
