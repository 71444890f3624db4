//! The page of a conversation while messages wait for the database.

use serde_json::{Value, json};
use talktrack_testbed::{Postgres, open_client};

use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home, Server};

/// Returns the texts of a page of the conversation, in its order.
async fn texts(server: &Server, path: &str) -> Vec<String> {
    let page = server.get(path).await;
    assert_eq!(page.status, 200, "{page:?}");
    let words = page.body.split("<p class=\"words\" dir=\"auto\">").skip(1);
    words.map(|words| words.split('<').next().unwrap().to_owned()).collect()
}

fn at(second: u32, content: &str) -> Value {
    json!({"type": "message", "role": "user", "content": content, "created_at": format!("2026-11-20T12:00:{second:02}Z")})
}

#[tokio::test]
async fn what_waits_is_shown_at_its_place_forwards_and_backwards() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    let mut talk = Client::new(&server).await;
    talk.track(at(10, "one")).await;
    let revised = talk.track(at(30, "three")).await;
    arrives(&database, talk.session, &["one", "three"]).await;

    let locker = open_client(&database.url()).await;
    locker.batch_execute("BEGIN; LOCK TABLE conversation_messages IN SHARE MODE").await.unwrap();
    talk.track(at(20, "two")).await;
    let mut revision = at(30, "three, revised");
    revision["id"] = json!(revised);
    revision["revision"] = json!(1);
    talk.track(revision).await;
    talk.track(at(5, "zero")).await;
    talk.track(at(40, "four")).await;
    let wanted = ["zero", "one", "two", "three, revised", "four"];
    let path = format!("/sessions/{}", talk.session);
    assert_eq!(texts(&server, &path).await, wanted, "a live conversation is read backwards");
    assert_eq!(texts(&server, &format!("{path}?after=start")).await, wanted);
    locker.batch_execute("COMMIT").await.unwrap();
    server.drained().await;
    assert_eq!(texts(&server, &path).await, wanted);
    assert_eq!(texts(&server, &format!("{path}?before=end")).await, wanted);
}
