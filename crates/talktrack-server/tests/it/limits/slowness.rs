//! Limits on slow clients, for sending and for reading, and on the time that a response may take.

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::sent;
use crate::audio::{exchange, wav};
use crate::harness::{Client, Home, Server, until_told};

const HURRY: [&str; 4] = ["--ping-interval", "200ms", "--peer-timeout", "500ms"];

#[tokio::test]
async fn a_body_that_stops_coming_is_not_waited_for() {
    let home = Home::new();
    let server = home.serve(&HURRY).await;
    let head = "POST /v1/sessions HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
    let mut upload = crate::audio::Upload::begin(server.address, head).await;
    upload.send(b"{\"user_id\":").await;
    upload.answer().await.problem(408);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_so() {
    let home = Home::new();
    let server = home.serve(&["--request-timeout", "300ms"]).await;
    let disk = home.database().block();
    let body = json!({"user_id": Uuid::new_v4()});
    let answer = server.request("POST", "/v1/sessions").json(&body).send().await;
    assert_eq!(answer.status, 408, "{answer:?}");
    assert!(answer.json()["detail"].as_str().unwrap().contains("request_timeout"), "{answer:?}");
    drop(disk);
    until_told("it goes on", async || {
        (server.request("POST", "/v1/sessions").json(&body).send().await.status == 201).then_some(())
    })
    .await;
}

/// Opens a connection on which a response has begun. Repeats while earlier connections still count against the limit.
async fn answered(server: &Server, request: &str) -> TcpStream {
    until_told("the answer begins", async || {
        let mut stream = sent(server, request).await;
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.ok()?;
        (begin == *b"HTTP/1.1 206" || begin == *b"HTTP/1.1 200").then_some(stream)
    })
    .await
}

#[tokio::test]
async fn who_does_not_read_the_answer_is_cut_off() {
    // More than the socket buffers of both sides hold.
    const BYTES: usize = 32 << 20;
    let home = Home::new();
    // Long enough that the clients verifiably hold their connections, even on a busy machine.
    let patience = ["--ping-interval", "1s", "--peer-timeout", "6s"];
    let room = ["--max-http-connections", "1", "--max-listeners", "1"];
    let server = home.serve(&[patience, room].concat()).await;
    let session = Client::new(&server).await.session;
    let post = format!("POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: audio/wav\r\n");
    let kept = exchange(&server, &post, &wav(BYTES)).await.json();
    let url = kept["audio_url"].as_str().unwrap();
    let get = format!("GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let deaf = [answered(&server, &get).await, answered(&server, &get).await];
    until_told("they hold all connections", async || {
        (server.get("/healthz").await.status == 503).then_some(())
    })
    .await;
    until_told("they are cut off", async || (server.get("/healthz").await.status == 200).then_some(())).await;
    drop(deaf);
}
