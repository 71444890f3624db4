//! The end of a server: what a stop waits for, and that only one server at a time uses a data directory.
//! `faults/stop.rs` tests every way to stop under load.

use std::time::Duration;

use futures_util::SinkExt as _;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::harness::{Client, Home, Output, acks_in, upgrade, user, within};

#[tokio::test]
async fn what_was_accepted_before_the_signal_is_answered_after_it() {
    let home = Home::new();
    let mut server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let disk = home.database().block();
    for number in 0..5 {
        client.send(user(&number.to_string(), number)).await;
    }
    client.lives().await;
    server.signal(Signal::SIGTERM);
    refuses_newcomers(&server).await;
    client.send(user("too late", "late")).await;
    drop(disk);
    let mut answered = Vec::new();
    let mut ended = None;
    loop {
        match client.next().await {
            Message::Text(text) => {
                let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
                match frame["type"].as_str() {
                    Some("ack") => answered.extend(acks_in(&frame).into_iter().map(|ack| ack.reference)),
                    _ => ended = Some(frame),
                }
            }
            Message::Close(_) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answered, [0, 1, 2, 3, 4].map(|number| json!(number)));
    if let Some(frame) = ended {
        assert_eq!((&frame["type"], &frame["message_count"]), (&json!("session.ended"), &json!(5)));
    }
    assert_eq!(server.ended().await, Some(0));
    assert_eq!(home.database().session(client.session).unwrap().end(), ("ended", Some("shutdown")));
    assert_eq!(home.database().contents(client.session), ["0", "1", "2", "3", "4"]);
    home.verify().await;
}

/// Asserts that a stopping server accepts no new connection: it does not answer, or answers 503.
async fn refuses_newcomers(server: &crate::harness::Server) {
    let refused = async {
        while TcpStream::connect(server.address).await.is_ok() {
            let (_, answer) =
                upgrade(server.address, &format!("/v1/ws?user_id={}", Uuid::new_v4()), &[]).await;
            if answer.status == 503 {
                return;
            }
        }
    };
    within("newcomers are refused", refused).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_hold_up_the_stop() {
    let home = Home::new();
    let mut server = home.serve(&[]).await;
    let mut deaf = Client::deaf(&server, Uuid::new_v4(), Uuid::new_v4()).await;
    let session = deaf.session;
    // Its long `ref`s make long acks, which fill all buffers until the server reads no more from this client.
    let mark = "m".repeat(250);
    let mut sent = 0_u32;
    let is_stuck = async |deaf: &mut Client, sent| {
        let frame = Message::text(user(&format!("{sent}"), mark.as_str()).to_string());
        tokio::time::timeout(Duration::from_millis(500), deaf.socket.send(frame)).await.is_err()
    };
    while !is_stuck(&mut deaf, sent).await {
        sent += 1;
    }
    server.signal(Signal::SIGTERM);
    assert_eq!(server.ended().await, Some(0));
    let row = home.database().session(session).unwrap();
    assert_eq!(row.status, "ended");
    assert!(row.message_count > 0, "{row:?}");
    home.verify().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_told_who_has_it() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let line = Output::of(home.server_command(&[])).await.failed(1);
    assert!(line.contains(&server.pid().to_string()), "{line}");
    assert!(line.contains(home.data_dir().to_str().unwrap()), "{line}");
    client.say("the first one does not care").await;
    let listen = std::fs::read_to_string(home.data_dir().join("listen")).unwrap();
    assert_eq!(listen.trim(), server.address.to_string(), "the second one leaves the first one's file alone");
}

#[tokio::test]
async fn after_a_kill_the_next_start_works_at_once() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("before").await;
    let session = client.session;
    let user = client.user;
    server.kill().await;
    let server = home.serve(&[]).await;
    let row = home.database().session(session).unwrap();
    assert_eq!((row.status.as_str(), row.message_count), ("abandoned", 1));
    assert!(row.ended_at.is_some() && row.duration_seconds.is_some());
    let mut client = Client::join(&server, session, user).await;
    assert_eq!(client.started["resumed"], true);
    client.say("after").await;
    assert_eq!(home.database().contents(session), ["before", "after"]);
    home.verify().await;
}

#[tokio::test]
async fn a_stopped_server_takes_its_listen_file_along() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    server.stop().await;
    assert!(!home.data_dir().join("listen").exists());
}
