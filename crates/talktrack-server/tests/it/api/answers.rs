//! Every response of every endpoint, as the server sends it.

use serde_json::{Value, json};

use super::transcript::Transcript;
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::{Home, Request, Server};

const SESSION: &str = "fda86359-0000-4000-8000-000000000001";
const USER: &str = "03f6b167-0000-4000-8000-000000000002";
const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000003";
const MESSAGE: &str = "11111111-0000-4000-8000-000000000004";
const UNKNOWN: &str = "00000000-0000-4000-8000-00000000dead";

fn post<'s>(server: &'s Server, path: &str, body: &Value) -> Request<'s> {
    server.request("POST", format!("/v1/sessions{path}")).json(body)
}

fn get<'s>(server: &'s Server, path: &str) -> Request<'s> {
    server.request("GET", format!("/v1/sessions{path}"))
}

/// The request that starts the session of these tests.
fn start(server: &Server) -> Request<'_> {
    let body = json!({
        "session_id": SESSION, "user_id": USER, "external_id": "call-7", "metadata": {"room": 7},
        "started_at": "2026-11-23T08:00:00Z",
    });
    post(server, "", &body)
}

async fn with_session(home: &Home) -> Server {
    let server = home.serve(&[]).await;
    assert_eq!(start(&server).send().await.status, 201);
    server
}

/// The body of a message in this session.
fn message(content: &str) -> Value {
    json!({"id": MESSAGE, "role": "user", "content": content, "created_at": "2026-11-23T08:00:01.5Z"})
}

#[tokio::test]
async fn a_session_is_started() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut told = Transcript::default();
    told.add("it begins", start(&server)).await;
    told.add("the same again: it goes on", start(&server)).await;
    let another = json!({"session_id": SESSION, "user_id": OTHER});
    told.add("another user's", post(&server, "", &another)).await;
    told.add("a guest's", post(&server, "", &json!({"session_id": UNKNOWN}))).await;
    told.add("a bad id", post(&server, "", &json!({"session_id": "7", "user_id": USER}))).await;
    let unknown = json!({"session_id": UNKNOWN, "user_id": USER, "usr": 1});
    told.add("a field that nobody knows is passed over", post(&server, "", &unknown)).await;
    told.add("another frame", post(&server, "", &json!({"type": "ping", "user_id": USER}))).await;
    let request = || server.request("POST", "/v1/sessions");
    told.add("half a JSON", request().body("application/json", "{")).await;
    told.add("a form", request().body("application/x-www-form-urlencoded", "user_id=1")).await;
    told.add("nothing at all", request()).await;
    told.is_as_before("start_session");
}

#[tokio::test]
async fn a_session_is_updated() {
    let home = Home::new();
    let server = with_session(&home).await;
    let patch = |id: &str, body: Value| server.request("PATCH", format!("/v1/sessions/{id}")).json(&body);
    let mut told = Transcript::default();
    told.add("a key is merged in", patch(SESSION, json!({"metadata": {"floor": 2}}))).await;
    told.add("both keys are there", get(&server, &format!("/{SESSION}"))).await;
    told.add("no metadata", patch(SESSION, json!({}))).await;
    told.add("no object", patch(SESSION, json!({"metadata": 7}))).await;
    told.add("a session that is not there", patch(UNKNOWN, json!({"metadata": {}}))).await;
    told.add("no id", patch("x", json!({"metadata": {}}))).await;
    told.is_as_before("update_session");
}

#[tokio::test]
async fn a_session_is_ended() {
    let home = Home::new();
    let server = with_session(&home).await;
    let end = |id: &str, body: Value| post(&server, &format!("/{id}/end"), &body);
    let mut told = Transcript::default();
    let ended = json!({"reason": "completed", "ended_at": "2026-11-23T08:00:45.2Z"});
    told.add("it ends", end(SESSION, ended.clone())).await;
    told.add("the row tells", get(&server, &format!("/{SESSION}"))).await;
    told.add("again: nothing changes", end(SESSION, json!({"reason": "error"}))).await;
    told.add("an empty reason", end(SESSION, json!({"reason": ""}))).await;
    told.add("no time", end(SESSION, json!({"ended_at": "yesterday"}))).await;
    told.add("no status that an end has", end(SESSION, json!({"status": "active"}))).await;
    told.add("a session that is not there", end(UNKNOWN, json!({}))).await;
    told.is_as_before("end_session");
}

/// An imported conversation may never have been ended. Its import sends an end with the status `abandoned` and a later
/// time; the duration must not include the time after the last message.
#[tokio::test]
async fn a_session_that_nobody_ended_is_told_as_abandoned_and_ends_with_its_last_message() {
    let home = Home::new();
    let server = with_session(&home).await;
    let last = json!({"role": "user", "content": "Err, one second", "created_at": "2026-11-23T08:00:20Z"});
    assert_eq!(post(&server, &format!("/{SESSION}/messages"), &last).send().await.status, 202);
    let end = json!({"status": "abandoned", "reason": "idle_timeout", "ended_at": "2026-11-23T08:30:00Z"});
    let told = post(&server, &format!("/{SESSION}/end"), &end).send().await;
    assert_eq!((told.status, told.json()["duration_seconds"].as_f64()), (202, Some(20.0)));
    let row = get(&server, &format!("/{SESSION}")).send().await.json();
    assert_eq!((&row["status"], &row["end_reason"]), (&json!("abandoned"), &json!("idle_timeout")));
    assert_eq!(row["ended_at"], "2026-11-23T08:00:20.000000Z");
}

#[tokio::test]
async fn messages_are_taken() {
    let home = Home::new();
    let server = with_session(&home).await;
    let path = format!("/{SESSION}/messages");
    let say = |body: Value| post(&server, &path, &body);
    let mut told = Transcript::default();
    told.add("one", say(message("Hello"))).await;
    told.add("the same again", say(message("Hello"))).await;
    told.add("the same id with other words", say(message("Bye"))).await;
    let stored = post(&server, &format!("{path}?wait=stored"), &message("Hello"));
    told.add("one that waits for the store", stored).await;
    told.add("one without a role", say(json!({"content": "x", "ref": 1}))).await;
    let mixed = json!([
        {"role": "user", "content": "Hello", "id": MESSAGE, "created_at": "2026-11-23T08:00:01.5Z", "ref": "a"},
        {"role": "nobody", "content": "x", "ref": "b"}, message("Bye"), 7,
    ]);
    told.add("several, each answered by itself", say(mixed)).await;
    let bad = json!([{"content": "x", "ref": 1}, message("Bye")]);
    told.add("several, of which none is taken", say(bad)).await;
    told.add("none", say(json!([]))).await;
    told.add("another frame", say(json!({"type": "session.end"}))).await;
    told.add("another wait", post(&server, &format!("{path}?wait=forever"), &message("x"))).await;
    told.add("an unknown parameter", post(&server, &format!("{path}?w=1"), &message("x"))).await;
    told.add("a session that is not there", post(&server, &format!("/{UNKNOWN}/messages"), &message("x")))
        .await;
    told.is_as_before("add_messages");
}

#[tokio::test]
async fn sessions_and_messages_are_shown() {
    let home = Home::new();
    let server = with_session(&home).await;
    let rich = json!({
        "id": MESSAGE, "external_id": "turn-1", "role": "assistant", "content": "It is 4 de",
        "content_generated": "It is 4 degrees.", "interrupted": true, "audio_url": "https://a.example/b.ogg",
        "created_at": "2026-11-23T09:00:00.25+01:00", "metadata": {"b": 1}, "parts": [{"type": "text"}],
        "metrics": {"stt_ms": 12.5},
    });
    assert_eq!(post(&server, &format!("/{SESSION}/messages"), &rich).send().await.status, 202);
    let mut told = Transcript::default();
    told.add("one session", get(&server, &format!("/{SESSION}"))).await;
    told.add("what was said in it", get(&server, &format!("/{SESSION}/messages"))).await;
    told.add("page by page", get(&server, &format!("/{SESSION}/messages?limit=1"))).await;
    told.add("all sessions", get(&server, "")).await;
    let all = format!(
        "?user_id={USER}&status=active&since=2026-11-23T08:00:00Z&until=2026-11-23T08:00:01Z&limit=1"
    );
    told.add("the sessions of a user in a time", get(&server, &all)).await;
    told.add("the sessions of a user who has none", get(&server, &format!("?user_id={OTHER}"))).await;
    told.add("a session that is not there", get(&server, &format!("/{UNKNOWN}"))).await;
    told.add("the messages of one that is not there", get(&server, &format!("/{UNKNOWN}/messages"))).await;
    for query in ["limit=0", "limit=501", "cursor=x", "status=lost", "since=now", "user_id=", "page=2"] {
        told.add("a bad query", get(&server, &format!("?{query}"))).await;
    }
    told.is_as_before("reading");
}

#[tokio::test]
async fn a_session_is_deleted_and_a_user() {
    let home = Home::new();
    let server = with_session(&home).await;
    assert_eq!(post(&server, &format!("/{SESSION}/messages"), &message("Hello")).send().await.status, 202);
    let delete = |path: &str| server.request("DELETE", format!("/v1/{path}"));
    let mut told = Transcript::default();
    told.add("it goes", delete(&format!("sessions/{SESSION}"))).await;
    told.add("the row is gone", get(&server, &format!("/{SESSION}"))).await;
    told.add("what comes late", post(&server, &format!("/{SESSION}/messages"), &message("Hello"))).await;
    told.add("it does not begin again", start(&server)).await;
    told.add("nor end", post(&server, &format!("/{SESSION}/end"), &json!({}))).await;
    told.add("again: nothing is left", delete(&format!("sessions/{SESSION}"))).await;
    told.add("a session that is not there", delete(&format!("sessions/{UNKNOWN}"))).await;
    told.add("no id", delete("sessions/x")).await;
    let another = json!({"session_id": "00000000-0000-0000-0000-0000000000a2", "user_id": USER});
    assert_eq!(post(&server, "", &another).send().await.status, 201);
    told.add("a user goes", delete(&format!("users/{USER}"))).await;
    told.add("of whom nothing is left", delete(&format!("users/{USER}"))).await;
    told.add("no user's id", delete("users/a%0Ab")).await;
    told.is_as_before("delete");
}

#[tokio::test]
async fn what_is_not_there_or_not_allowed_is_a_problem() {
    let home = Home::new();
    let reader = new_key(&home, "reader", "read").await;
    let writer = new_key(&home, "writer", "write").await;
    let entries = format!("{} {}", reader.entry, writer.entry);
    let given = [("TALKTRACK_API_KEYS", entries.as_str()), ("SUPABASE_JWT_SECRET", SECRET)];
    let server = serve_with(&home, &given).await;
    let mut told = Transcript::default();
    told.add("no token", get(&server, "")).await;
    told.add("a token of nobody", get(&server, "").token("x.y.z")).await;
    let body = json!({"user_id": USER});
    told.add("half a key", get(&server, "").token("tt_0")).await;
    told.add("a key that may not write", post(&server, "", &body).token(&reader.key)).await;
    told.add("a key that may not read", get(&server, "").token(&writer.key)).await;
    told.add("no such page", server.request("GET", "/v2")).await;
    told.add("no such method", server.request("PUT", "/v1/sessions")).await;
    told.is_as_before("problems");
}

#[tokio::test]
async fn health_is_told() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut told = Transcript::default();
    told.add("it lives", server.request("GET", "/healthz")).await;
    told.add("it is ready", server.request("GET", "/readyz")).await;
    told.is_as_before("health");
}
