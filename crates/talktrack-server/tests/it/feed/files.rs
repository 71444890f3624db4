//! Lines of files that name their session `external:NAME`.

use serde_json::json;
use talktrack::message::program_session_id;
use uuid::Uuid;

use super::{lines, say};
use crate::harness::Home;

/// A file whose lines name their sessions in three ways.
fn file(user: Uuid) -> String {
    let frames = [
        json!({"type": "session.start", "external_id": "call 7", "user_id": user}),
        json!({"type": "session.start", "session_id": "external:call 8", "user_id": user}),
        say("external:call 7", "one"),
        say("external:call 8", "two"),
        say(program_session_id("call 7").as_uuid(), "three"),
        json!({"type": "session.update", "session_id": "external:call 8", "metadata": {"room": 7}}),
        json!({"type": "session.end", "session_id": "external:call 7", "reason": "hangup"}),
        json!({"type": "session.end", "session_id": "external:call 8", "reason": "hangup"}),
    ];
    frames.iter().map(|frame| format!("{frame}\n")).collect()
}

fn check(home: &Home) {
    let database = home.database();
    for (name, said) in [("call 7", &["one", "three"][..]), ("call 8", &["two"])] {
        let id = program_session_id(name).as_uuid();
        assert_eq!(database.contents(id), said);
        let row = database.session(id).unwrap();
        assert_eq!((row.external_id.as_deref(), row.end()), (Some(name), ("ended", Some("hangup"))));
    }
    assert_eq!(database.count("SELECT count(*) FROM conversation_messages", &[]), 3);
}

#[tokio::test]
async fn a_file_that_names_its_sessions_is_imported_once() {
    let home = Home::new();
    let path = home.write("calls.jsonl", file(Uuid::new_v4()));
    for _ in 0..2 {
        home.look(&["import", &path]).await.succeeded();
        check(&home);
    }
    let unknown = home.write("unknown.jsonl", say("external:call 9", "lost").to_string());
    assert!(home.look(&["import", &unknown]).await.failed(1).contains("session_id"));
}

#[tokio::test]
async fn a_file_that_names_its_sessions_is_replayed_and_sent_as_frames() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let user = Uuid::new_v4();
    let path = home.write("calls.jsonl", file(user));
    let url = format!("ws://{}/v1/ws", server.address);
    home.run(&["client", "--url", &url, "--file", &path]).await.succeeded();
    check(&home);

    let home = Home::new();
    let server = home.serve(&[]).await;
    let request = server.request("POST", "/v1/frames").body("application/x-ndjson", file(user));
    assert_eq!(lines(&request.send().await).len(), 8);
    check(&home);
}
