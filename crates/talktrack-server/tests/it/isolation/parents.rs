//! The session from which another one was transferred: only callers who may read it see its id.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use super::{Scene, token};
use crate::harness::remote::migrated;

async fn start_child(scene: &Scene, user: Uuid, parent: Uuid) -> Uuid {
    let start = json!({"user_id": user, "parent_session_id": parent});
    let started = scene.ask(&scene.key.key, "POST", "/v1/sessions", &start).await;
    assert_eq!(started.status, 201, "{started:?}");
    started.json()["session_id"].as_str().unwrap().parse().unwrap()
}

/// Returns the parent as each read of the session shows it.
async fn shown_parents(scene: &Scene, caller: &str, session: Uuid) -> Vec<Value> {
    let get = async |path: String| scene.server.get_with(&path, caller).await;
    let one = get(format!("/v1/sessions/{session}")).await.json();
    let list = get("/v1/sessions".to_owned()).await.json();
    let listed =
        list["sessions"].as_array().unwrap().iter().find(|row| row["session_id"] == session.to_string());
    let document = get(format!("/v1/sessions/{session}/export?format=json")).await.json();
    vec![
        one["parent_session_id"].clone(),
        listed.unwrap()["parent_session_id"].clone(),
        document["session"]["parent_session_id"].clone(),
    ]
}

async fn only_readers_of_the_parent_see_it(scene: &Scene) {
    let (ann, ben) = (Uuid::new_v4(), Uuid::new_v4());
    let parent = scene.session_of(ann).await;
    let [of_ann, of_ben] = [start_child(scene, ann, parent).await, start_child(scene, ben, parent).await];
    for session in [parent, of_ann, of_ben] {
        let path = format!("/v1/sessions/{session}/messages?wait=stored");
        let said = scene.ask(&scene.key.key, "POST", &path, &json!({"role": "user", "content": "hi"})).await;
        assert!(matches!(said.status, 200 | 201), "{said:?}");
    }
    for (caller, session) in
        [(token(ann), of_ann), (scene.key.key.clone(), of_ann), (scene.key.key.clone(), of_ben)]
    {
        for shown in shown_parents(scene, &caller, session).await {
            assert_eq!(shown, parent.to_string());
        }
    }
    for shown in shown_parents(scene, &token(ben), of_ben).await {
        assert_eq!(shown, Value::Null);
    }
}

#[tokio::test]
async fn only_readers_of_the_parent_see_it_in_sqlite() {
    only_readers_of_the_parent_see_it(&Scene::new(None).await).await;
}

#[tokio::test]
async fn only_readers_of_the_parent_see_it_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    only_readers_of_the_parent_see_it(&Scene::new(Some(database.url())).await).await;
}
