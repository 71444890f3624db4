//! Plain HTTP, spoken by hand, so that a test can say exactly what goes over the wire.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Server, within};

/// An answer with its body.
#[derive(Debug, Clone)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// The value of a header; its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &str| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).is_some();
        self.head.lines().find(|line| named(line))?.split_once(": ").map(|(_, value)| value)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// It is a problem document (RFC 9457) of this status and code; returns what it says in words.
    pub(crate) fn problem(&self, status: u16, code: &str) -> String {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, Some("application/problem+json")),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()), "{self:?}");
        assert!(problem["title"].is_string(), "{self:?}");
        problem["detail"].as_str().unwrap_or_else(|| panic!("no detail: {self:?}")).to_owned()
    }
}

/// A request that is not sent yet.
pub(crate) struct Request<'s> {
    server: &'s Server,
    method: &'s str,
    pub(crate) path: String,
    headers: Vec<String>,
    body: String,
}

impl Server {
    /// A request with neither token nor body.
    pub(crate) fn request<'s>(&'s self, method: &'s str, path: impl Into<String>) -> Request<'s> {
        let headers = vec!["Host: localhost".to_owned(), "Connection: close".to_owned()];
        Request { server: self, method, path: path.into(), headers, body: String::new() }
    }
}

impl Request<'_> {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Whoever has the token asks.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// A body of this type, as it stands.
    pub(crate) fn body(mut self, content_type: &str, body: impl Into<String>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Type", content_type).header("Content-Length", &length)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// The request's first line, and its body.
    pub(crate) fn in_words(&self) -> String {
        format!("{} {}\n{}", self.method, self.path, self.body)
    }

    /// Sends it, and reads the whole answer.
    pub(crate) async fn send(self) -> HttpAnswer {
        request(self.server.address, &self.in_full()).await
    }

    /// The same where the server may take so many seconds to answer.
    pub(crate) async fn send_patiently(self, seconds: u64) -> HttpAnswer {
        let answer = exchange(self.server.address, self.in_full());
        let patience = std::time::Duration::from_secs(seconds);
        tokio::time::timeout(patience, answer).await.expect("an answer over HTTP in good time")
    }

    fn in_full(&self) -> String {
        let head = self.headers.join("\r\n");
        format!("{} {} HTTP/1.1\r\n{head}\r\n\r\n{}", self.method, self.path, self.body)
    }
}

/// Sends a request as it stands and reads the whole answer.
pub(crate) async fn request(address: SocketAddr, text: &str) -> HttpAnswer {
    within("an answer over HTTP", exchange(address, text.to_owned())).await
}

async fn exchange(address: SocketAddr, text: String) -> HttpAnswer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    read_answer(&mut stream).await
}

/// Asks for a WebSocket at this path, with further headers, and reads the answer, whatever it is.
pub(crate) async fn upgrade(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> (TcpStream, HttpAnswer) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    within("an answer to the request for a WebSocket", async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        (stream, answer)
    })
    .await
}

/// Reads byte by byte up to the body, so that nothing that comes after the answer is lost.
async fn read_answer(stream: &mut TcpStream) -> HttpAnswer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the connection ended within the answer's head"));
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer = HttpAnswer { status, head, body: String::new() };
    let length = answer.header("content-length").map(|length| length.parse().unwrap());
    let mut body = vec![0; length.unwrap_or(0)];
    match length {
        Some(_) => _ = stream.read_exact(&mut body).await.unwrap(),
        None if answer.header("transfer-encoding") == Some("chunked") => body = read_chunks(stream).await,
        None if status != 101 => _ = stream.read_to_end(&mut body).await.unwrap(),
        None => {}
    }
    answer.body = String::from_utf8(body).unwrap();
    answer
}

/// A body that comes in pieces, each behind its length; one that breaks off is no whole answer.
async fn read_chunks(stream: &mut TcpStream) -> Vec<u8> {
    let (mut stream, mut body) = (BufReader::new(stream), Vec::new());
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        let length = usize::from_str_radix(line.trim(), 16).expect("the body broke off");
        let mut piece = vec![0; length + 2];
        stream.read_exact(&mut piece).await.expect("the body broke off");
        if length == 0 {
            return body;
        }
        body.extend(&piece[..length]);
    }
}
