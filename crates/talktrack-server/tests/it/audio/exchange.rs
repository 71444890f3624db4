//! HTTP with binary bodies.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::harness::{HttpAnswer, Server, within};

/// A response with its body as bytes.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: HttpAnswer,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Asserts that the response is a problem document with this status, and returns its code; null if it has no code.
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, Some("application/problem+json")),
            "{self:?}"
        );
        self.json()["code"].clone()
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = String::from_utf8_lossy(&self.body[..self.body.len().min(500)]);
        write!(f, "{}{shown}", self.head.head)
    }
}

/// Sends a request with a body and reads the response. `head` lacks the empty line at its end.
pub(crate) async fn exchange(server: &Server, head: &str, body: &[u8]) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let mut upload = Upload::begin(server.address, &format!("{head}{length}")).await;
    upload.send(body).await;
    upload.answer().await
}

/// A request whose body is not complete yet.
pub(crate) struct Upload(TcpStream);

impl Upload {
    pub(crate) async fn begin(address: SocketAddr, head: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{head}Host: localhost\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        Self(stream)
    }

    /// Starts the upload of a recording with chunked transfer encoding.
    pub(crate) async fn chunked(server: &Server, session: Uuid) -> Self {
        let head = format!(
            "POST /v1/sessions/{session}/audio HTTP/1.1\r\nContent-Type: audio/wav\r\nTransfer-Encoding: chunked\r\n"
        );
        Self::begin(server.address, &head).await
    }

    /// Sends a part of the body. An error is ignored: the server may refuse the upload early, and the response shows
    /// it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = within("the server takes the body", self.0.write_all(bytes)).await;
    }

    /// Sends a chunk of the body.
    pub(crate) async fn chunk(&mut self, bytes: &[u8]) {
        self.send(format!("{:x}\r\n", bytes.len()).as_bytes()).await;
        self.send(bytes).await;
        self.send(b"\r\n").await;
    }

    pub(crate) async fn answer(mut self) -> Answer {
        let mut bytes = Vec::new();
        within("an answer over HTTP", self.0.read_to_end(&mut bytes)).await.unwrap();
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head") + 4;
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: HttpAnswer { status, head, body: String::new() }, body: bytes.split_off(end) }
    }
}
