//! Connections with unusual behaviour: two on one session, other users, silent and slow clients, and clients that never
//! read.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use crate::harness::{Client, Home, upgrade, user, within};

#[tokio::test]
async fn two_connections_of_one_session_both_write_and_the_last_one_ends_it() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut first = Client::new(&server).await;
    let session = first.session;
    let user = first.user;
    let mut second = Client::join(&server, session, user).await;
    assert_eq!(second.started["resumed"], true);
    first.say("one").await;
    second.say("two").await;
    first.close().await;
    second.say("three").await;
    let database = home.database();
    assert_eq!(database.session(session).unwrap().end(), ("active", None));
    second.close().await;
    let row = database.ended(session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 3));
    assert_eq!(database.contents(session), ["one", "two", "three"]);
    home.verify().await;
}

#[tokio::test]
async fn a_connection_left_over_from_before_the_end_does_not_end_the_resumed_session() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut first = Client::new(&server).await;
    let session = first.session;
    let user = first.user;
    let leftover = Client::join(&server, session, user).await;
    first.end("completed").await;
    first.close().await;
    let mut resumed = Client::join(&server, session, user).await;
    leftover.close().await;
    resumed.say("I go on").await;
    assert_eq!(home.database().session(session).unwrap().end(), ("active", None));
    resumed.close().await;
    assert_eq!(home.database().ended(session).await.end(), ("ended", Some("disconnect")));
}

#[tokio::test]
async fn another_users_connection_to_a_session_is_shown_the_door() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut owner = Client::new(&server).await;
    owner.say("mine").await;
    let session = owner.session;
    let stranger = Uuid::new_v4();
    let query = format!("session_id={session}&user_id={stranger}");
    let knock = async |what: &str| {
        let mut client = Client::open(&server, &query).await;
        let said = client.refused("forbidden", Value::Null).await;
        assert!(!said.contains(&owner.user.to_string()), "whose it is, is nobody's business: {said}");
        assert_eq!(client.closed().await, Some(CloseCode::Policy), "{what}");
    };
    knock("while the session is in memory").await;
    owner.say("still mine").await;
    assert_eq!(home.database().session(session).unwrap().end(), ("active", None));
    server.stop().await;

    let server = home.serve(&[]).await;
    let mut client = Client::open(&server, &query).await;
    client.refused("forbidden", Value::Null).await;
    assert_eq!(client.closed().await, Some(CloseCode::Policy), "only the store knows whose it is");
    let mut owner = Client::join(&server, session, owner.user).await;
    owner.say("and again").await;
    assert_eq!(home.database().contents(session), ["mine", "still mine", "and again"]);
    home.verify().await;
}

#[tokio::test]
async fn a_stranger_who_knocks_first_after_a_restart_does_not_keep_the_owner_out() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut owner = Client::new(&server).await;
    owner.say("mine").await;
    let session = owner.session;
    let user = owner.user;
    server.stop().await;
    let server = home.serve(&[]).await;
    // After the restart, only the store knows the owner of the session, and the store cannot be read yet.
    let disk = home.database().block();
    let mut stranger =
        Client::open(&server, &format!("session_id={session}&user_id={}", Uuid::new_v4())).await;
    let owner = Client::open(&server, &format!("session_id={session}&user_id={user}")).await;
    drop(disk);
    stranger.refused("forbidden", Value::Null).await;
    let mut owner = owner.expect_started().await;
    owner.say("still mine").await;
    let rows = home.database().messages(session);
    let said: Vec<_> = rows.iter().map(|row| (row.content.as_str(), row.user_id.clone())).collect();
    assert_eq!(said, [("mine", Some(user.to_string())), ("still mine", Some(user.to_string()))]);
    owner.close().await;
    let row = home.database().ended(session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 2));
    assert!(!server.log().contains("not found in state"), "the stranger's leaving is not the owner's");
    home.verify().await;
}

#[tokio::test]
async fn a_silent_client_that_answers_pings_stays_and_one_that_does_not_is_gone() {
    let home = Home::new();
    let flags = ["--ping-interval", "100ms", "--peer-timeout", "600ms", "--idle-timeout", "2500ms"];
    let server = home.serve(&flags).await;
    let database = home.database();
    let mut quiet = Client::new(&server).await;

    let dead = Uuid::new_v4();
    let path = format!("/v1/ws?session_id={dead}&user_id={}", Uuid::new_v4());
    let (mut stream, answer) = upgrade(server.address, &path, &[]).await;
    assert_eq!(answer.status, 101);

    // The client library answers pings while the test reads. Thirty pings take longer than either timeout.
    let mut pings = 0;
    while pings < 30 {
        if let Message::Ping(_) = within("a ping", quiet.socket.next()).await.unwrap().unwrap() {
            pings += 1;
        }
    }
    let row = database.ended(dead).await;
    assert_eq!(row.end(), ("ended", Some("disconnect")));
    let mut rest = Vec::new();
    // A reset is an acceptable end too.
    let _ = within("the dead client's connection ends", stream.read_to_end(&mut rest)).await;
    assert_eq!(database.session(quiet.session).unwrap().end(), ("active", None));
    quiet.say("I was listening").await;
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_keep_its_connection() {
    let home = Home::new();
    let server = home.serve(&["--ping-interval", "100ms", "--peer-timeout", "600ms"]).await;
    let mut streams = Vec::new();
    for beginning in ["", "GET /v1/ws?user", "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    Client::new(&server).await.say("others are served meanwhile").await;
    for mut stream in streams {
        let mut rest = Vec::new();
        let _ = within("the server hangs up", stream.read_to_end(&mut rest)).await;
    }
    Client::new(&server).await.say("and afterwards").await;
}

#[tokio::test]
async fn a_client_that_stops_reading_its_acks_is_cut_off_and_hurts_nobody() {
    let home = Home::new();
    let server = home.serve(&["--ping-interval", "200ms", "--peer-timeout", "1s"]).await;
    let mut witness = Client::new(&server).await;
    let session = Uuid::new_v4();
    let deaf = Client::deaf(&server, session, Uuid::new_v4()).await;

    // A long `ref` makes a long ack, and nothing reads the acks.
    let (mut sink, stream) = deaf.socket.split();
    let mark = "m".repeat(250);
    let flood = async {
        for number in 0_u32.. {
            let frame = user(&number.to_string(), mark.as_str());
            if sink.send(Message::text(frame.to_string())).await.is_err() {
                return;
            }
        }
    };
    let others = async {
        loop {
            witness.say("never disturbed").await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = within("the deaf client is cut off", flood) => {}
        () = others => unreachable!(),
    }
    drop(stream);
    let row = home.database().ended(session).await;
    assert_eq!(row.end(), ("ended", Some("disconnect")));
    let contents = home.database().contents(session);
    assert_eq!(i64::try_from(contents.len()).unwrap(), row.message_count);
    let expected: Vec<_> = (0..contents.len()).map(|number| number.to_string()).collect();
    assert_eq!(contents, expected, "what was taken is there, without a gap");
    assert!(server.resident_kib() < 64 * 1024, "{} KiB", server.resident_kib());
    home.verify().await;
}

#[tokio::test]
async fn half_a_frame_and_then_nothing_is_a_disconnect() {
    let home = Home::new();
    let server = home.serve(&["--ping-interval", "100ms", "--peer-timeout", "600ms"]).await;
    let session = Uuid::new_v4();
    let path = format!("/v1/ws?session_id={session}&user_id={}", Uuid::new_v4());
    let (mut stream, _) = upgrade(server.address, &path, &[]).await;
    // The header of a masked text frame of 100 bytes, its mask, and three of the bytes.
    stream.write_all(&[0x81, 0x80 | 100, 1, 2, 3, 4, b'a', b'b', b'c']).await.unwrap();
    let row = home.database().ended(session).await;
    assert_eq!((row.end(), row.message_count), (("ended", Some("disconnect")), 0));
}
