//! A deleted session: every route that writes says so to its user and to keys; to other users the session does not
//! exist.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres};
use uuid::Uuid;

use super::{SECRET_WORDS, Scene, token};
use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, HttpAnswer, until_told, upgrade};

const ROUTES: [&str; 8] = [
    "POST /messages",
    "POST /messages?wait=stored",
    "PATCH ",
    "POST /end",
    "POST /audio",
    "GET ",
    "GET /messages",
    "GET /export",
];

async fn ask(scene: &Scene, token: &str, session: Uuid, route: &str) -> HttpAnswer {
    let (method, rest) = route.split_once(' ').unwrap();
    let request = scene.server.request(method, format!("/v1/sessions/{session}{rest}")).token(token);
    let request = match route {
        "POST /audio" => request.body("audio/wav", "RIFF    WAVEfmt late"),
        "PATCH " => request.json(&json!({"metadata": {"late": true}})),
        "POST /end" => request.json(&json!({"reason": "late"})),
        _ => request.json(&json!({"role": "user", "content": "late"})),
    };
    request.send().await
}

/// Asserts the response of every route: this status for those that write, 404 for those that read.
async fn is_answered(scene: &Scene, token: &str, session: Uuid, writes: (u16, &str), what: &str) {
    for route in ROUTES {
        let answer = ask(scene, token, session, route).await;
        let (status, code) = if route.starts_with("GET") { (404, "session_not_found") } else { writes };
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (status, &code.into()),
            "{what}, {route}: {answer:?}"
        );
        assert!(!answer.body.contains(SECRET_WORDS), "{what}, {route}: {answer:?}");
    }
}

async fn start(scene: &Scene, token: &str, session: Uuid, user: Option<Uuid>) -> (u16, Value) {
    let body = json!({"session_id": session, "user_id": user});
    let body = if user.is_some() { body } else { json!({"session_id": session}) };
    let answer = scene.ask(token, "POST", "/v1/sessions", &body).await;
    (answer.status, answer.json()["code"].clone())
}

/// Asserts what the session's user, another user and a key learn about a deleted session.
async fn is_deleted_to_those_who_may_know(scene: &Scene, ann: Uuid, session: Uuid, how: &str) {
    let ben = token(Uuid::new_v4());
    let key = &scene.key.key;
    let gone = (410, "deleted");
    is_answered(scene, &token(ann), session, gone, &format!("{how}, its user")).await;
    is_answered(scene, &ben, session, (404, "session_not_found"), &format!("{how}, a stranger")).await;
    is_answered(scene, key, session, gone, &format!("{how}, a key")).await;
    assert_eq!(start(scene, key, session, Some(ann)).await, (410, "deleted".into()), "{how}, a key starts");
    assert_eq!(
        start(scene, &token(ann), session, None).await,
        (410, "deleted".into()),
        "{how}, its user starts"
    );
    let absent = start(scene, &ben, Uuid::new_v4(), None).await;
    assert_eq!(start(scene, &ben, session, None).await, absent, "{how}, a stranger starts");
    sockets_do_not_begin(scene, ann, session).await;
    let path = format!("/v1/sessions/{session}");
    for (who, token, status) in
        [("a stranger", &ben, 404), ("its user", &token(ann), 200), ("a key", key, 200)]
    {
        let answer = scene.ask(token, "DELETE", &path, &Value::Null).await;
        assert_eq!(answer.status, status, "{how}, {who} deletes again: {answer:?}");
    }
}

async fn sockets_do_not_begin(scene: &Scene, ann: Uuid, session: Uuid) {
    let query = format!("session_id={session}&user_id={ann}");
    let mut client = Client::come_with(&scene.server, &query, &scene.key.key).await;
    client.refused("deleted", Value::Null).await;
    assert_eq!(client.closed().await.map(u16::from), Some(1008));
    for (token, status) in [(token(ann), 410), (token(Uuid::new_v4()), 404)] {
        let authorization = format!("Bearer {token}");
        let path = format!("/v1/ws?session_id={session}");
        let (_, answer) = upgrade(scene.server.address, &path, &[("Authorization", &authorization)]).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

async fn delete(scene: &Scene, session: Uuid) {
    let answer = scene.ask(&scene.key.key, "DELETE", &format!("/v1/sessions/{session}"), &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn delete_by_sql(database: &Database, session: Uuid) {
    database.psql(&format!(
        "DELETE FROM conversation_messages WHERE session_id = '{session}';
         DELETE FROM conversation_sessions WHERE session_id = '{session}'"
    ));
}

#[tokio::test]
async fn a_deleted_session_is_gone_to_its_user_and_to_keys_and_absent_to_others_in_sqlite() {
    let ann = Uuid::new_v4();
    let scene = Scene::new(None).await;
    let session = scene.session_of(ann).await;
    delete(&scene, session).await;
    is_deleted_to_those_who_may_know(&scene, ann, session, "here").await;
    let scene = scene.restart().await;
    is_deleted_to_those_who_may_know(&scene, ann, session, "here, before a restart").await;
}

#[tokio::test]
async fn a_deleted_session_is_gone_to_its_user_and_to_keys_and_absent_to_others_on_every_node() {
    let ann = Uuid::new_v4();
    let database = migrated(Postgres::shared()).await;
    let scene = Scene::new(Some(database.url())).await;
    let other = scene.neighbour(&database).await;
    for how in ["on this node", "on the other node", "by SQL", "with its user"] {
        let session = scene.session_of(ann).await;
        arrives(&database, session, &[SECRET_WORDS]).await;
        match how {
            "on this node" => delete(&scene, session).await,
            "on the other node" => delete(&other, session).await,
            "by SQL" => delete_by_sql(&database, session),
            _ => {
                let path = format!("/v1/users/{ann}");
                assert_eq!(scene.ask(&token(ann), "DELETE", &path, &Value::Null).await.status, 200);
            }
        }
        // This node does not have the session in memory or in its files.
        is_deleted_to_those_who_may_know(&other, ann, session, how).await;
    }
    let session = scene.session_of(ann).await;
    arrives(&database, session, &[SECRET_WORDS]).await;
    delete_by_sql(&database, session);
    // This node has just delivered the session, and learns within seconds that it was deleted.
    let scene = scene.restart().await;
    until_told("the node learns of it", async || {
        let answer = ask(&scene, &scene.key.key, session, "POST /messages").await;
        (answer.status == 410).then_some(())
    })
    .await;
    is_deleted_to_those_who_may_know(&scene, ann, session, "by SQL, before a restart").await;
}
