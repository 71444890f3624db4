//! Many sessions over one connection (`/v1/ws?feed=true`) and in one request (`POST /v1/frames`).

mod connection;
mod closing;
mod callers;
mod frames;
mod files;

use std::fmt::Display;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, HttpAnswer, Server};

/// Opens a feed without a token.
async fn open(server: &Server) -> Client {
    Client::open(server, "feed=true").await
}

/// Builds a `session.start` frame with a `ref`.
fn start(session: Uuid, user: Uuid) -> Value {
    json!({"type": "session.start", "session_id": session, "user_id": user, "ref": format!("start {session}")})
}

/// Builds a message of the user in this session. Its text is also its `ref`.
fn say(session: impl Display + Copy, content: &str) -> Value {
    json!({"type": "message", "session_id": session.to_string(), "role": "user", "content": content, "ref": content})
}

/// Starts a session on a feed.
async fn begin(feed: &mut Client, session: Uuid, user: Uuid) {
    feed.send(start(session, user)).await;
    let started = feed.expect("session.started").await;
    let expected = json!({"type": "session.started", "session_id": session, "user_id": user, "resumed": false,
        "ref": format!("start {session}")});
    assert_eq!(started, expected);
}

/// Says something on a feed, and waits until it is durable.
async fn says(feed: &mut Client, session: Uuid, content: &str) {
    feed.send(say(session, content)).await;
    let ack = feed.expect("ack").await["acks"][0].clone();
    assert_eq!((&ack["session_id"], &ack["ref"]), (&json!(session), &json!(content)), "{ack}");
}

/// Sends lines, and returns the answer.
async fn post(server: &Server, token: &str, lines: &[Value]) -> HttpAnswer {
    let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
    server.request("POST", "/v1/frames").token(token).body("application/x-ndjson", body).send().await
}

/// Returns the lines of an answer.
fn lines(answer: &HttpAnswer) -> Vec<Value> {
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("application/x-ndjson")),
        "{answer:?}"
    );
    answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
