//! Two keys claim a session for different users. They share nothing until the store decides, and then one of them loses
//! the session.

use serde_json::{Value, json};
use talktrack_testbed::{Postgres, Proxy};
use uuid::Uuid;

use super::{SECRET_WORDS, Scene, token};
use crate::harness::remote::{arrives, migrated, session as stored};
use crate::harness::{Client, Listener};

#[tokio::test]
async fn two_claims_to_one_session_share_nothing_until_the_store_decides() {
    let ann = Uuid::new_v4();
    let ben = Uuid::new_v4();
    let session = Uuid::new_v4();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.cut();
    let scene = Scene::new(Some(database.url_at(proxy.port()))).await;
    let join = async |user: Uuid| {
        let query = format!("session_id={session}&user_id={user}");
        Client::come_with(&scene.server, &query, &scene.key.key).await.expect_started().await
    };
    let mut anns = join(ann).await;
    let mut bens = join(ben).await;
    let authorization = format!("Authorization: Bearer {}\r\n", token(ben));
    let mut listener = Listener::with(&scene.server, "", &authorization).await;
    anns.say(SECRET_WORDS).await;
    bens.say("what Ben says").await;
    let told = listener.next().await.unwrap();
    assert_eq!((told.name.as_str(), &told.data["content"]), ("message", &json!("what Ben says")), "{told:?}");
    let path = format!("/v1/sessions/{session}");
    for (user, own, other) in [(ann, SECRET_WORDS, "what Ben says"), (ben, "what Ben says", SECRET_WORDS)] {
        let said = scene.server.get_with(&format!("{path}/messages"), &token(user)).await;
        assert!(said.body.contains(own) && !said.body.contains(other), "{said:?}");
        let row = scene.server.get_with(&path, &token(user)).await.json();
        assert_eq!((&row["user_id"], &row["message_count"]), (&json!(user), &json!(1)), "{row}");
    }
    proxy.fix();
    bens.refused("forbidden", Value::Null).await;
    bens.closed().await;
    arrives(&database, session, &[SECRET_WORDS]).await;
    anns.say("Ann goes on").await;
    arrives(&database, session, &[SECRET_WORDS, "Ann goes on"]).await;
    let row = stored(&database, session).unwrap();
    assert_eq!((&row["user_id"], &row["status"]), (&json!(ann), &json!("active")), "{row}");
    let lost = scene.server.get_with(&path, &token(ben)).await;
    assert_eq!(lost.problem(404, "session_not_found"), "no such session");
}
