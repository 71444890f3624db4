//! The attack in each state of the database.

use serde_json::Value;
use talktrack::UserId;
use talktrack_testbed::{Database, Postgres, Proxy, open_client};
use uuid::Uuid;

use super::attack::{is_refused, is_refused_by_name};
use super::{SECRET_WORDS, Scene, token};
use crate::harness::remote::{arrives, migrated, select};

/// Pairs of users: two whose ids are UUIDs, and one whose id is a text with the user whose UUID this text becomes, in both
/// directions.
fn pairs() -> [[String; 2]; 3] {
    let [ann, ben] = [Uuid::new_v4(), Uuid::new_v4()].map(|uuid| uuid.to_string());
    let text: UserId = format!("ann+{}@example.com", Uuid::new_v4()).parse().unwrap();
    let twin = text.as_uuid().to_string();
    [[ann, ben], [text.to_string(), twin.clone()], [twin, text.to_string()]]
}

/// Returns all rows of a session.
fn rows(database: &Database, session: Uuid) -> [Vec<Value>; 2] {
    ["conversation_sessions", "conversation_messages"].map(|table| {
        let query = format!("SELECT * FROM {table} WHERE session_id = '{session}' ORDER BY id");
        select(database, &query)
    })
}

/// Asserts that Ann can read and continue her conversation.
async fn goes_on(scene: &Scene, ann: &str, session: Uuid) {
    let token = token(ann);
    let path = format!("/v1/sessions/{session}");
    let shown = scene.server.get_with(&path, &token).await;
    assert_eq!(shown.status, 200, "{shown:?}");
    let said = scene.server.get_with(&format!("{path}/messages"), &token).await;
    assert!(
        said.status == 200 && said.body.contains(SECRET_WORDS) && !said.body.contains("forged"),
        "{said:?}"
    );
    scene.says(&token, session, "and again").await;
}

#[tokio::test]
async fn in_sqlite_a_user_reaches_nothing_of_another_also_after_a_restart() {
    for [ann, ben] in &pairs() {
        let scene = Scene::new(None).await;
        let session = scene.session_of(ann).await;
        let row = format!("SELECT * FROM conversation_sessions WHERE session_id = '{session}'");
        let before = scene.home.database().select(&row);
        is_refused(&scene, ben, session, 404).await;
        assert_eq!(scene.home.database().select(&row), before);
        goes_on(&scene, ann, session).await;
        let scene = scene.restart().await;
        let before = scene.home.database().select(&row);
        is_refused(&scene, ben, session, 404).await;
        assert_eq!(scene.home.database().select(&row), before);
        goes_on(&scene, ann, session).await;
        assert_eq!(scene.home.database().contents(session), [SECRET_WORDS, "and again", "and again"]);
    }
}

#[tokio::test]
async fn in_postgresql_a_user_reaches_nothing_of_another_on_any_node() {
    for [ann, ben] in &pairs() {
        let database = migrated(Postgres::shared()).await;
        let scene = Scene::new(Some(database.url())).await;
        let session = scene.session_of(ann).await;
        arrives(&database, session, &[SECRET_WORDS]).await;
        let other = scene.neighbour(&database).await;
        for (turn, node) in [&scene, &other].into_iter().enumerate() {
            let before = rows(&database, session);
            is_refused(node, ben, session, 404).await;
            assert_eq!(rows(&database, session), before);
            goes_on(node, ann, session).await;
            arrives(&database, session, &[&[SECRET_WORDS][..], &vec!["and again"; turn + 1]].concat()).await;
        }
        let scene = scene.restart().await;
        let before = rows(&database, session);
        is_refused(&scene, ben, session, 404).await;
        assert_eq!(rows(&database, session), before);
        goes_on(&scene, ann, session).await;
    }
}

#[tokio::test]
async fn while_postgresql_is_away_a_user_reaches_nothing_of_another_also_after_a_restart() {
    for [ann, ben] in &pairs() {
        let database = migrated(Postgres::shared()).await;
        let proxy = Proxy::to(Postgres::shared().port());
        proxy.cut();
        let scene = Scene::new(Some(database.url_at(proxy.port()))).await;
        let session = scene.session_of(ann).await;
        is_refused(&scene, ben, session, 503).await;
        goes_on(&scene, ann, session).await;
        let scene = scene.restart().await;
        is_refused(&scene, ben, session, 503).await;
        goes_on(&scene, ann, session).await;
        proxy.fix();
        arrives(&database, session, &[SECRET_WORDS, "and again", "and again"]).await;
        is_refused(&scene, ben, session, 404).await;
    }
}

#[tokio::test]
async fn while_a_table_is_locked_a_user_reaches_nothing_of_another() {
    for [ann, ben] in &pairs() {
        let database = migrated(Postgres::shared()).await;
        let scene = Scene::new(Some(database.url())).await;
        let session = scene.session_of(ann).await;
        arrives(&database, session, &[SECRET_WORDS]).await;
        let locker = open_client(&database.url()).await;
        locker
            .batch_execute("BEGIN; LOCK TABLE conversation_sessions IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        is_refused_by_name(&scene, ben, session, 503).await;
        scene.says(&token(ann), session, "and again").await;
        locker.batch_execute("ROLLBACK").await.unwrap();
        arrives(&database, session, &[SECRET_WORDS, "and again"]).await;
    }
}
