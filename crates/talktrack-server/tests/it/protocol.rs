//! Connections that use the protocol correctly: they start a session, send messages and end it.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::harness::{Client, Home, text, until, user};

#[tokio::test]
async fn a_conversation_goes_from_the_socket_to_its_rows() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session_id = Uuid::new_v4();
    let user_id = Uuid::new_v4();
    let mut client = Client::join(&server, session_id, user_id).await;
    let started =
        json!({"type": "session.started", "session_id": session_id, "user_id": user_id, "resumed": false});
    assert_eq!(client.started, started);

    let hello = client.track(user("Hello 👋", "first")).await;
    let answer = client.track(text("assistant", "Good morning.\n\"Quoted\", too.")).await;
    let ended = client.end("completed").await;
    assert_eq!((&ended["session_id"], &ended["message_count"]), (&json!(session_id), &json!(2)));
    assert!(ended["duration_seconds"].as_f64().unwrap() >= 0.0, "{ended}");

    let database = home.database();
    let rows = database.messages(session_id);
    let said: Vec<_> =
        rows.iter().map(|row| (row.id.as_str(), row.role.as_str(), row.content.as_str())).collect();
    let hello = hello.to_string();
    let answer = answer.to_string();
    assert_eq!(
        said,
        [(&*hello, "user", "Hello 👋"), (&*answer, "assistant", "Good morning.\n\"Quoted\", too.")]
    );
    assert!(rows.iter().all(|row| row.user_id == Some(user_id.to_string())), "{rows:?}");
    let session = database.session(session_id).unwrap();
    assert_eq!((session.end(), session.message_count), (("ended", Some("completed")), 2));
    assert_eq!(session.user_id, user_id.to_string());
    assert_eq!(session.duration_seconds, ended["duration_seconds"].as_f64());
    home.verify().await;
}

#[tokio::test]
async fn a_ping_gets_a_pong_with_its_ref_and_so_does_a_websocket_ping() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for reference in [json!("any"), json!(7), json!(-1.5), json!("café \u{1F600}")] {
        client.send(json!({"type": "ping", "ref": reference})).await;
        assert_eq!(client.receive().await, json!({"type": "pong", "ref": reference}));
    }
    client.send(json!({"type": "ping"})).await;
    assert_eq!(client.receive().await, json!({"type": "pong"}));

    client.send_raw(Message::Ping("beat".into())).await;
    let answer = crate::harness::within("a pong", futures_util::StreamExt::next(&mut client.socket)).await;
    assert_eq!(answer.unwrap().unwrap(), Message::Pong("beat".into()));
}

#[tokio::test]
async fn an_update_is_merged_into_the_metadata_of_the_session() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for metadata in [json!({"channel": "phone", "try": 1}), json!({"try": 2, "deep": {"er": [1, null]}})] {
        client.send(json!({"type": "session.update", "metadata": metadata})).await;
    }
    client.say("so that the updates before it are durable too").await;
    let metadata = home.database().session(client.session).unwrap().metadata;
    assert_eq!(metadata, json!({"channel": "phone", "try": 2, "deep": {"er": [1, null]}}));
}

#[tokio::test]
async fn whoever_comes_back_goes_on_where_the_session_stood() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let session = client.session;
    let user = client.user;
    client.say("one").await;
    client.end("completed").await;
    client.close().await;

    let mut client = Client::join(&server, session, user).await;
    assert_eq!(client.started["resumed"], true);
    let database = home.database();
    let reopened = database.session(session).unwrap();
    assert_eq!((reopened.end(), &reopened.ended_at), (("active", None), &None));
    client.say("two").await;
    assert_eq!(client.end("completed").await["message_count"], 2);
    assert_eq!(database.contents(session), ["one", "two"]);

    server.stop().await;
    let server = home.serve(&[]).await;
    let mut client = Client::join(&server, session, user).await;
    assert_eq!(client.started["resumed"], true, "a restart does not make it another session");
    client.say("three").await;
    assert_eq!(client.end("completed").await["message_count"], 3);
}

#[tokio::test]
async fn a_session_can_be_named_by_the_caller_or_named_by_the_server() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let user = Uuid::new_v4();
    let named = format!("user_id={user}&external_id=call-7%2Fa");
    let first = Client::open(&server, &named).await.expect_started().await;
    let session = home.database().session(first.session).unwrap();
    assert_eq!((session.external_id.as_deref(), session.user_id), (Some("call-7/a"), user.to_string()));
    assert_eq!(first.session.get_version_num(), 5);

    let second = Client::open(&server, &named).await.expect_started().await;
    assert_eq!((second.session, &second.started["resumed"]), (first.session, &Value::Bool(true)));

    let minted = Client::open(&server, &format!("user_id={user}")).await.expect_started().await;
    let another = Client::open(&server, &format!("user_id={user}")).await.expect_started().await;
    assert_ne!(minted.session, another.session);
    assert_eq!((&minted.started["resumed"], minted.user), (&Value::Bool(false), user));
    assert!(home.database().session(minted.session).is_some());
}

#[tokio::test]
async fn messages_that_become_durable_together_share_an_ack_frame() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let disk = home.database().block();
    for number in 0..10 {
        client.send(user("while the disk hangs", number)).await;
    }
    // The server reads frames in order, so the pong proves that it has accepted all messages before the ping.
    client.lives().await;
    drop(disk);
    let mut frames = Vec::new();
    while frames.iter().map(Vec::len).sum::<usize>() < 10 {
        frames.push(client.ack_frame().await);
    }
    assert!(frames.len() < 10, "{frames:?}");
    let order: Vec<_> = frames.concat().into_iter().map(|ack| ack.reference).collect();
    assert_eq!(order, (0..10).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn nobody_need_wait_for_an_answer_before_the_next_frame() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::open(&server, &format!("user_id={}", Uuid::new_v4())).await;
    for number in 0..20 {
        client.send(user(&number.to_string(), number)).await;
    }
    client.send(json!({"type": "session.end", "ref": "end"})).await;
    client.send(user("late", 20)).await;
    let mut client = client.expect_started().await;
    let acks = client.acks(20).await;
    assert!(acks.iter().map(|ack| ack.reference.clone()).eq((0..20).map(Value::from)), "{acks:?}");
    let ended = client.expect("session.ended").await;
    assert_eq!((&ended["message_count"], &ended["ref"]), (&json!(20), &json!("end")));
    assert_eq!(client.ack_frame().await[0].reference, 20);
    let row = home.database().session(client.session).unwrap();
    assert_eq!((row.end(), row.message_count), (("ended", Some("completed")), 21));
}

#[tokio::test]
async fn a_disconnect_ends_the_session_whether_polite_or_not() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let database = home.database();
    let mut polite = Client::new(&server).await;
    polite.say("goodbye").await;
    let session = polite.session;
    polite.close().await;
    let row = database.ended(session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 1));

    let mut rude = Client::new(&server).await;
    rude.say("gone in mid-sen").await;
    let session = rude.session;
    drop(rude);
    let row = database.ended(session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 1));
    home.verify().await;
}

#[tokio::test]
async fn what_was_sent_just_before_a_disconnect_is_kept() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for number in 0..50 {
        client.send(user(&number.to_string(), number)).await;
    }
    let session = client.session;
    client.close().await;
    let database = home.database();
    database.ended(session).await;
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    until("all messages are there", || (database.contents(session) == expected).then_some(())).await;
    home.verify().await;
}

#[tokio::test]
async fn sessions_at_the_same_time_do_not_mix() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::new(&server).await);
    }
    for turn in 0..5 {
        for client in &mut clients {
            let content = format!("{turn} in {}", client.session);
            client.send(text("user", &content)).await;
        }
    }
    for client in &mut clients {
        client.acks(5).await;
        let expected: Vec<_> = (0..5).map(|turn| format!("{turn} in {}", client.session)).collect();
        assert_eq!(home.database().contents(client.session), expected);
    }
    home.verify().await;
}
