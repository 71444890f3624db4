//! Deletion of a session that is still in the outbox of another node: the session does not come back, and the response
//! does not reveal whether it exists.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, Proxy};
use uuid::Uuid;

use super::{SECRET_WORDS, Scene, token};
use crate::harness::HttpAnswer;
use crate::harness::remote::{arrives, migrated, select};

async fn delete(scene: &Scene, token: &str, path: &str) -> HttpAnswer {
    scene.ask(token, "DELETE", path, &Value::Null).await
}

fn count(database: &Database, table: &str) -> Value {
    select(database, &format!("SELECT count(*) AS n FROM {table}"))[0]["n"].clone()
}

#[tokio::test]
async fn what_waits_on_another_node_does_not_come_back_after_its_deletion_whoever_deletes() {
    for who in ["key", "token", "user"] {
        let ann = Uuid::new_v4();
        let ben = Uuid::new_v4();
        let database = migrated(Postgres::shared()).await;
        let proxy = Proxy::to(Postgres::shared().port());
        proxy.cut();
        let held = Scene::new(Some(database.url_at(proxy.port()))).await;
        let node = Scene::new(Some(database.url())).await;
        let session = held.session_of(ann).await;
        let path = format!("/v1/sessions/{session}");
        let answer = match who {
            "key" => delete(&node, &node.key.key, &path).await,
            "token" => delete(&node, &token(ann), &path).await,
            _ => delete(&node, &token(ann), &format!("/v1/users/{ann}")).await,
        };
        assert_eq!(answer.status, if who == "user" { 200 } else { 404 }, "{who}: {answer:?}");
        held.says(&held.key.key, session, SECRET_WORDS).await;
        proxy.fix();
        held.server.drained().await;
        for table in ["conversation_sessions", "conversation_messages"] {
            assert_eq!(count(&database, table), 0, "{who}");
        }
        let letters = held.home.database().select("SELECT * FROM dead_letters");
        assert!(letters.is_empty(), "{who}: {letters:?}");
        // Sessions of another user and new sessions of the same user are not part of the deletion.
        let theirs = held.session_of(ben).await;
        let new = held.session_of(ann).await;
        arrives(&database, theirs, &[SECRET_WORDS]).await;
        arrives(&database, new, &[SECRET_WORDS]).await;
    }
}

#[tokio::test]
async fn deleting_an_absent_session_and_anothers_are_answered_alike_and_change_nothing_of_theirs() {
    let ann = Uuid::new_v4();
    let ben = Uuid::new_v4();
    let database = migrated(Postgres::shared()).await;
    for url in [None, Some(database.url())] {
        let scene = Scene::new(url).await;
        let session = scene.session_of(ann).await;
        scene.server.drained().await;
        for _ in 0..2 {
            let foreign = delete(&scene, &token(ben), &format!("/v1/sessions/{session}")).await;
            let absent = delete(&scene, &token(ben), &format!("/v1/sessions/{}", Uuid::new_v4())).await;
            let told = |answer: &HttpAnswer| {
                let mut problem = answer.json();
                problem.as_object_mut().unwrap().remove("instance");
                (answer.status, problem)
            };
            assert_eq!((told(&foreign), foreign.status), (told(&absent), 404));
        }
        scene.says(&scene.key.key, session, "and again").await;
        scene.says(&token(ann), session, "and again").await;
        scene.server.drained().await;
        let answer =
            scene.ask(&token(ann), "GET", &format!("/v1/sessions/{session}/messages"), &json!({})).await;
        assert_eq!(answer.json()["messages"].as_array().map(Vec::len), Some(3), "{answer:?}");
    }
}
