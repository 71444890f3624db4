//! The log: the lines that users grep for, the same lines as fields, and text that must never be logged.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Client, Home, Server, text};

/// Returns the first 8 characters of an id, as the log shows it.
pub(crate) fn short(id: Uuid) -> String {
    id.to_string()[..8].to_owned()
}

/// Returns the lines with a mark that users grep for, without the time and the level before it.
pub(crate) fn grepped(log: &str) -> Vec<&str> {
    let from_mark = |line| ["✅", "⚠️", "❌"].iter().find_map(|mark| Some(&line[str::find(line, mark)?..]));
    log.lines().filter_map(from_mark).collect()
}

/// Holds a short conversation with a conflict, an invalid frame, and a late message of a session that the server does
/// not know.
async fn talk(server: &Server) -> Client {
    let mut client = Client::new(server).await;
    client.send(json!({"type": "session.update", "metadata": {"note": "SECRET"}})).await;
    client.say("SECRET words").await;
    let id = client.track(text("assistant", "SECRET answer")).await;
    client.send(json!({"type": "message", "role": "user", "content": "SECRET change", "id": id})).await;
    client.refused("id_conflict", Value::Null).await;
    client.send(json!({"type": "message", "role": "SECRET", "content": "SECRET"})).await;
    client.refused("invalid_message", Value::Null).await;
    client.send_raw("SECRET".into()).await;
    client.refused("invalid_json", Value::Null).await;
    client.end("completed").await;
    client
}

#[tokio::test]
async fn the_lines_read_exactly_as_people_grep_for_them() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let client = talk(&server).await;
    let session = short(client.session);
    let user = short(client.user);
    server.logged("✅ Ended session").await;
    let log = server.log();
    let lines = grepped(&log);
    assert_eq!(
        lines[..3],
        [
            format!("✅ Started session {session}... for user {user}..."),
            format!("✅ Saved user message for session {session}..."),
            format!("✅ Saved assistant message for session {session}..."),
        ]
    );
    let front = format!("✅ Ended session {session}... (duration: ");
    let back = "s, messages: 2)";
    let duration = lines[3].strip_prefix(&front).and_then(|rest| rest.strip_suffix(back));
    let duration = duration.unwrap_or_else(|| panic!("{}", lines[3]));
    assert!(
        duration.parse::<f64>().is_ok() && duration.split('.').nth(1).map(str::len) == Some(1),
        "{duration}"
    );
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(!server.log().contains("SECRET"), "what was said must never be logged");
}

#[tokio::test]
async fn a_session_that_left_memory_is_warned_about_and_its_message_kept() {
    let home = Home::new();
    let server = home.serve(&["--grace-period", "50ms"]).await;
    let mut client = Client::new(&server).await;
    client.end("completed").await;
    // A second end of a session that is no longer in memory is logged.
    let line = format!("⚠️ Session {}... not found in state", short(client.session));
    let until_forgotten = async {
        while !server.log().contains(&line) {
            client.end("again").await;
        }
    };
    crate::harness::within("the grace period is over", until_forgotten).await;
    client.say("late").await;
    let repeated =
        || (grepped(&server.log()).iter().filter(|logged| **logged == line).count() >= 2).then_some(());
    crate::harness::until("the message is warned about too", repeated).await;
    assert_eq!(home.database().contents(client.session), ["late"]);
    home.verify().await;
}

#[tokio::test]
async fn a_disk_that_does_not_take_it_is_an_error_line_and_no_loss() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    home.database().count("PRAGMA user_version", &[]);
    rename(&home, "conversation_messages", "aside");
    client.send(text("user", "SECRET words")).await;
    let line = server.logged("❌ Failed to save message: ").await;
    assert!(line.contains("conversation_messages"), "{line}");
    assert_eq!(server.get("/readyz").await.status, 503);
    rename(&home, "aside", "conversation_messages");
    client.ack_frame().await;
    assert_eq!(home.database().contents(client.session), ["SECRET words"]);
    assert!(!server.log().contains("SECRET"));
    crate::harness::within("it is ready again", async { while server.get("/readyz").await.status != 200 {} })
        .await;
}

fn rename(home: &Home, from: &str, to: &str) {
    let connection = home.database().block();
    connection.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}; COMMIT")).unwrap();
}

#[tokio::test]
async fn json_lines_carry_the_same_as_fields() {
    let home = Home::new();
    let server = home.serve(&["--log-format", "json"]).await;
    let client = talk(&server).await;
    server.logged("session_ended").await;
    let log = server.log();
    let parse = |line| -> Value { serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}")) };
    let lines: Vec<_> = log.lines().map(parse).collect();
    let event = |name: &str| {
        lines.iter().find(|line| line["event"] == name).unwrap_or_else(|| panic!("{name}: {log}"))
    };
    let started = event("session_started");
    assert_eq!(started["session_id"], client.session.to_string());
    assert_eq!(started["user_id"], client.user.to_string());
    let saved = event("message_saved");
    assert_eq!((&saved["session_id"], &saved["role"]), (&json!(client.session), &json!("user")));
    assert!(saved["message_id"].as_str().unwrap().parse::<Uuid>().is_ok());
    let ended = event("session_ended");
    assert_eq!(ended["message_count"], 2);
    assert!(ended["duration_seconds"].is_f64(), "{ended}");
    for line in &lines {
        assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
        assert!(line["timestamp"].is_string(), "{line}");
    }
    assert!(!log.contains("SECRET"), "what was said must never be logged");
}

#[tokio::test]
async fn a_log_file_gets_the_same_lines_and_is_appended_to() {
    let home = Home::new();
    let file = home.write("talk.log", "what was there before\n");
    for _ in 0..2 {
        let server = home.serve(&["--log-file", &file]).await;
        let mut client = Client::new(&server).await;
        client.say("hello").await;
        server.stop().await;
    }
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("what was there before\n"));
    assert_eq!(written.matches("✅ Saved user message for session").count(), 2, "{written}");
    let shown = std::fs::read_to_string(home.log_path()).unwrap();
    assert_eq!(shown.matches("✅ Saved user message for session").count(), 2, "stdout has them all the same");
    let line = crate::harness::Output::of(home.server_command(&["--log-file", "/nowhere/at/all.log"])).await;
    assert!(
        line.code.is_some_and(|code| code != 0) && line.stderr.contains("/nowhere/at/all.log"),
        "{line:?}"
    );
}

#[tokio::test]
async fn the_log_level_is_obeyed() {
    let home = Home::new();
    let server = home.serve(&["--log-level", "warn"]).await;
    let mut client = Client::new(&server).await;
    client.say("hello").await;
    client.end("completed").await;
    server.stop().await;
    assert!(!std::fs::read_to_string(home.log_path()).unwrap().contains("✅"));
}
