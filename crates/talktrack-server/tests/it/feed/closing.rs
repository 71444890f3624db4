//! What becomes of the sessions of a feed when the feed ends.

use std::time::Duration;

use serde_json::json;
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack_testbed::Postgres;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::{begin, open, say, says, start};
use crate::harness::remote::{has_status, migrated};
use crate::harness::{Client, Home, Server};

#[tokio::test]
async fn a_feed_that_ends_ends_its_sessions_whether_polite_or_not() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let user = Uuid::new_v4();
    for is_polite in [true, false] {
        let [spoken, ended] = [Uuid::new_v4(), Uuid::new_v4()];
        let mut feed = open(&server).await;
        begin(&mut feed, spoken, user).await;
        begin(&mut feed, ended, user).await;
        says(&mut feed, spoken, "Hello").await;
        feed.send(json!({"type": "session.end", "session_id": ended, "reason": "hangup"})).await;
        feed.expect("session.ended").await;
        if is_polite {
            feed.close().await;
        } else {
            drop(feed);
        }
        let row = home.database().ended(spoken).await;
        assert_eq!(row.end(), ("ended", Some("disconnect")));
        assert_eq!(home.database().session(ended).unwrap().end(), ("ended", Some("hangup")));
    }
}

#[tokio::test]
async fn a_session_of_which_a_feed_says_nothing_ends_at_its_last_event() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let [past, silent] = [Uuid::new_v4(), Uuid::new_v4()];
    let user = Uuid::new_v4();
    let mut feed = open(&server).await;
    let mut frame = start(past, user);
    frame["started_at"] = json!("2026-11-20T08:00:00Z");
    feed.send(frame).await;
    feed.expect("session.started").await;
    let mut frame = say(past, "days ago");
    frame["created_at"] = json!("2026-11-20T08:00:09Z");
    feed.send(frame).await;
    feed.acks(1).await;
    begin(&mut feed, silent, user).await;
    goes_on_after_the_start(&mut feed, silent, &home).await;
    let before = home.database().session(silent).unwrap();
    feed.close().await;
    let row = home.database().ended(past).await;
    assert_eq!(row.end(), ("ended", Some("disconnect")));
    assert_eq!(
        (row.ended_at.as_deref(), row.duration_seconds),
        (Some("2026-11-20T08:00:09.000000Z"), Some(9.0))
    );
    let row = home.database().ended(silent).await;
    assert_eq!((row.ended_at, row.duration_seconds), (Some(before.started_at), Some(0.0)));
}

/// Uses the feed until the session's start lies in the past.
async fn goes_on_after_the_start(feed: &mut Client, session: Uuid, home: &Home) {
    let started_at: Timestamp = home.database().session(session).unwrap().started_at.parse().unwrap();
    while SystemClock.now() <= started_at.plus(Duration::from_millis(5)) {
        feed.lives().await;
    }
}

/// A feed dies and its client comes back.
async fn comes_back(server: &Server, session: Uuid, user: Uuid) -> Client {
    let mut feed = open(server).await;
    begin(&mut feed, session, user).await;
    says(&mut feed, session, "before").await;
    drop(feed);
    let mut feed = open(server).await;
    let mut resume = start(session, user);
    resume["resume"] = json!(true);
    feed.send(resume).await;
    assert_eq!(feed.expect("session.started").await["resumed"], true);
    feed
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_sessions_in_sqlite() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    let mut feed = comes_back(&server, session, user).await;
    says(&mut feed, session, "after").await;
    assert_eq!(home.database().session(session).unwrap().status, "active");
    feed.close().await;
    assert_eq!(home.database().ended(session).await.end(), ("ended", Some("disconnect")));
    assert_eq!(home.database().contents(session), ["before", "after"]);
}

#[tokio::test]
async fn a_client_that_comes_back_resumes_its_sessions_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    let mut feed = comes_back(&server, session, user).await;
    says(&mut feed, session, "after").await;
    has_status(&database, session, "active").await;
    feed.close().await;
    let row = has_status(&database, session, "ended").await;
    assert_eq!((&row["end_reason"], &row["end_inferred"]), (&json!("disconnect"), &json!(true)));
}

#[tokio::test]
async fn a_session_that_another_connection_has_joined_stays_open() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let [joined, resumed, own] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    let user = Uuid::new_v4();
    let mut feed = open(&server).await;
    for session in [joined, resumed, own] {
        begin(&mut feed, session, user).await;
        says(&mut feed, session, "Hello").await;
    }
    let mut socket = Client::join(&server, joined, user).await;
    let mut other = open(&server).await;
    let mut resume = start(resumed, user);
    resume["resume"] = json!(true);
    other.send(resume.clone()).await;
    other.expect("session.started").await;
    // Resuming it again adds no connection.
    other.send(resume).await;
    other.expect("session.started").await;
    feed.close().await;
    home.database().ended(own).await;
    socket.say("still here").await;
    says(&mut other, resumed, "still here").await;
    for session in [joined, resumed] {
        assert_eq!(home.database().session(session).unwrap().status, "active", "{session}");
    }
    other.close().await;
    home.database().ended(resumed).await;
}

#[tokio::test]
async fn a_shutdown_answers_everything_and_ends_the_sessions() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    let mut feed = open(&server).await;
    begin(&mut feed, session, user).await;
    says(&mut feed, session, "Hello").await;
    let stopping = tokio::spawn(server.stop());
    let ended = feed.expect("session.ended").await;
    assert_eq!((&ended["session_id"], &ended["message_count"]), (&json!(session), &json!(1)));
    assert_eq!(feed.closed().await, Some(CloseCode::Away));
    stopping.await.unwrap();
    assert_eq!(home.database().session(session).unwrap().end(), ("ended", Some("shutdown")));
}

#[tokio::test]
async fn what_a_feed_acknowledged_survives_the_death_of_the_server() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let sessions: Vec<Uuid> = (0..50).map(|_| Uuid::new_v4()).collect();
    let mut feed = open(&server).await;
    for session in &sessions {
        feed.send(start(*session, Uuid::new_v4())).await;
        feed.send(say(session, "Hello")).await;
    }
    let mut acked = 0;
    while acked < sessions.len() {
        let frame = feed.receive().await;
        acked += frame["acks"].as_array().map_or(0, Vec::len);
    }
    server.kill().await;
    drop(feed);
    let server = home.serve(&[]).await;
    for session in sessions {
        let row = home.database().session(session).unwrap();
        assert_eq!((row.status.as_str(), row.message_count), ("abandoned", 1));
    }
    drop(server);
    home.verify().await;
}
