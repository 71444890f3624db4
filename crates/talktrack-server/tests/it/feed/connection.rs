//! Frames on a feed: each names its session, and an error touches one frame alone.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use super::{begin, open, say, says, start};
use crate::harness::remote::{arrives, has_status, migrated};
use crate::harness::{Client, Home, Server, upgrade};

/// Sends frames of many sessions without waiting for any answer, and returns the answers by type.
async fn sends_at_once(server: &Server, sessions: &[Uuid], user: Uuid) -> BTreeMap<String, Vec<Value>> {
    let mut feed = open(server).await;
    for session in sessions {
        feed.send(start(*session, user)).await;
    }
    for turn in ["one", "two", "three"] {
        for session in sessions {
            feed.send(say(session, turn)).await;
        }
    }
    let mut answers: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for session in sessions {
        let update = json!({"type": "session.update", "session_id": session, "metadata": {"room": 7}});
        feed.send(update).await;
        feed.send(json!({"type": "session.end", "session_id": session, "reason": "hangup", "ref": session}))
            .await;
    }
    while answers.get("session.ended").map_or(0, Vec::len) < sessions.len() {
        let frame = feed.receive().await;
        answers.entry(frame["type"].as_str().unwrap().to_owned()).or_default().push(frame);
    }
    feed.close().await;
    answers
}

fn check_answers(answers: &BTreeMap<String, Vec<Value>>, sessions: &[Uuid]) {
    let named = |kind: &str| -> Vec<Uuid> {
        answers[kind].iter().map(|frame| frame["session_id"].as_str().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["ack", "session.ended", "session.started"]);
    assert_eq!((named("session.started"), named("session.ended")), (sessions.to_vec(), sessions.to_vec()));
    for ended in &answers["session.ended"] {
        assert_eq!((&ended["ref"], &ended["message_count"]), (&ended["session_id"], &json!(3)), "{ended}");
    }
    let acks: Vec<&Value> =
        answers["ack"].iter().flat_map(|frame| frame["acks"].as_array().unwrap()).collect();
    let order = ["one", "two", "three"].map(|turn| sessions.iter().map(move |id| (json!(id), json!(turn))));
    let expected: Vec<_> = order.into_iter().flatten().collect();
    let told: Vec<_> = acks.iter().map(|ack| (ack["session_id"].clone(), ack["ref"].clone())).collect();
    assert_eq!(told, expected);
}

#[tokio::test]
async fn a_feed_carries_many_sessions_in_sqlite() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let sessions: Vec<Uuid> = (0..300).map(|_| Uuid::new_v4()).collect();
    check_answers(&sends_at_once(&server, &sessions, Uuid::new_v4()).await, &sessions);
    let database = home.database();
    for session in sessions {
        assert_eq!(database.contents(session), ["one", "two", "three"]);
        let row = database.session(session).unwrap();
        assert_eq!((row.end(), row.metadata["room"].as_i64()), (("ended", Some("hangup")), Some(7)));
    }
    drop(server);
    home.verify().await;
}

#[tokio::test]
async fn a_feed_carries_many_sessions_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    let home = Home::new();
    let server = home.serve_on(&database.url()).await;
    let sessions: Vec<Uuid> = (0..20).map(|_| Uuid::new_v4()).collect();
    check_answers(&sends_at_once(&server, &sessions, Uuid::new_v4()).await, &sessions);
    for session in sessions {
        arrives(&database, session, &["one", "two", "three"]).await;
        assert_eq!(has_status(&database, session, "ended").await["end_reason"], "hangup");
    }
}

/// A message with the `ref` 7 and these fields.
fn message(fields: &Value) -> Value {
    let mut frame = json!({"type": "message", "role": "user", "content": "x", "ref": 7});
    frame.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    frame
}

#[tokio::test]
async fn a_refusal_names_the_frame_and_the_session_and_touches_no_neighbour() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, user, absent) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let mut feed = open(&server).await;
    begin(&mut feed, session, user).await;
    let id = session.to_string();
    for (frame, code, named) in [
        (message(&json!({})), "invalid_message", Value::Null),
        (message(&json!({"session_id": "7"})), "invalid_message", Value::Null),
        (message(&json!({"session_id": "external:"})), "invalid_message", Value::Null),
        (message(&json!({"session_id": id, "role": "nobody"})), "invalid_message", json!(id)),
        (message(&json!({"session_id": id, "metadata": 7})), "invalid_message", json!(id)),
        (message(&json!({"session_id": id, "user_id": absent})), "invalid_message", json!(id)),
        (message(&json!({"session_id": absent})), "session_not_found", json!(absent)),
        (message(&json!({"session_id": "external:call 9"})), "session_not_found", json!("external:call 9")),
        (
            json!({"type": "session.update", "session_id": absent, "metadata": {}, "ref": 7}),
            "session_not_found",
            json!(absent),
        ),
        (json!({"type": "session.end", "session_id": absent, "ref": 7}), "session_not_found", json!(absent)),
        (
            json!({"type": "session.end", "session_id": id, "reason": "", "ref": 7}),
            "invalid_message",
            json!(id),
        ),
        (
            json!({"type": "session.start", "session_id": absent, "user_id": "", "ref": 7}),
            "invalid_message",
            json!(absent),
        ),
        (
            json!({"type": "session.start", "session_id": absent, "user_id": user, "colour": 1, "ref": 7}),
            "invalid_message",
            json!(absent),
        ),
        (
            json!({"type": "session.start", "session_id": id, "user_id": absent, "ref": 7}),
            "forbidden",
            json!(id),
        ),
        (json!({"type": "nonsense", "session_id": id, "ref": 7}), "invalid_message", json!(id)),
    ] {
        feed.send(frame.clone()).await;
        let error = feed.expect("error").await;
        assert_eq!((&error["code"], &error["ref"]), (&json!(code), &json!(7)), "{frame}: {error}");
        assert_eq!(error["session_id"], named, "{frame}: {error}");
        says(&mut feed, session, "still here").await;
    }
    let broken = format!(r#"{{"type":"message","session_id":"{id}","ref":7,"content":"#);
    feed.send_raw(tokio_tungstenite::tungstenite::Message::text(broken)).await;
    let error = feed.expect("error").await;
    assert_eq!(
        (&error["code"], &error["ref"], &error["session_id"]),
        (&json!("invalid_json"), &json!(7), &json!(id))
    );
    feed.lives().await;
    assert_eq!(home.database().count("SELECT count(*) FROM conversation_sessions", &[]), 1);
}

#[tokio::test]
async fn a_repeated_start_changes_nothing_and_says_so() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let (session, user) = (Uuid::new_v4(), Uuid::new_v4());
    let mut feed = open(&server).await;
    let mut first = start(session, user);
    first["metadata"] = json!({"room": 7});
    // The second start arrives before the first is durable.
    feed.send(first.clone()).await;
    feed.send(first.clone()).await;
    assert_eq!(feed.expect("session.started").await.get("repeated"), None);
    assert_eq!(feed.expect("session.started").await["repeated"], true);
    feed.send(json!({"type": "session.end", "session_id": session, "reason": "hangup"})).await;
    feed.expect("session.ended").await;
    first["metadata"] = json!({"room": 8});
    feed.send(first.clone()).await;
    let repeated = feed.expect("session.started").await;
    assert_eq!(
        (&repeated["repeated"], &repeated["warnings"]),
        (&json!(true), &json!(["metadata.room: the session has another value"]))
    );
    assert_eq!(home.database().session(session).unwrap().end(), ("ended", Some("hangup")));
    says(&mut feed, session, "late").await;
    first["resume"] = json!(true);
    feed.send(first).await;
    let resumed = feed.expect("session.started").await;
    assert_eq!((&resumed["resumed"], resumed.get("repeated")), (&json!(true), None));
    assert_eq!(home.database().session(session).unwrap().status, "active");
}

#[tokio::test]
async fn a_session_may_be_named_by_the_callers_own_name() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let user = Uuid::new_v4();
    let mut feed = open(&server).await;
    for frame in [
        json!({"type": "session.start", "external_id": "call 7", "user_id": user}),
        json!({"type": "session.start", "session_id": "external:call 8", "user_id": user}),
        say("external:call 7", "seven"),
        say("external:call 8", "eight"),
        json!({"type": "session.end", "session_id": "external:call 7"}),
    ] {
        feed.send(frame).await;
    }
    let seven = feed.expect("session.started").await["session_id"].clone();
    let eight = feed.expect("session.started").await["session_id"].clone();
    assert_eq!(feed.acks(2).await.len(), 2);
    assert_eq!(feed.expect("session.ended").await["session_id"], seven);
    let database = home.database();
    for (id, name, said) in [(seven, "call 7", "seven"), (eight, "call 8", "eight")] {
        let id: Uuid = id.as_str().unwrap().parse().unwrap();
        assert_eq!(database.contents(id), [said]);
        assert_eq!(database.session(id).unwrap().external_id.as_deref(), Some(name));
        let path = format!("/v1/sessions/external:{}", name.replace(' ', "%20"));
        assert_eq!(server.get(&path).await.json()["session_id"], json!(id));
    }
}

#[tokio::test]
async fn a_feed_writes_into_sessions_that_it_did_not_start_and_leaves_them_open() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut socket = Client::new(&server).await;
    let mut feed = open(&server).await;
    says(&mut feed, socket.session, "from the feed").await;
    feed.close().await;
    socket.say("from the socket").await;
    assert_eq!(home.database().contents(socket.session), ["from the feed", "from the socket"]);
    assert_eq!(home.database().session(socket.session).unwrap().status, "active");
}

#[tokio::test]
async fn the_request_for_a_feed_names_no_session() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for query in [
        format!("feed=true&session_id={}", Uuid::nil()),
        format!("feed=true&user_id={}", Uuid::nil()),
        "feed=true&external_id=call".to_owned(),
        "feed=yes".to_owned(),
    ] {
        let (_, answer) = upgrade(server.address, &format!("/v1/ws?{query}"), &[]).await;
        answer.problem(400, "invalid_message");
    }
    let query = format!("feed=false&user_id={}", Uuid::new_v4());
    Client::open(&server, &query).await.expect_started().await;
}

#[tokio::test]
async fn a_feed_has_at_most_ten_thousand_open_sessions() {
    let home = Home::new();
    let server = home.serve(&["--queue-capacity", "20000"]).await;
    let user = Uuid::new_v4();
    let first = Uuid::new_v4();
    let mut feed = open(&server).await;
    begin(&mut feed, first, user).await;
    for _ in 0..99 {
        let sessions: Vec<Uuid> = (0..101).map(|_| Uuid::new_v4()).collect();
        for session in &sessions {
            feed.send(start(*session, user)).await;
        }
        for _ in &sessions {
            feed.expect("session.started").await;
        }
    }
    let one_more = Uuid::new_v4();
    feed.send(start(one_more, user)).await;
    let why = feed.refused("rate_limited", format!("start {one_more}")).await;
    assert!(why.contains("10000"), "{why}");
    // Another program ends one of them, which makes room.
    let path = format!("/v1/sessions/{first}/end");
    assert_eq!(server.request("POST", path).json(&json!({})).send().await.status, 202);
    begin(&mut feed, one_more, user).await;
}
