//! A start over HTTP may be repeated: it changes nothing in a session that exists.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, serve_with};
use crate::harness::remote::{has_status, migrated};
use crate::harness::{Home, HttpAnswer, Server};

async fn start(server: &Server, body: &Value) -> HttpAnswer {
    server.request("POST", "/v1/sessions").json(body).send().await
}

async fn start_with_key(server: &Server, key: &str, body: &Value) -> HttpAnswer {
    server.request("POST", "/v1/sessions").header("Idempotency-Key", key).json(body).send().await
}

async fn read(server: &Server, session: Uuid) -> Value {
    server.request("GET", format!("/v1/sessions/{session}")).send().await.json()
}

/// Starts a session, ends it after 300 seconds, and starts it again in several ways.
async fn starts_again(server: &Server, between: impl AsyncFn(Uuid, &str)) {
    let session = Uuid::new_v4();
    let body = json!({"session_id": session, "user_id": Uuid::new_v4(), "external_id": "call 7",
        "metadata": {"room": 7}, "started_at": "2026-11-23T08:00:00Z"});
    let first = start(server, &body).await;
    let expected = json!({"session_id": session, "user_id": body["user_id"], "resumed": false});
    assert_eq!((first.status, first.json()), (201, expected));
    let path = format!("/v1/sessions/{session}");
    let said = json!({"role": "user", "content": "Hello", "created_at": "2026-11-23T08:00:02Z"});
    assert_eq!(server.request("POST", format!("{path}/messages")).json(&said).send().await.status, 202);
    let end = json!({"reason": "hangup", "ended_at": "2026-11-23T08:05:00Z"});
    assert_eq!(server.request("POST", format!("{path}/end")).json(&end).send().await.status, 202);
    between(session, "ended").await;
    let ended = read(server, session).await;
    assert_eq!((&ended["end_reason"], &ended["duration_seconds"]), (&json!("hangup"), &json!(300.0)));

    let repeated =
        json!({"session_id": session, "user_id": body["user_id"], "resumed": false, "repeated": true});
    let again = start(server, &body).await;
    assert_eq!((again.status, again.json()), (200, repeated.clone()));
    let other = json!({"session_id": session, "user_id": body["user_id"], "external_id": "call 8",
        "metadata": {"room": 8, "floor": 2}, "started_at": "2026-11-23T08:00:01Z"});
    let other = start(server, &other).await;
    assert_eq!(other.status, 200);
    assert_eq!(
        other.json()["warnings"],
        json!([
            "external_id: the session has \"call 7\"",
            "started_at: the session has 2026-11-23T08:00:00.000000Z",
            "metadata.floor: the session has no such key",
            "metadata.room: the session has another value",
        ])
    );
    assert_eq!(read(server, session).await, ended, "nothing has changed");

    let mut resume = body.clone();
    resume["resume"] = json!(true);
    let resumed = start(server, &resume).await;
    assert_eq!((resumed.status, &resumed.json()["resumed"]), (201, &json!(true)));
    between(session, "active").await;
    assert_eq!(read(server, session).await["status"], "active");
}

#[tokio::test]
async fn a_repeated_start_changes_nothing_in_sqlite() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    starts_again(&server, async |_, _| {}).await;
    home.verify().await;
}

#[tokio::test]
async fn a_repeated_start_changes_nothing_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    // Waiting for the rows tests the start of a stored session, and not waiting the start of one that is still in the journal.
    starts_again(&server, async |session, status| drop(has_status(&database, session, status).await)).await;
    starts_again(&server, async |_, _| {}).await;
}

#[tokio::test]
async fn starts_with_one_idempotency_key_are_one_session() {
    let home = Home::new();
    let secret = SigningKey::secret(SECRET);
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let (anna, ben) = (Uuid::new_v4(), Uuid::new_v4());
    let start = async |user: Uuid, key: &str, body: Value| {
        let request = server.request("POST", "/v1/sessions").token(&secret.token(&claims(user)));
        let answer = request.header("Idempotency-Key", key).json(&body).send().await;
        (answer.status, answer.json()["session_id"].as_str().unwrap().to_owned())
    };
    let (status, first) = start(anna, "webhook-31", json!({})).await;
    assert_eq!(status, 201);
    assert_eq!(start(anna, "webhook-31", json!({})).await, (200, first.clone()));
    let mut all = vec![first];
    for (user, key, body) in [
        (anna, "webhook-32", json!({})),
        (ben, "webhook-31", json!({})),
        (anna, "webhook-31", json!({"external_id": "call 7"})),
    ] {
        let (status, id) = start(user, key, body).await;
        assert_eq!((status, all.contains(&id)), (201, false), "{user} {key}");
        all.push(id);
    }
    assert_eq!(home.database().count("SELECT count(*) FROM conversation_sessions", &[]), 4);
}

#[tokio::test]
async fn racing_starts_with_one_idempotency_key_are_one_session() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let body = json!({"user_id": Uuid::new_v4(), "metadata": {"room": 7}});
    let starts = (0..20).map(|_| start_with_key(&server, "webhook-31", &body));
    let answers = futures_util::future::join_all(starts).await;
    let ids: Vec<_> = answers.iter().map(|answer| answer.json()["session_id"].clone()).collect();
    assert!(answers.iter().all(|answer| [200, 201].contains(&answer.status)), "{answers:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(home.database().count("SELECT count(*) FROM conversation_sessions", &[]), 1);
    assert_eq!(start_with_key(&server, "webhook-31", &body).await.status, 200);
}

/// A session is found by its `external_id` without being started.
async fn finds_by_external_id(server: &Server) {
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    let body = json!({"session_id": session, "user_id": user, "external_id": "call 7"});
    assert_eq!(start(server, &body).await.status, 201);
    let decoy = json!({"user_id": user, "external_id": "call 8"});
    assert_eq!(start(server, &decoy).await.status, 201);
    let list = async |query: &str| {
        let answer = server.request("GET", format!("/v1/sessions?{query}")).send().await;
        let page = answer.json();
        let rows = page["sessions"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
        rows.iter().map(|row| row["session_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    crate::harness::until_told("the list has the session", async || {
        (list("external_id=call%207").await == [session.to_string()]).then_some(())
    })
    .await;
    let same_user = format!("external_id=call%207&user_id={user}&status=active");
    assert_eq!(list(&same_user).await, [session.to_string()]);
    assert!(list("external_id=call%207&status=ended").await.is_empty());
    assert!(list(&format!("external_id=call%207&user_id={}", Uuid::new_v4())).await.is_empty());
    assert!(list("external_id=call%209").await.is_empty());
    for wrong in ["external_id=", "external_id=%00"] {
        let answer = server.request("GET", format!("/v1/sessions?{wrong}")).send().await;
        assert!(answer.problem(400, "invalid_message").contains("external_id"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_session_is_found_by_its_external_id_in_sqlite() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    finds_by_external_id(&server).await;
}

#[tokio::test]
async fn a_session_is_found_by_its_external_id_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    finds_by_external_id(&server).await;
}
