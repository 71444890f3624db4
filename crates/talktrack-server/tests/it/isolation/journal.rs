//! While the database is unavailable, what this node has acknowledged is visible to its owner and to keys, even after a
//! restart.

use serde_json::json;
use talktrack_testbed::{Postgres, Proxy, open_client};
use uuid::Uuid;

use super::{SECRET_WORDS, Scene, token};
use crate::harness::remote::{has_status, migrated};

#[tokio::test]
async fn after_a_restart_nothing_that_waits_in_the_journal_is_called_absent() {
    let ann = Uuid::new_v4();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.cut();
    let scene = Scene::new(Some(database.url_at(proxy.port()))).await;
    let session = scene.session_of(ann).await;
    let scene = scene.restart().await;
    let path = format!("/v1/sessions/{session}");
    for token in [token(ann), scene.key.key.clone()] {
        scene.says(&token, session, "after the restart").await;
        let updated = scene.ask(&token, "PATCH", &path, &json!({"metadata": {"a": 1}})).await;
        assert_eq!(updated.status, 202, "{updated:?}");
        let recording = scene.server.request("POST", format!("{path}/audio")).token(&token);
        let kept = recording.body("audio/wav", "RIFF    WAVEfmt and so on").send().await;
        assert_eq!(kept.status, 201, "{kept:?}");
        let url = kept.json()["audio_url"].as_str().unwrap().to_owned();
        assert_eq!(scene.server.get_with(&url, &token).await.status, 200);
        let shown = scene.server.get_with(&path, &token).await;
        assert_eq!((shown.status, &shown.json()["metadata"]["a"]), (200, &json!(1)), "{shown:?}");
        let said = scene.server.get_with(&format!("{path}/messages"), &token).await;
        assert!(said.status == 200 && said.body.contains(SECRET_WORDS), "{said:?}");
    }
    let ended = scene.ask(&scene.key.key, "POST", &format!("{path}/end"), &json!({})).await;
    assert_eq!((ended.status, &ended.json()["message_count"]), (202, &json!(3)), "{ended:?}");
    assert!(ended.json()["duration_seconds"].is_number(), "{ended:?}");
    let absent = format!("/v1/sessions/{}", Uuid::new_v4());
    scene.server.get_with(&absent, &scene.key.key).await.problem(503, "store_unavailable");
    proxy.fix();
    let row = has_status(&database, session, "ended").await;
    assert_eq!(row["user_id"], json!(ann));
    scene.server.get_with(&absent, &scene.key.key).await.problem(404, "session_not_found");
}

#[tokio::test]
async fn a_session_that_is_recorded_and_not_in_memory_is_ended_with_its_figures() {
    let database = migrated(Postgres::shared()).await;
    let scene = Scene::new(Some(database.url())).await;
    let session = scene.session_of(Uuid::new_v4()).await;
    let other = scene.neighbour(&database).await;
    crate::harness::remote::arrives(&database, session, &[SECRET_WORDS]).await;
    let ended = other.ask(&other.key.key, "POST", &format!("/v1/sessions/{session}/end"), &json!({})).await;
    assert_eq!((ended.status, &ended.json()["message_count"]), (202, &json!(1)), "{ended:?}");
    has_status(&database, session, "ended").await;
}

/// A row-level policy of the project hides a message from its user. A revision of that message that waits for the store
/// must be hidden too.
#[tokio::test]
async fn what_waits_to_revise_a_message_that_a_policy_hides_is_hidden_too() {
    let ann = Uuid::new_v4();
    let database = migrated(Postgres::shared()).await;
    let scene = Scene::new(Some(database.url())).await;
    let session = scene.session_of(ann).await;
    let key = scene.key.key.clone();
    scene.says(&key, session, "a reply").await;
    crate::harness::remote::arrives(&database, session, &[SECRET_WORDS, "a reply"]).await;
    let id = |content: &str| {
        database.psql(&format!("SELECT id FROM conversation_messages WHERE content = '{content}'"))
    };
    let hidden = id(SECRET_WORDS);
    let shown = id("a reply");
    database.psql(&format!(
        "CREATE POLICY narrower ON conversation_messages AS RESTRICTIVE FOR SELECT TO authenticated USING (id <> '{hidden}')"
    ));
    let path = format!("/v1/sessions/{session}/messages");
    let contents = async |token: &str| {
        let read = scene.server.get_with(&path, token).await;
        assert_eq!(read.status, 200, "{read:?}");
        let rows = read.json()["messages"].as_array().unwrap().clone();
        rows.iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(contents(&token(ann)).await, ["a reply"]);

    // The lock allows reads and blocks all writes.
    let locker = open_client(&database.url()).await;
    locker.batch_execute("BEGIN; LOCK TABLE conversation_messages IN SHARE MODE").await.unwrap();
    for (id, content) in [(&hidden, "hidden still"), (&shown, "a revised reply")] {
        let revision = json!({"id": id, "revision": 1, "role": "user", "content": content});
        let said = scene.ask(&key, "POST", &path, &revision).await;
        assert_eq!(said.status, 202, "{said:?}");
    }
    assert_eq!(contents(&key).await, ["hidden still", "a revised reply"]);
    assert_eq!(contents(&token(ann)).await, ["a revised reply"]);
    let export = scene.server.get_with(&format!("/v1/sessions/{session}/export"), &token(ann)).await;
    assert!(export.body.contains("a revised reply") && !export.body.contains("hidden"), "{export:?}");
    locker.batch_execute("ROLLBACK").await.unwrap();
    crate::harness::remote::arrives(&database, session, &["hidden still", "a revised reply"]).await;
    assert_eq!(contents(&token(ann)).await, ["a revised reply"]);
}
