//! Connections that outlast the token or key that opened them: the server warns a minute before the expiry, accepts a
//! new token of the same user, and closes the connection when the old token has expired.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::signing::now;
use super::{Publisher, SECRET, SigningKey, admits, claims, serve_for, serve_with};
use crate::audio::{Upload, wav};
use crate::faults::clock::Calendar;
use crate::harness::{Client, Home, Listener, Server, text, until_told, within};

/// Makes a token of this user that is accepted for `seconds` more. The server allows clocks to differ by 30 s.
fn token_for(user: Uuid, seconds: u64) -> String {
    let mut claims = claims(user);
    claims["exp"] = (now() - 30 + seconds).into();
    SigningKey::secret(SECRET).token(&claims)
}

async fn serve(home: &Home) -> Server {
    serve_with(home, &[("SUPABASE_JWT_SECRET", SECRET)]).await
}

async fn expired(server: &Server, token: &str) {
    let told = async || (server.get_with("/v1/sessions", token).await.status == 401).then_some(());
    until_told("the token expires", told).await;
}

/// Counts the files in this folder and its subfolders.
fn files_in(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files_in(&path) } else { 1 }).sum()
}

/// Asserts that the server sends the reason and closes the connection.
async fn is_closed_for_want_of_a_token(client: &mut Client) {
    let why = client.refused("unauthorized", Value::Null).await;
    assert!(why.contains("expired") || why.contains("revoked") || why.contains("key"), "{why}");
    assert_eq!(client.closed().await, Some(CloseCode::Policy));
}

#[tokio::test]
async fn a_socket_is_told_that_its_token_expires_and_closes_after_everything_owed_is_answered() {
    let home = Home::new();
    let server = serve(&home).await;
    let token = token_for(Uuid::new_v4(), 8);
    let mut client = Client::come_with(&server, "", &token).await.expect_started().await;
    let told = client.expect("token.expiring").await;
    let expires: talktrack::Timestamp = told["expires_at"].as_str().unwrap().parse().unwrap();
    assert!(expires.as_micros() / 1_000_000 <= i64::try_from(now()).unwrap(), "{told}");
    client.say("before").await;

    // The disk hangs when the token expires: the server must still acknowledge the message before it closes the
    // connection.
    let lock = home.database().block();
    client.send(text("user", "at the last moment")).await;
    expired(&server, &token).await;
    drop(lock);
    assert_eq!(client.ack_frame().await.len(), 1);
    is_closed_for_want_of_a_token(&mut client).await;
    assert_eq!(home.database().contents(client.session), ["before", "at the last moment"]);
}

#[tokio::test]
async fn a_socket_goes_on_with_a_new_token_of_the_same_user_and_with_no_other() {
    let home = Home::new();
    let server = serve(&home).await;
    let anna = Uuid::new_v4();
    let ben = Uuid::new_v4();
    let old = token_for(anna, 10);
    let open = async || Client::come_with(&server, "", &old).await.expect_started().await;
    let mut renewed = open().await;
    let mut stuck = open().await;
    for client in [&mut renewed, &mut stuck] {
        client.expect("token.expiring").await;
        for (number, token) in [
            (1, token_for(ben, 3_600)),
            (2, format!("{}x", token_for(anna, 3_600))),
            (3, "tt_hunter2".into()),
            (4, token_for(anna, 0)),
            (5, String::new()),
        ] {
            client.send(json!({"type": "auth", "token": token, "ref": number})).await;
            let why = client.refused("unauthorized", number).await;
            assert!(!why.contains("hunter2"), "{why}");
        }
        client.send(json!({"type": "auth", "token": 7, "ref": 6})).await;
        client.refused("invalid_message", 6).await;
        client.say("the connection is as it was").await;
    }
    renewed.send(json!({"type": "auth", "token": token_for(anna, 3_600), "ref": 7})).await;
    renewed.lives().await;
    is_closed_for_want_of_a_token(&mut stuck).await;
    expired(&server, &old).await;
    renewed.say("the call goes on").await;
    assert!(!server.log().contains(&old), "no token gets into the log");
}

#[tokio::test]
async fn an_event_stream_ends_when_its_token_has_expired() {
    let home = Home::new();
    let server = serve(&home).await;
    let token = token_for(Uuid::new_v4(), 7);
    let mut listener = Listener::with(&server, "", &format!("Authorization: Bearer {token}\r\n")).await;
    let closing = listener.expect("closing").await;
    assert_eq!(closing.data["code"], "unauthorized", "{closing:?}");
    assert_eq!(listener.next().await, None);
    expired(&server, &token).await;
}

#[tokio::test]
async fn connections_end_when_the_project_takes_the_key_back_that_signed_their_token() {
    let home = Home::new();
    let first = SigningKey::ecdsa("first");
    let second = SigningKey::ecdsa("second");
    let project = Publisher::of(&[&first]).await;
    let server = serve_for(&home, &project).await;
    admits(&server, &project.token(&first)).await;
    let token = project.token(&first);
    let mut client = Client::come_with(&server, "", &token).await.expect_started().await;
    // A token with an unknown key makes the server fetch the keys again; the new set no longer contains the first key.
    project.publishes(&[&second]);
    admits(&server, &project.token(&second)).await;
    client.refused("unauthorized", Value::Null).await;
    assert_eq!(client.closed().await, Some(CloseCode::Policy));
}

#[tokio::test]
async fn a_key_that_expires_ends_its_connections_and_they_are_told_before() {
    let home = Home::new();
    let made = ["keys", "new", "--name", "short", "--scopes", "read,write", "--expires", "12s", "--json"];
    let made = home.run(&made).await.succeeded().json();
    let key = made["key"].as_str().unwrap();
    let entry = made["api_keys"].as_str().unwrap();
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", entry)]).await;
    let query = format!("user_id={}", Uuid::new_v4());
    let mut client = Client::come_with(&server, &query, key).await.expect_started().await;
    let mut listener = Listener::with(&server, "", &format!("Authorization: Bearer {key}\r\n")).await;
    client.expect("token.expiring").await;
    client.say("in time").await;
    is_closed_for_want_of_a_token(&mut client).await;
    let closing = loop {
        let told = listener.next().await.expect("the stream says why it ends");
        if told.name == "closing" {
            break told;
        }
    };
    assert_eq!(closing.data["code"], "unauthorized");
    let why = server.get_with("/v1/sessions", key).await.problem(401, "unauthorized");
    assert_eq!(why, "the API key has expired");
}

#[tokio::test]
async fn a_recording_whose_upload_outlives_its_token_is_refused_and_not_kept() {
    let home = Home::new();
    let server = serve(&home).await;
    let user = Uuid::new_v4();
    let session =
        Client::come_with(&server, "", &token_for(user, 3_600)).await.expect_started().await.session;
    let short = token_for(user, 7);
    let recording = wav(100);
    let head = format!(
        "POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: audio/wav\r\nAuthorization: Bearer {short}\r\n\
         Content-Length: {}\r\n",
        recording.len()
    );
    let mut upload = Upload::begin(server.address, &head).await;
    let (begin, rest) = recording.split_at(recording.len() / 2);
    upload.send(begin).await;
    expired(&server, &short).await;
    upload.send(rest).await;
    assert_eq!(upload.answer().await.problem(401), "unauthorized");
    assert_eq!(files_in(&home.data_dir().join("audio")), 0);
}

/// The server waits by the monotonic clock and checks the calendar at intervals, so that it notices a jump of the
/// calendar.
#[tokio::test]
async fn a_calendar_that_leaps_past_the_expiry_of_a_token_ends_its_connections() {
    let home = Home::new();
    let Some(calendar) = Calendar::in_home(&home) else { return };
    let mut command = calendar.on(home.server_command(&[]));
    command.env("SUPABASE_JWT_SECRET", SECRET);
    let server = Server::start(&home, command).await;
    let token = token_for(Uuid::new_v4(), 3_630);
    let mut client = Client::come_with(&server, "", &token).await.expect_started().await;
    let mut listener = Listener::with(&server, "", &format!("Authorization: Bearer {token}\r\n")).await;
    client.lives().await;
    let began = Instant::now();
    calendar.put(2 * 60 * 60);
    is_closed_for_want_of_a_token(&mut client).await;
    assert_eq!(listener.expect("closing").await.data["code"], "unauthorized");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_terminal_client_says_that_its_token_expires() {
    let home = Home::new();
    let server = serve(&home).await;
    let mut command = home.command(&["client", "--url", &format!("ws://{}", server.address)]);
    command.env("TALKTRACK_TOKEN", token_for(Uuid::new_v4(), 20));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    let mut typed = client.stdin.take().unwrap();
    typed.write_all(b"hello\n").await.unwrap();
    let mut shown = BufReader::new(client.stdout.take().unwrap()).lines();
    let warned = async {
        while let Some(line) = shown.next_line().await.unwrap() {
            if line.contains("the token expires at ") {
                return true;
            }
        }
        false
    };
    assert!(within("a warning", warned).await, "the client ended without a word about its token");
    // Only now does its input end: a client that ends first is told nothing.
    drop(typed);
    while within("the end of the output", shown.next_line()).await.unwrap().is_some() {}
    assert!(within("the end of the client", client.wait()).await.unwrap().success());
}
