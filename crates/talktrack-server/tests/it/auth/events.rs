//! Live events by identity: users receive the events of their own sessions and no others.

use serde_json::json;
use talktrack_testbed::Postgres;
use uuid::Uuid;

use super::{SECRET, SigningKey, claims, new_key, serve_with};
use crate::harness::remote::migrated;
use crate::harness::{Client, Home, Listener};

#[tokio::test]
async fn users_hear_of_their_own_sessions_and_servers_of_all() {
    let home = Home::new();
    let key = new_key(&home, "reader", "read").await;
    let environment = [("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_API_KEYS", &*key.entry)];
    let server = serve_with(&home, &environment).await;
    let ann = Uuid::new_v4();
    let bob = Uuid::new_v4();
    let token = |user| SigningKey::secret(SECRET).token(&claims(user));
    let authorization = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let mut all = Listener::with(&server, "", &authorization(&key.key)).await;
    let mut anns = Listener::with(&server, "", &authorization(&token(ann))).await;

    let mut his = Client::come_with(&server, "", &token(bob)).await.expect_started().await;
    his.say("Bob's secret").await;
    // A system message has no user; the server must use the owner of its session.
    his.track(json!({"type": "message", "role": "system", "content": "be kind to Bob"})).await;
    let mut hers = Client::come_with(&server, "", &token(ann)).await.expect_started().await;
    hers.track(json!({"type": "message", "role": "system", "content": "be kind to Ann"})).await;
    hers.say("hello").await;

    let heard = anns.several(3).await;
    assert_eq!(heard[0].data["session_id"], json!(hers.session), "{heard:?}");
    assert_eq!(heard[1].data["content"], "be kind to Ann");
    assert_eq!((&heard[2].data["content"], &heard[2].data["user_id"]), (&json!("hello"), &json!(ann)));
    assert_eq!(all.several(6).await.len(), 6);

    // A filter for his session or an earlier event id must not give access to his events either.
    let query = format!("session_id={}&last_event_id=0", his.session);
    let mut curious = Listener::with(&server, &query, &authorization(&token(ann))).await;
    let mut again = Listener::with(&server, "last_event_id=0", &authorization(&token(ann))).await;
    assert_eq!(again.several(3).await, heard);
    his.say("more of it").await;
    hers.say("the end").await;
    assert_eq!(again.expect("message").await.data["content"], "the end");
    assert_eq!(anns.expect("message").await.data["content"], "the end");
    server.stop().await;
    assert_eq!(curious.expect("closing").await.data["code"], "shutting_down");
    let ended = anns.next().await.unwrap();
    assert!(ended.name == "closing" || ended.data["session_id"] == json!(hers.session), "{ended:?}");
}

async fn a_user_hears_that_their_session_was_deleted(database: Option<&str>) {
    let home = Home::new();
    let key = new_key(&home, "keeper", "admin").await;
    let mut environment = vec![("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_API_KEYS", &*key.entry)];
    environment.extend(database.map(|url| ("DATABASE_URL", url)));
    let server = serve_with(&home, &environment).await;
    let ann = Uuid::new_v4();
    let bob = Uuid::new_v4();
    let token = |user| SigningKey::secret(SECRET).token(&claims(user));
    let mut hers = Client::come_with(&server, "", &token(ann)).await.expect_started().await;
    hers.say("hello").await;
    let session = hers.session;
    drop(hers);
    server.drained().await;
    let authorization = |user| format!("Authorization: Bearer {}\r\n", token(user));
    let mut anns = Listener::with(&server, "", &authorization(ann)).await;
    let mut bobs = Listener::with(&server, "", &authorization(bob)).await;
    let path = format!("/v1/sessions/{session}");
    assert_eq!(server.request("DELETE", path).token(&key.key).send().await.status, 200);
    // The event that the session ended may come first.
    let deleted = loop {
        let told = anns.next().await.expect("the stream goes on");
        if told.name == "session.deleted" {
            break told;
        }
    };
    assert_eq!(deleted.data, json!({"session_id": session, "user_id": ann}));
    server.stop().await;
    assert_eq!(bobs.next().await.unwrap().name, "closing");
}

#[tokio::test]
async fn a_user_hears_that_a_key_deleted_their_session() {
    a_user_hears_that_their_session_was_deleted(None).await;
}

#[tokio::test]
async fn a_user_hears_that_a_key_deleted_their_session_from_postgresql() {
    let database = migrated(Postgres::shared()).await;
    a_user_hears_that_their_session_was_deleted(Some(&database.url())).await;
}

#[tokio::test]
async fn who_may_not_read_may_not_listen() {
    let home = Home::new();
    let key = new_key(&home, "writer", "write").await;
    let environment = [("SUPABASE_JWT_SECRET", SECRET), ("TALKTRACK_API_KEYS", &*key.entry)];
    let server = serve_with(&home, &environment).await;
    server.get("/v1/events").await.problem(401, "unauthorized");
    server.get_with("/v1/events", &key.key).await.problem(403, "forbidden");
    let token = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    let query = format!("/v1/events?user_id={}", Uuid::new_v4());
    let why = server.get_with(&query, &token).await.problem(403, "forbidden");
    assert!(why.starts_with("user_id: "), "{why}");
}
