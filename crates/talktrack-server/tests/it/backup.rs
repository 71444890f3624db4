//! `talktrack backup`: a copy of a data directory that a server is using has everything that was durable, and a server starts
//! on it as on any other.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use talktrack_testbed::Postgres;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::audio::{keep, read, wav};
use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home, Server, text, until};

/// Makes a backup that is the data directory of another home.
async fn back_up(home: &Home) -> Home {
    let copy = Home::new();
    let target = copy.data_dir();
    let told = home.look(&["backup", target.to_str().unwrap(), "--json"]).await.succeeded().json();
    assert_eq!(told["path"], target.to_str().unwrap());
    copy
}

fn node(home: &Home) -> String {
    let database = home.database().block();
    database.query_row("SELECT node FROM directory", [], |row| row.get(0)).unwrap()
}

/// Says something until the server is gone. Returns what was acknowledged.
async fn talk(mut client: Client) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0.. {
        let content = format!("message {number}");
        if client.socket.send(Message::text(text("user", &content).to_string())).await.is_err() {
            break;
        }
        match client.socket.next().await {
            Some(Ok(Message::Text(answer))) if answer.contains("\"ack\"") => acknowledged.push(content),
            _ => break,
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_has_everything_that_was_acknowledged_before() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut quiet = Client::new(&server).await;
    for number in 0..50 {
        quiet.say(&format!("before {number}")).await;
    }
    let mut talkers = Vec::new();
    for _ in 0..4 {
        let client = Client::new(&server).await;
        talkers.push((client.session, tokio::spawn(talk(client))));
    }
    let many = || (server_count(&home) > 100).then_some(());
    until("the talkers talk", many).await;
    let copy = back_up(&home).await;
    server.kill().await;
    let before: Vec<_> = (0..50).map(|number| format!("before {number}")).collect();

    copy.verify().await;
    let original = node(&home);
    let restored = copy.serve(&[]).await;
    assert_ne!(node(&copy), original, "a restored backup is another node");
    assert_eq!(copy.database().contents(quiet.session), before);
    for (session, talker) in talkers {
        let acknowledged = talker.await.unwrap();
        let kept = copy.database().contents(session);
        assert_eq!(kept, acknowledged[..kept.len()], "a beginning of what was said, in its order");
    }
    let mut client = Client::new(&restored).await;
    client.say("afterwards").await;
    restored.stop().await;
    copy.verify().await;
    // The original goes on, as if nothing had been copied.
    let server = home.serve(&[]).await;
    assert_eq!(node(&home), original);
    server.stop().await;
    home.verify().await;
}

fn server_count(home: &Home) -> u64 {
    let database = home.database().block();
    let count =
        database.query_row("SELECT count(*) FROM conversation_messages", [], |row| row.get::<_, i64>(0));
    count.map_or(0, i64::unsigned_abs)
}

#[tokio::test]
async fn a_backup_has_the_recordings_and_the_settings_and_nothing_of_the_running_server() {
    let home = Home::new();
    home.settings("grace_period = \"61s\"\n");
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let url = keep(&server, client.session, &wav(1_000)).await;
    client.track(json!({"type": "message", "role": "user", "content": "heard", "audio_url": url})).await;
    std::fs::write(home.data_dir().join("audio").join("half#1"), "an upload in progress").unwrap();
    let copy = back_up(&home).await;
    let mut names: Vec<_> =
        std::fs::read_dir(copy.data_dir()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["audio", "audit.jsonl", "talktrack.db", "talktrack.toml"]);
    assert!(!copy.data_dir().join("audio/half#1").exists());
    server.stop().await;
    let restored = copy.serve(&[]).await;
    assert_eq!(read(&restored, &url, "").await.body, wav(1_000));
    let again = home.look(&["backup", copy.data_dir().to_str().unwrap()]).await.failed(1);
    assert!(again.contains("exists"), "{again}");
    let shown = home.look(&["backup", home.path("other").to_str().unwrap()]).await.succeeded().stdout;
    assert!(shown.contains("1 recording of "), "{shown}");
}

#[tokio::test]
async fn what_waits_for_a_database_is_delivered_from_a_restored_backup() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let url = database.url();
    let server: Server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    client.say("stored").await;
    arrives(&database, client.session, &["stored"]).await;
    database.psql("ALTER TABLE conversation_messages RENAME TO elsewhere");
    client.say("waiting").await;
    let copy = back_up(&home).await;
    server.kill().await;
    database.psql("ALTER TABLE elsewhere RENAME TO conversation_messages");
    let restored = copy.serve_on(&url).await;
    arrives(&database, client.session, &["stored", "waiting"]).await;
    restored.stop().await;
    // The lost disk comes back: the first server delivers the same records, which changes nothing.
    let server = home.serve_on(&url).await;
    server.drained().await;
    arrives(&database, client.session, &["stored", "waiting"]).await;
    server.stop().await;
}

#[tokio::test]
async fn without_data_there_is_no_backup() {
    let home = Home::new();
    let target = home.path(&Uuid::new_v4().to_string());
    let line = home.look(&["backup", target.to_str().unwrap()]).await.failed(1);
    assert!(line.contains("does not exist") && !target.exists(), "{line}");
}
