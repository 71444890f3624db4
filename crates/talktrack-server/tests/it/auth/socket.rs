//! Authentication on the socket: how browsers send a token, whose session a connection may join, which pages may
//! connect, and what happens when a token expires.

use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

use super::{SECRET, SigningKey, claims, new_key, serve_with};
use crate::harness::{Client, Home, Output, Server, upgrade};

fn token_of(user: Uuid) -> String {
    SigningKey::secret(SECRET).token(&claims(user))
}

async fn serve(home: &Home) -> Server {
    serve_with(home, &[("SUPABASE_JWT_SECRET", SECRET)]).await
}

#[tokio::test]
async fn a_browser_brings_its_token_among_the_subprotocols_and_does_not_get_it_back() {
    let home = Home::new();
    let server = serve(&home).await;
    let token = token_of(Uuid::new_v4());
    let protocols = format!("talktrack, bearer.{token}");
    let (_, answer) = upgrade(server.address, "/v1/ws", &[("Sec-WebSocket-Protocol", &protocols)]).await;
    assert_eq!(
        (answer.status, answer.header("sec-websocket-protocol")),
        (101, Some("talktrack")),
        "{answer:?}"
    );
    assert!(!answer.head.contains(&token));
    let wrong = format!("talktrack, bearer.{token}x");
    let (_, answer) = upgrade(server.address, "/v1/ws", &[("Sec-WebSocket-Protocol", &wrong)]).await;
    answer.problem(401, "unauthorized");
    let (_, answer) = upgrade(server.address, "/v1/ws", &[("Sec-WebSocket-Protocol", "talktrack")]).await;
    answer.problem(401, "unauthorized");
    let path = format!("/v1/ws?token={token}&access_token={token}");
    upgrade(server.address, &path, &[]).await.1.problem(401, "unauthorized");
    assert!(!server.log().contains(&token));
}

#[tokio::test]
async fn a_session_of_another_user_is_refused_and_stays_as_it_is() {
    let home = Home::new();
    let server = serve(&home).await;
    let owner = Uuid::new_v4();
    let thief = Uuid::new_v4();
    let mut client = Client::come_with(&server, "", &token_of(owner)).await.expect_started().await;
    let session = client.session;
    client.say("mine").await;
    let knock = async |session: Uuid| {
        let authorization = format!("Bearer {}", token_of(thief));
        let path = format!("/v1/ws?session_id={session}");
        let (_, answer) = upgrade(server.address, &path, &[("Authorization", &authorization)]).await;
        answer.problem(404, "session_not_found").to_owned()
    };
    assert_eq!(knock(session).await, knock(Uuid::new_v4()).await, "absent or another's, it is all the same");
    client.say("still mine").await;
    assert_eq!(home.database().contents(session), ["mine", "still mine"]);
}

#[tokio::test]
async fn pages_of_allowed_origins_may_connect_and_need_a_token_like_anybody() {
    let home = Home::new();
    let environment = [
        ("SUPABASE_JWT_SECRET", SECRET),
        ("TALKTRACK_ALLOWED_ORIGINS", "https://app.example.com, http://x:1"),
    ];
    let server = serve_with(&home, &environment).await;
    let authorization = format!("Bearer {}", token_of(Uuid::new_v4()));
    for (origin, status) in [
        ("https://app.example.com", 101),
        ("http://x:1", 101),
        ("http://localhost:3000", 101),
        ("https://evil.example", 403),
        ("https://app.example.com.evil.example", 403),
        ("null", 403),
    ] {
        let headers = [("Origin", origin), ("Authorization", &*authorization)];
        let (_, answer) = upgrade(server.address, "/v1/ws", &headers).await;
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
        let (_, answer) = upgrade(server.address, "/v1/ws", &[("Origin", origin)]).await;
        answer.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn the_client_brings_the_token_it_is_given_and_shows_it_nowhere() {
    let home = Home::new();
    let key = new_key(&home, "agent", "write").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("SUPABASE_JWT_SECRET", SECRET)];
    let server = serve_with(&home, &environment).await;
    let user = Uuid::new_v4();
    let session = Uuid::new_v4();
    let lines = [
        json!({"type": "session.start", "session_id": session, "user_id": user}),
        json!({"type": "message", "session_id": session, "role": "user", "content": "replayed", "external_id": "1"}),
    ];
    let file = home.write("talk.jsonl", lines.map(|line| line.to_string()).join("\n"));
    let url = format!("ws://{}", server.address);
    let replay = ["client", "--url", &url, "--file", &file];

    let refused = home.run(&replay).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no token: "), "{refused:?}");
    home.run(&[&replay[..], &["--token", &key.key]].concat()).await.succeeded();
    let mut command = home.command(&replay);
    command.env("TALKTRACK_TOKEN", token_of(user));
    Output::of(command).await.succeeded();
    let wrong = home.run(&[&replay[..], &["--token", "tt_hunter2"]].concat()).await;
    assert!(wrong.code == Some(1) && !format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
    let help = home.command(&["client", "--help"]);
    assert!(Output::of(help).await.succeeded().stdout.contains("TALKTRACK_TOKEN"));
}

#[tokio::test]
async fn the_terminal_client_talks_as_the_user_of_its_token() {
    let home = Home::new();
    let server = serve(&home).await;
    let mut command = home.command(&["client", "--url", &format!("ws://{}", server.address)]);
    command.env("TALKTRACK_TOKEN", token_of(Uuid::new_v4())).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = command.spawn().unwrap();
    client.stdin.take().unwrap().write_all(b"hello\n").await.unwrap();
    let output = client.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(home.database().count("SELECT count(*) FROM conversation_messages", &[]), 1);
}
