//! Deletion over HTTP: which data are deleted, what the response reports, and what happens to late messages.

mod away;
mod importing;
mod waiting;

use serde_json::{Value, json};
use talktrack_testbed::{Postgres, Proxy};
use uuid::Uuid;

use crate::harness::remote::{arrives, migrated, said, select};
use crate::harness::{Client, Home, HttpAnswer, Server, text, until, user};

/// Sends a request with this JSON body.
async fn send(server: &Server, method: &str, path: &str, body: &Value) -> HttpAnswer {
    server.request(method, path).json(body).send().await
}

async fn delete(server: &Server, path: &str) -> HttpAnswer {
    server.request("DELETE", path).send().await
}

fn removed(answer: &HttpAnswer) -> [u64; 4] {
    let told = answer.json();
    ["sessions", "messages", "dead_letters", "journal"].map(|what| told[what].as_u64().unwrap())
}

/// True if a file in the data directory contains this text.
fn is_on_the_disk(home: &Home, words: &str) -> bool {
    let files = std::fs::read_dir(home.data_dir()).unwrap().map(|file| file.unwrap().path());
    // A file that disappears meanwhile contains no text.
    let read = |path| match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        read => read.unwrap(),
    };
    files.filter(|path| path.is_file()).any(|path| String::from_utf8_lossy(&read(path)).contains(words))
}

#[tokio::test]
async fn a_deleted_session_is_gone_everywhere_and_what_comes_late_is_refused() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let mut other = Client::new(&server).await;
    client.say("correct horse").await;
    client.say("battery staple").await;
    other.say("something else").await;
    assert!(is_on_the_disk(&home, "battery staple"));
    let session = client.session;
    let owner = client.user;
    let path = format!("/v1/sessions/{session}");
    let answer = delete(&server, &path).await;
    assert_eq!(answer.status, 200);
    let expected = json!({"session_id": session, "sessions": 1, "messages": 2, "dead_letters": 0, "journal": 0,
        "audio": 0, "store": "done"});
    assert_eq!(answer.json(), expected);
    assert!(!is_on_the_disk(&home, "battery staple") && is_on_the_disk(&home, "something else"));

    client.send(user("late", 1)).await;
    client.refused("deleted", 1).await;
    client.send(json!({"type": "session.end", "reason": "completed", "ref": 2})).await;
    client.refused("deleted", 2).await;
    let mut newcomer = Client::open(&server, &format!("session_id={session}&user_id={owner}")).await;
    newcomer.refused("deleted", Value::Null).await;
    assert_eq!(newcomer.closed().await.map(u16::from), Some(1008));
    let late = send(&server, "POST", &format!("{path}/messages"), &text("user", "late")).await;
    late.problem(410, "deleted");
    let again = json!({"session_id": session, "user_id": owner});
    send(&server, "POST", "/v1/sessions", &again).await.problem(410, "deleted");
    send(&server, "PATCH", &path, &json!({"metadata": {}})).await.problem(410, "deleted");
    assert_eq!(server.get(&path).await.status, 404);
    assert_eq!(removed(&delete(&server, &path).await), [0; 4], "again, nothing");
    assert_eq!(delete(&server, &format!("/v1/sessions/{}", Uuid::new_v4())).await.status, 404);
    assert_eq!(server.metric(r#"talktrack_messages_refused_total{reason="deleted"}"#).await, 1.0);
    server.logged("✅ Deleted session").await;
    server.kill().await;

    let server = home.serve(&[]).await;
    assert_eq!(server.get(&path).await.status, 404);
    send(&server, "POST", &format!("{path}/messages"), &text("user", "late")).await.problem(410, "deleted");
    assert_eq!(home.database().contents(other.session), ["something else"]);
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn a_user_goes_with_all_their_sessions_and_may_come_back() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let leaver = Uuid::new_v4();
    let mut under_way = Client::join(&server, Uuid::new_v4(), leaver).await;
    under_way.say("under way").await;
    let mut over = Client::join(&server, Uuid::new_v4(), leaver).await;
    over.say("it is over").await;
    over.end("completed").await;
    let mut other = Client::new(&server).await;
    other.say("of somebody else").await;
    let letter = json!({"type": "message", "role": "user", "content": "to nobody"});
    let unknown = Uuid::new_v4();
    under_way.lives().await;

    let answer = delete(&server, &format!("/v1/users/{leaver}")).await;
    assert_eq!((answer.status, removed(&answer)), (200, [2, 2, 0, 0]));
    assert_eq!(answer.json()["user_id"], json!(leaver));
    assert!(!is_on_the_disk(&home, "it is over") && !is_on_the_disk(&home, "under way"));
    assert_eq!(removed(&delete(&server, &format!("/v1/users/{leaver}")).await), [0; 4]);
    let list = server.get(&format!("/v1/sessions?user_id={leaver}")).await.json();
    assert_eq!(list["sessions"], json!([]));
    assert_eq!(send(&server, "POST", &format!("/v1/sessions/{unknown}/messages"), &letter).await.status, 404);
    let mut back = Client::join(&server, Uuid::new_v4(), leaver).await;
    back.say("hello again").await;
    assert_eq!(home.database().contents(back.session), ["hello again"]);
    assert_eq!(home.database().contents(other.session), ["of somebody else"]);
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn a_database_that_is_away_follows_and_the_answer_says_so() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let proxy = Proxy::to(Postgres::shared().port());
    let url = database.url_at(proxy.port());
    let server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    client.say("there already").await;
    arrives(&database, client.session, &["there already"]).await;
    server.drained().await;
    proxy.cut();
    client.say("still here").await;
    let answer = delete(&server, &format!("/v1/sessions/{}", client.session)).await;
    assert_eq!((answer.status, removed(&answer)), (202, [0, 0, 0, 1]));
    assert_eq!(answer.json()["store"], "pending");
    assert!(!is_on_the_disk(&home, "there already") && !is_on_the_disk(&home, "still here"));
    client.send(user("late", 1)).await;
    client.refused("deleted", 1).await;
    assert_eq!(said(&database, client.session), ["there already"]);
    server.kill().await;
    proxy.fix();
    let server = home.serve_on(&url).await;
    let count = "SELECT count(*) AS n FROM conversation_sessions";
    until("the database follows", || (select(&database, count)[0]["n"] == 0).then_some(())).await;
    assert_eq!(said(&database, client.session), [""; 0]);
    server.drained().await;
    server.stop().await;
    home.look_at(&database.url(), &["verify"]).await.succeeded();
}

const OLD: Uuid = Uuid::from_u128(0x01d);
const RECENT: Uuid = Uuid::from_u128(0x4ece);

/// Returns an old and a recent conversation as JSONL.
fn old_and_recent() -> String {
    let user_id = Uuid::from_u128(1);
    let lines = [
        json!({"type": "session.start", "session_id": OLD, "user_id": user_id, "started_at": "2020-01-01T00:00:00Z"}),
        json!({"type": "message", "session_id": OLD, "role": "user", "content": "long ago", "created_at": "2020-01-01T00:00:01Z"}),
        json!({"type": "session.end", "session_id": OLD, "ended_at": "2020-01-01T00:00:02Z"}),
        json!({"type": "session.start", "session_id": RECENT, "user_id": user_id}),
        json!({"type": "message", "session_id": RECENT, "role": "user", "content": "just now"}),
        json!({"type": "session.end", "session_id": RECENT}),
    ];
    lines.map(|line| format!("{line}\n")).concat()
}

#[tokio::test]
async fn what_is_too_old_is_deleted_where_that_is_wanted_and_may_begin_again() {
    let home = Home::new();
    let file = home.write("old.jsonl", old_and_recent());
    home.look(&["import", &file]).await.succeeded();
    let server = home.serve(&[]).await;
    server.stop().await;
    assert_eq!(home.database().contents(OLD), ["long ago"], "off by default");

    let server = home.serve(&["--retention-days", "30"]).await;
    let line = server.logged("retention: deleted 1 session with 1 message, and").await;
    assert!(line.contains("0 dead letters"), "{line}");
    assert_eq!(
        (home.database().session(OLD), home.database().contents(RECENT)),
        (None, vec!["just now".into()])
    );
    assert_eq!(server.metric(r#"talktrack_sessions_deleted_total{reason="age"}"#).await, 1.0);
    let mut client = Client::join(&server, OLD, Uuid::from_u128(1)).await;
    assert_eq!(client.started["resumed"], false);
    client.say("again").await;
    server.stop().await;
    home.verify().await;
}

#[tokio::test]
async fn what_is_too_old_in_postgresql_is_deleted_by_whichever_node_looks_first() {
    let home = Home::new();
    let other = Home::new();
    let database = migrated(Postgres::shared()).await;
    let file = home.write("old.jsonl", old_and_recent());
    home.look_at(&database.url(), &["import", &file]).await.succeeded();
    let url = database.url();
    let flags = ["--database-url", &url, "--retention-days", "30"];
    let servers = (home.serve(&flags).await, other.serve(&flags).await);
    let old = "SELECT session_id FROM conversation_sessions";
    until("the old session goes", || {
        (select(&database, old) == [json!({"session_id": RECENT})]).then_some(())
    })
    .await;
    assert_eq!(said(&database, RECENT), ["just now"]);
    servers.0.stop().await;
    servers.1.stop().await;
    home.look_at(&url, &["verify"]).await.succeeded();
}

#[tokio::test]
async fn damaged_files_that_are_kept_still_hold_deleted_text_until_they_are_dropped() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("correct horse").await;
    let session = client.session;
    server.stop().await;
    let file = home.data_dir().join("talktrack.db");
    let mut bytes = std::fs::read(&file).unwrap();
    // Damages the first page of the schema, so that SQLite finds no table by its name.
    bytes[100..108].fill(0xff);
    std::fs::write(&file, bytes).unwrap();

    let server = home.serve(&[]).await;
    let answer = delete(&server, &format!("/v1/sessions/{session}")).await;
    assert!(!is_on_the_disk(&home, "correct horse"), "the files in use");
    let listed = home.look(&["quarantine", "list", "--json"]).await.succeeded().json_lines();
    let name = listed[0]["name"].as_str().unwrap().to_owned();
    assert_eq!(listed.len(), 1);
    let remaining = json!([{"path": format!("quarantine/{name}"), "remove": format!("talktrack quarantine drop {name}")}]);
    assert_eq!((answer.status, &answer.json()["remaining"]), (200, &remaining));
    let user = delete(&server, &format!("/v1/users/{}", Uuid::new_v4())).await;
    assert_eq!(user.json()["remaining"], remaining);
    let kept = home.data_dir().join("quarantine").join(&name);
    assert!(kept.join("report.txt").exists());
    home.look(&["quarantine", "drop", "another"]).await.failed(1);
    home.look(&["quarantine", "drop", "--all"]).await.failed(2);
    home.look(&["quarantine", "drop", &name]).await.succeeded();
    assert!(!kept.exists());
    assert!(home.look(&["quarantine", "list"]).await.succeeded().stdout.is_empty());
    let user = delete(&server, &format!("/v1/users/{}", Uuid::new_v4())).await;
    assert_eq!((user.status, &user.json()["remaining"]), (200, &Value::Null));
    server.stop().await;
    home.verify().await;
}
