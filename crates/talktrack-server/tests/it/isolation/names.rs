//! External names and ids are separate for each user, and a user cannot enter another user's session by being faster.

use serde_json::json;
use talktrack_testbed::{Postgres, Proxy};
use uuid::Uuid;

use super::{Scene, token};
use crate::harness::remote::migrated;
use crate::harness::upgrade;

#[tokio::test]
async fn a_name_that_one_user_has_taken_is_free_for_everybody_else() {
    let ann = Uuid::new_v4();
    let ben = Uuid::new_v4();
    let scene = Scene::new(None).await;
    let name = json!({"external_id": "ann@example.com"});
    let of_ben = scene.ask(&token(ben), "POST", "/v1/sessions", &name).await;
    let of_ann = scene.ask(&token(ann), "POST", "/v1/sessions", &name).await;
    let by_agent = json!({"external_id": "ann@example.com", "user_id": ann});
    let of_agent = scene.ask(&scene.key.key, "POST", "/v1/sessions", &by_agent).await;
    let ids = [of_ben, of_ann, of_agent].map(|started| {
        assert_eq!(started.status, 201, "{started:?}");
        started.json()["session_id"].as_str().unwrap().to_owned()
    });
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    let path = "/v1/sessions/external:ann%40example.com";
    for (token, id) in [(&token(ben), &ids[0]), (&token(ann), &ids[1]), (&scene.key.key, &ids[2])] {
        let shown = scene.server.get_with(path, token).await;
        assert_eq!(
            (shown.status, shown.json()["session_id"].as_str()),
            (200, Some(id.as_str())),
            "{shown:?}"
        );
    }
    let nobodys = scene.server.get_with(path, &token(Uuid::new_v4())).await;
    assert_eq!(nobodys.problem(404, "session_not_found"), "no such session");
}

#[tokio::test]
async fn a_user_finds_by_its_name_what_an_agent_started_for_them() {
    let ann = Uuid::new_v4();
    let scene = Scene::new(None).await;
    let start = json!({"session_id": Uuid::new_v4(), "external_id": "call 7", "user_id": ann});
    let started = scene.ask(&scene.key.key, "POST", "/v1/sessions", &start).await.json();
    let shown = scene.server.get_with("/v1/sessions/external:call%207", &token(ann)).await;
    assert_eq!((shown.status, &shown.json()["session_id"]), (200, &started["session_id"]), "{shown:?}");
}

/// Ben opens sockets and starts sessions in a loop while Ann's session starts. None of his attempts may succeed.
async fn nobody_is_faster(scene: &Scene) {
    let ann = Uuid::new_v4();
    let ben = Uuid::new_v4();
    let authorization = format!("Bearer {}", token(ben));
    for _ in 0..20 {
        let session = Uuid::new_v4();
        let start = json!({"session_id": session, "user_id": ann});
        let begin = scene.ask(&scene.key.key, "POST", "/v1/sessions", &start);
        let path = format!("/v1/ws?session_id={session}");
        let knock = async {
            for _ in 0..5 {
                let (_, answer) =
                    upgrade(scene.server.address, &path, &[("Authorization", &authorization)]).await;
                assert!(matches!(answer.status, 404 | 503), "{answer:?}");
                let taken =
                    scene.ask(&token(ben), "POST", "/v1/sessions", &json!({"session_id": session})).await;
                assert!(matches!(taken.status, 404 | 503), "{taken:?}");
            }
        };
        let (begun, ()) = tokio::join!(begin, knock);
        assert_eq!(begun.status, 201, "{begun:?}");
        scene.says(&token(ann), session, "mine").await;
    }
}

#[tokio::test]
async fn being_faster_than_the_owner_leads_nowhere_in_sqlite() {
    nobody_is_faster(&Scene::new(None).await).await;
}

#[tokio::test]
async fn being_faster_than_the_owner_leads_nowhere_while_postgresql_is_away() {
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.cut();
    nobody_is_faster(&Scene::new(Some(database.url_at(proxy.port()))).await).await;
}
