//! `talktrack tail`: the events of a server, or the changes in the file of a data directory.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::json;
use talktrack_testbed::Postgres;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::auth::new_key;
use crate::harness::remote::{arrives, migrated};
use crate::harness::{Client, Home, Server, Tail, text, within};

/// A message that a later one can revise.
fn revisable(id: Uuid, content: &str, revision: i64) -> serde_json::Value {
    let mut message = text("user", content);
    message["id"] = json!(id);
    message["revision"] = json!(revision);
    message
}

fn said(content: &str) -> (String, i64) {
    (content.to_owned(), 0)
}

/// Imports one message into a session of its own.
async fn import(home: &Home, content: &str) {
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let lines = [
        json!({"type": "session.start", "session_id": session, "user_id": user}),
        json!({"type": "message", "session_id": session, "role": "user", "content": content}),
        json!({"type": "session.end", "session_id": session, "reason": "completed"}),
    ];
    let file = home.write("import.jsonl", lines.map(|line| line.to_string() + "\n").concat());
    home.look(&["import", &file]).await.succeeded();
}

#[tokio::test]
async fn messages_and_revisions_are_shown_as_they_become_durable() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("before").await;
    let mut tail = Tail::start(&home, &["--json", "--since-start"]);
    assert_eq!(tail.next().await["content"], "before");
    for content in ["now", "and now"] {
        client.say(content).await;
        let row = tail.next().await;
        assert_eq!((&row["content"], &row["session_id"]), (&json!(content), &json!(client.session)));
    }
    let id = Uuid::new_v4();
    for (content, revision) in [("I would like", 0), ("I would like to leave", 1)] {
        client.track(revisable(id, content, revision)).await;
        assert_eq!(tail.said().await, (content.to_owned(), revision));
    }
    let pid = Pid::from_raw(tail.process.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(within("the tail ends", tail.process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_terminal_is_told_of_revisions() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let id = Uuid::new_v4();
    let mut tail = Tail::start(&home, &["--since-start"]);
    client.track(revisable(id, "I would like", 0)).await;
    assert_eq!(tail.line().await, format!("session {}", client.session));
    assert!(tail.line().await.ends_with("user       I would like"));
    client.track(revisable(id, "I would like to leave", 1)).await;
    assert!(tail.line().await.ends_with("user       I would like to leave"));
    assert_eq!(tail.line().await.trim(), "[revision 1]");
}

#[tokio::test]
async fn the_file_is_followed_from_where_the_server_ended() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("before").await;
    let mut tail = Tail::start(&home, &["--json", "--since-start"]);
    assert_eq!(tail.said().await, said("before"));
    client.say("with a server").await;
    assert_eq!(tail.said().await, said("with a server"));
    server.kill().await;
    import(&home, "without a server").await;
    assert_eq!(tail.said().await, said("without a server"));
    let server = home.serve(&[]).await;
    Client::new(&server).await.say("with another server").await;
    assert_eq!(tail.said().await, said("with another server"));
}

#[tokio::test]
async fn a_server_that_asks_for_a_key_is_followed_by_its_file() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let server = home.serve(&["--api-keys", &key.entry]).await;
    let query = format!("user_id={}", Uuid::new_v4());
    let mut client = Client::come_with(&server, &query, &key.key).await.expect_started().await;
    client.say("before").await;
    let mut tail = Tail::start(&home, &["--json", "--since-start"]);
    assert_eq!(tail.said().await, said("before"));
    let id = Uuid::new_v4();
    for (content, revision) in [("now", 0), ("now or never", 1)] {
        client.track(revisable(id, content, revision)).await;
        assert_eq!(tail.said().await, (content.to_owned(), revision));
    }
}

#[tokio::test]
async fn a_server_is_followed_by_its_url_and_again_after_its_restart() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let server = home.serve(&["--api-keys", &key.entry]).await;
    let address = server.address.to_string();
    let url = format!("http://{address}");
    let query = format!("user_id={}", Uuid::new_v4());
    let refused = home.run(&["tail", "--url", &url]).await.failed(1);
    assert!(refused.contains("the server refused the request (401): "), "{refused}");
    let mut client = Client::come_with(&server, &query, &key.key).await.expect_started().await;
    client.say("before").await;
    let arguments = ["--json", "--since-start", "--url", &url, "--token", &key.key];
    let mut tail = Tail::run(&home, &arguments);
    assert_eq!(tail.said().await, said("before"));
    server.stop().await;
    let mut again = home.command(&["serve", "--listen", &address, "--api-keys", &key.entry, "--data-dir"]);
    again.arg(home.data_dir());
    let server = Server::start(&home, again).await;
    let mut client = Client::come_with(&server, &query, &key.key).await.expect_started().await;
    client.say("after").await;
    assert_eq!(tail.said().await, said("after"));
    let unreachable = home.run(&["tail", "--url", "http://127.0.0.1:1"]).await.failed(1);
    assert!(unreachable.contains("no server answers at http://127.0.0.1:1"), "{unreachable}");
}

#[tokio::test]
async fn a_message_that_this_version_cannot_read_is_reported() {
    let home = Home::new();
    let later_version = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", later_version.local_addr().unwrap());
    let mut tail = Tail::run(&home, &["--url", &url]);
    let (mut connection, _) = within("the tail connects", later_version.accept()).await.unwrap();
    within("the tail asks", connection.read(&mut [0; 4096])).await.unwrap();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let event = "id: 7\nevent: message\ndata: {\"id\":3}\n\n";
    connection.write_all(format!("{head}{event}").as_bytes()).await.unwrap();
    let warning = tail.warning().await;
    assert!(warning.starts_with("talktrack: cannot read the message of event 7 ("), "{warning}");
}

#[tokio::test]
async fn changes_that_are_no_longer_kept_are_reported() {
    let home = Home::new();
    import(&home, "first").await;
    import(&home, "second").await;
    // The first session and its message, as if 200,000 changes had come since.
    home.database().execute("DELETE FROM changes WHERE seq <= (SELECT seq FROM changes LIMIT 1 OFFSET 3)");
    for has_server in [false, true] {
        let server = if has_server { Some(home.serve(&[]).await) } else { None };
        let told = Tail::start(&home, &["--json", "--since-start"]).warning().await;
        assert!(told.contains("older changes are no longer kept"), "{told}");
        drop(server);
    }
}

#[tokio::test]
async fn with_postgresql_messages_are_shown_each_once_stored_or_not() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    let mut one = Client::new(&server).await;
    let mut other = Client::new(&server).await;
    one.say("before").await;
    arrives(&database, one.session, &["before"]).await;
    let mut tail = Tail::start(&home, &["--json", "--since-start", "--database-url", &database.url()]);
    assert_eq!(tail.next().await["content"], "before");
    for number in 0..20 {
        let speaker = if number % 2 == 0 { &mut one } else { &mut other };
        speaker.say(&number.to_string()).await;
        let row = tail.next().await;
        assert_eq!(
            (&row["content"], &row["session_id"]),
            (&json!(number.to_string()), &json!(speaker.session))
        );
    }
}

#[tokio::test]
async fn what_waits_for_postgresql_is_shown_without_a_server_too() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT c CHECK (content <> 'never')");
    let url = database.url();
    let server = home.serve_on(&url).await;
    let mut client = Client::new(&server).await;
    client.say("stored").await;
    arrives(&database, client.session, &["stored"]).await;
    database.psql("ALTER TABLE conversation_messages RENAME TO elsewhere");
    client.say("waiting").await;
    server.kill().await;
    database.psql("ALTER TABLE elsewhere RENAME TO conversation_messages");
    let rows = Tail::start(&home, &["--json", "--since-start", "--database-url", &url]).take(2).await;
    let contents: Vec<_> = rows.iter().map(|row| row["content"].as_str().unwrap()).collect();
    assert_eq!(contents, ["stored", "waiting"]);
}
