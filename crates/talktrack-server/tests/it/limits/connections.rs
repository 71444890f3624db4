//! Limits on the number of connections and on the size of messages and bodies.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::sent;
use crate::harness::{Client, Home, request, until, until_told, upgrade, within};

#[tokio::test]
async fn connections_beyond_the_limit_are_told_so_and_those_that_are_there_go_on() {
    let home = Home::new();
    let server = home.serve(&["--max-http-connections", "1", "--max-listeners", "1"]).await;
    // A WebSocket counts against neither of these limits.
    let mut client = Client::new(&server).await;
    let waiting = [sent(&server, "GET ").await, sent(&server, "GET ").await];
    let refused = until_told("both are there", async || {
        Some(server.get("/healthz").await).filter(|answer| answer.status != 200)
    });
    let refused = refused.await;
    assert!(refused.problem(503, "rate_limited").contains("max_http_connections"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    client.say("undisturbed").await;
    drop(waiting);
    until_told("they are gone", async || (server.get("/healthz").await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn an_address_may_have_so_many_connections_sockets_included() {
    let home = Home::new();
    let server = home.serve(&["--max-connections-per-address", "2"]).await;
    let one = Client::new(&server).await;
    let mut other = Client::new(&server).await;
    let path = format!("/v1/ws?user_id={}", Uuid::new_v4());
    let (_, answer) = upgrade(server.address, &path, &[]).await;
    assert!(answer.problem(503, "rate_limited").contains("max_connections_per_address"), "{answer:?}");
    other.say("undisturbed").await;
    one.close().await;
    until_told("there is room", async || (server.get("/healthz").await.status == 200).then_some(())).await;
    other.say("still").await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let head = |bytes: usize| {
        format!("GET /healthz HTTP/1.1\r\nConnection: close\r\nX: {}\r\n\r\n", "x".repeat(bytes))
    };
    assert_eq!(request(server.address, &head(16 << 10)).await.status, 200);
    assert_eq!(request(server.address, &head(64 << 10)).await.status, 431);
}

#[tokio::test]
async fn bodies_that_never_end_do_not_fill_the_memory() {
    const BODY: usize = 12 << 20;
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = Client::new(&server).await.session;
    let head = format!(
        "POST /v1/sessions/{session}/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        BODY + 1
    );
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = sent(&server, &head).await;
        // The write may fail if the server refuses the body; the response shows the outcome.
        let _ = within("the body is read", stream.write_all(&vec![b' '; BODY])).await;
        streams.push(stream);
    }
    let is_refused = |stream: &TcpStream| {
        let mut beginning = [0; 12];
        stream.try_read(&mut beginning).is_ok_and(|_| beginning.ends_with(b"503"))
    };
    let refused = || streams.iter().any(is_refused).then_some(());
    until("one is refused: 16 of 12 MiB are more than is held at once", refused).await;
    assert!(server.resident_kib() < 320 << 10, "{} KiB", server.resident_kib());
    drop(streams);
    let body = json!({"role": "user", "content": "goes on"});
    let path = format!("/v1/sessions/{session}/messages");
    until_told("there is room again", async || {
        (server.request("POST", &path).json(&body).send().await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn slow_heads_of_one_address_shut_out_no_other() {
    let home = Home::new();
    let limits = ["--max-http-connections", "20", "--max-listeners", "20"];
    let server = home.serve(&[&limits[..], &["--max-http-connections-per-address", "10"]].concat()).await;
    let mut client = Client::new(&server).await;
    let mut slow = Vec::new();
    for _ in 0..60 {
        slow.push(sent(&server, "GET /healthz HTTP/1.1\r\nX: ").await);
    }
    let refused = until_told("this address has its share", async || {
        Some(server.get("/healthz").await).filter(|answer| answer.status == 503)
    });
    let detail = refused.await.problem(503, "rate_limited").to_owned();
    assert!(detail.contains("max_http_connections_per_address"), "{detail}");
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = socket.connect(server.address).await.unwrap();
    other.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within("another address is served", other.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    client.say("a WebSocket is none of these").await;
}
