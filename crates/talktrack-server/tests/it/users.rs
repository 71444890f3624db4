//! Users whose id is not a UUID, and guests, over every way in and out of the server.

use serde_json::{Value, json};
use talktrack::{SessionId, UserId};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use crate::auth::{new_key, new_limited_key, serve_with};
use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home, HttpAnswer, Server};

const USERS: [&str; 7] =
    ["user_2abc", "auth0|5f7c d/e", "+4917612345678", "jürgen@example.com", "17", "\"'\\%;", " "];

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

async fn post(server: &Server, path: &str, body: &Value) -> HttpAnswer {
    server.request("POST", path).json(body).send().await
}

/// Each user starts a session, says something, and is found by the text that was given. `between` waits until a session's
/// messages are stored.
async fn users_are_what_callers_call_them(
    home: &Home,
    server: &Server,
    between: impl AsyncFn(Uuid, &[&str]),
) {
    for user in USERS {
        let session = Uuid::new_v4();
        let started = post(server, "/v1/sessions", &json!({"session_id": session, "user_id": user})).await;
        assert_eq!((started.status, &started.json()["user_id"]), (201, &json!(user)));
        let path = format!("/v1/sessions/{session}");
        let said =
            post(server, &format!("{path}/messages"), &json!({"role": "user", "content": "Hello"})).await;
        assert_eq!(said.status, 202, "{said:?}");
        let socket = Client::open(server, &format!("session_id={session}&user_id={}", encoded(user)))
            .await
            .expect_started()
            .await;
        assert_eq!((socket.session, &socket.started["user_id"]), (session, &json!(user)));
        between(session, &["Hello"]).await;
        assert_eq!(server.get(&path).await.json()["user_id"], user);
        assert_eq!(server.get(&format!("{path}/messages")).await.json()["messages"][0]["user_id"], user);
        let listed = server.get(&format!("/v1/sessions?user_id={}", encoded(user))).await.json();
        assert_eq!(
            (listed["sessions"].as_array().unwrap().len(), &listed["sessions"][0]["user_id"]),
            (1, &json!(user))
        );
        let twin = user.parse::<UserId>().unwrap().as_uuid();
        let others = server.get(&format!("/v1/sessions?user_id={twin}")).await.json();
        assert_eq!(others["sessions"], json!([]));
        let exported = server.get(&format!("{path}/export?format=jsonl")).await.body;
        let first: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
        assert_eq!(first["user_id"], user);
        let page = server.get(&format!("/?user={}", encoded(user))).await;
        assert!(
            page.status == 200 && page.body.contains(&session.to_string()) || user.trim().is_empty(),
            "{user}"
        );
        drop(socket);
    }
    let deleted = server.request("DELETE", format!("/v1/users/{}", encoded(USERS[1]))).send().await;
    assert_eq!((deleted.status, &deleted.json()["user_id"]), (200, &json!(USERS[1])), "{deleted:?}");
    assert_eq!(deleted.json()["sessions"], 1);
    assert_eq!(crate::audit_log::said(home, "delete").await[0]["user_id"], USERS[1]);
}

#[tokio::test]
async fn any_text_is_a_user_in_sqlite() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    users_are_what_callers_call_them(&home, &server, async |_, _| {}).await;
}

#[tokio::test]
async fn any_text_is_a_user_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    users_are_what_callers_call_them(&home, &server, async |session, said| {
        arrives(&database, session, said).await
    })
    .await;
}

#[tokio::test]
async fn a_key_is_limited_to_users_whose_ids_are_texts() {
    let home = Home::new();
    let all = new_key(&home, "all", "read,write").await;
    let limited =
        new_limited_key(&home, "two", "read,write", &["--users", "%2B4917612345678,auth0|5f7c%20d/e"]).await;
    let entries = format!("{} {}", all.entry, limited.entry);
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &entries)]).await;
    let start = async |key: &str, user: &str| {
        let body = json!({"session_id": Uuid::new_v4(), "user_id": user});
        server.request("POST", "/v1/sessions").token(key).json(&body).send().await.status
    };
    for user in ["+4917612345678", "auth0|5f7c d/e"] {
        assert_eq!(start(&limited.key, user).await, 201, "{user}");
    }
    let twin = "+4917612345678".parse::<UserId>().unwrap().as_uuid().to_string();
    for user in ["+491761234567", "4917612345678", &twin] {
        assert_eq!((start(&limited.key, user).await, start(&all.key, user).await), (403, 201), "{user}");
    }
    let listed = server.get_with("/v1/sessions?user_id=%2B4917612345678", &limited.key).await.json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    let guest = server.request("POST", "/v1/sessions").token(&limited.key).json(&json!({})).send().await;
    assert_eq!(
        guest.problem(400, "invalid_message"),
        "user_id: missing; this API key acts for 2 users, so name one"
    );
}

fn guest_of(session: Uuid) -> String {
    UserId::guest_of(SessionId::new(session)).to_string()
}

/// Starts sessions without a user in each way.
async fn guests_come_in_every_way(server: &Server) {
    let named = Uuid::new_v4();
    let told = post(server, "/v1/sessions", &json!({"session_id": named})).await;
    assert_eq!((told.status, &told.json()["user_id"]), (201, &json!(guest_of(named))));
    for body in [json!({}), json!({"external_id": "call 9"})] {
        let told = post(server, "/v1/sessions", &body).await.json();
        let session: Uuid = told["session_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(told["user_id"], guest_of(session));
    }
    let keyed =
        server.request("POST", "/v1/sessions").header("Idempotency-Key", "k").json(&json!({})).send().await;
    let session: Uuid = keyed.json()["session_id"].as_str().unwrap().parse().unwrap();
    assert_eq!(keyed.json()["user_id"], guest_of(session));
    let mut socket = Client::open(server, "").await.expect_started().await;
    assert_eq!(socket.user.to_string(), guest_of(socket.session));
    socket.say("Hello").await;

    // A start that leaves the user out does not take a session from its user.
    let owned = Uuid::new_v4();
    post(server, "/v1/sessions", &json!({"session_id": owned, "user_id": "ann"})).await;
    let again = post(server, "/v1/sessions", &json!({"session_id": owned, "resume": true})).await;
    assert_eq!((again.status, &again.json()["user_id"]), (201, &json!("ann")));
    let joined = Client::open(server, &format!("session_id={owned}")).await.expect_started().await;
    assert_eq!(joined.started["user_id"], "ann");
    drop((socket, joined));
}

#[tokio::test]
async fn an_imported_session_without_a_user_is_a_guests() {
    let home = Home::new();
    let session = Uuid::new_v4();
    let lines = format!(
        "{{\"type\":\"session.start\",\"session_id\":\"{session}\",\"started_at\":\"2026-11-23T08:00:00Z\"}}\n\
         {{\"type\":\"message\",\"session_id\":\"{session}\",\"role\":\"user\",\"content\":\"Hi\"}}\n"
    );
    let file = home.write("guest.jsonl", lines);
    home.look(&["import", &file]).await.succeeded();
    let server = home.serve(&[]).await;
    let row = server.get(&format!("/v1/sessions/{session}")).await.json();
    assert_eq!((&row["user_id"], &row["message_count"]), (&json!(guest_of(session)), &json!(1)));
}

#[tokio::test]
async fn a_session_without_a_user_is_a_guests() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    guests_come_in_every_way(&server).await;
    home.verify().await;
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    guests_come_in_every_way(&server).await;
}
