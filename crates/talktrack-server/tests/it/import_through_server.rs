//! `talktrack import` while a server uses the data directory, and `talktrack client --file`: nothing is lost, nothing doubled.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use crate::auth::new_key;
use crate::harness::remote::migrated;
use crate::harness::{Client, Home};

/// Calls with start and end times, and with messages that have no ids.
fn calls(count: usize) -> (Vec<Uuid>, String) {
    let mut ids = Vec::new();
    let mut lines = Vec::new();
    for number in 0..count {
        let id = Uuid::new_v4();
        let at = |second: usize| format!("2026-01-02T10:{number:02}:{second:02}Z");
        let start = json!({"type": "session.start", "session_id": id, "user_id": Uuid::new_v4(), "started_at": at(0),
            "metadata": {"number": number}, "agent": "desk", "tags": ["vip"]});
        let say = |role: &str, second: usize| {
            let content = format!("{role} {number} {}", "ü".repeat(100));
            json!({"type": "message", "session_id": id, "role": role, "content": content, "created_at": at(second)})
        };
        let end = json!({"type": "session.end", "session_id": id, "reason": "hangup", "ended_at": at(42)});
        let update =
            json!({"type": "session.update", "session_id": id, "metadata": {"rated": 5}, "channel": "phone"});
        let said = [say("user", 3), say("assistant", 9), say("user", 12)];
        lines
            .extend([start].into_iter().chain(said).chain([update, end]).map(|line| line.to_string() + "\n"));
        ids.push(id);
    }
    (ids, lines.concat())
}

/// Sorts rows as they were listed and removes what differs between two imports.
fn comparable(mut rows: Vec<Value>) -> Vec<Value> {
    for row in &mut rows {
        let _ = row.as_object_mut().unwrap().remove("last_event_at");
    }
    rows
}

#[tokio::test]
async fn a_file_is_imported_through_the_server_as_it_is_without_one() {
    let (ids, file) = calls(30);
    let alone = Home::new();
    let name = alone.write("calls.jsonl", &file);
    alone.look(&["import", &name]).await.succeeded();
    let expected = alone.look(&["export"]).await.succeeded().stdout;
    let home = Home::new();
    let server = home.serve(&[]).await;
    let name = home.write("calls.jsonl", &file);
    let told = home.look(&["import", &name]).await.succeeded();
    assert!(told.stdout.starts_with("imported 30 new sessions and 90 messages in "), "{told:?}");
    assert!(told.stderr.contains(&format!("importing through it (http://{})", server.address)), "{told:?}");
    assert_eq!(home.look(&["export"]).await.succeeded().stdout, expected);
    let row = home.database().ended(ids[7]).await;
    assert_eq!((row.duration_seconds, row.end()), (Some(42.0), ("ended", Some("hangup"))));
    assert_eq!(row.metadata, json!({"number": 7, "rated": 5}));

    let listed = comparable(home.look(&["sessions", "--json"]).await.json_lines());
    let again = home.look(&["import", &name, "--json"]).await.succeeded().json();
    assert_eq!((&again["sessions"], &again["messages"]), (&json!(0), &json!(90)));
    assert_eq!(home.look(&["export"]).await.succeeded().stdout, expected);
    assert_eq!(comparable(home.look(&["sessions", "--json"]).await.json_lines()), listed);
    home.verify().await;
    server.stop().await;
    home.look(&["import", &name]).await.succeeded();
    assert_eq!(home.look(&["export"]).await.succeeded().stdout, expected, "with and without a server alike");
}

#[tokio::test]
async fn bad_lines_are_reported_with_their_place_and_the_others_are_taken() {
    let home = Home::new();
    let server = home.serve(&["--max-message-bytes", "1000"]).await;
    let mut client = Client::new(&server).await;
    let taken = client.say("something").await;
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let say =
        |content: &str| json!({"type": "message", "session_id": session, "role": "user", "content": content});
    let mut conflicting = say("something else");
    conflicting["id"] = json!(taken);
    let lines = [
        json!({"type": "session.start", "session_id": session, "user_id": user}).to_string(),
        say("one").to_string(),
        "{broken".to_owned(),
        say(&"x".repeat(1_001)).to_string(),
        conflicting.to_string(),
        json!({"type": "message", "session_id": Uuid::new_v4(), "role": "user", "content": "x"}).to_string(),
        json!({"type": "session.start", "session_id": client.session, "user_id": user}).to_string(),
        say("two").to_string(),
        json!({"type": "session.end", "session_id": session, "ended_at": "2999-01-01T00:00:00Z"}).to_string(),
    ];
    let file = home.write("conv.jsonl", lines.join("\n"));
    let output = home.look(&["import", &file, "--json"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    for (line, word) in [
        (3, "JSON"),
        (4, "the limit is 1000"),
        (5, "the id is taken"),
        (6, "no session.start line"),
        (7, "another user"),
        (9, "more than a day in the future"),
    ] {
        let place = format!("{file}:{line}: ");
        let told = output.stderr.lines().find(|told| told.starts_with(&place));
        assert!(told.is_some_and(|told| told.contains(word)), "{place}{word}: {}", output.stderr);
    }
    assert_eq!((&output.json()["messages"], &output.json()["refused"]), (&json!(2), &json!(6)));
    assert_eq!(home.database().contents(session), ["one", "two"]);
}

#[tokio::test]
async fn a_server_that_asks_for_a_key_takes_a_file_with_one() {
    let home = Home::new();
    let key = new_key(&home, "importer", "read,write").await;
    let reader = new_key(&home, "reader", "read").await;
    let entries = format!("{} {}", key.entry, reader.entry);
    let server = home.serve(&["--api-keys", &entries]).await;
    let (ids, file) = calls(2);
    let name = home.write("calls.jsonl", &file);
    for (arguments, part) in [(&[][..], "--token or TALKTRACK_TOKEN"), (&["--token", &reader.key], "write")] {
        let refused = home.look(&[&["import", &name], arguments].concat()).await;
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    let url = format!("http://{}", server.address);
    home.run(&["import", &name, "--url", &url, "--token", &key.key]).await.succeeded();
    assert_eq!(home.database().contents(ids[1]).len(), 3);
}

#[tokio::test]
async fn a_file_is_imported_through_a_server_on_postgresql() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let url = database.url();
    let server = home.serve_on(&url).await;
    let (_, file) = calls(5);
    let name = home.write("calls.jsonl", &file);
    home.look_at(&url, &["import", &name]).await.succeeded();
    server.drained().await;
    let alone = Home::new();
    let name = alone.write("calls.jsonl", &file);
    alone.look(&["import", &name]).await.succeeded();
    let lines = async |home: &Home, arguments: &[&str]| {
        home.look(&[&["export"], arguments].concat()).await.succeeded().json_lines()
    };
    assert_eq!(lines(&home, &["--database-url", &url]).await, lines(&alone, &[]).await);
}

#[tokio::test]
async fn a_recording_that_is_replayed_twice_is_stored_once() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (ids, file) = calls(3);
    let name = home.write("calls.jsonl", &file);
    let url = format!("ws://{}", server.address);
    for _ in 0..2 {
        let summary =
            home.run(&["client", "--url", &url, "--file", &name, "--json"]).await.succeeded().json();
        assert_eq!(summary["acked"], 9, "{summary}");
    }
    home.look(&["import", &name]).await.succeeded();
    for id in ids {
        assert_eq!(home.database().contents(id).len(), 3);
    }
    assert_eq!(server.metric("talktrack_messages_durable_total").await, 27.0);
    home.verify().await;
}
