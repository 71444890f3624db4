//! HTTP written by hand, so that a test controls exactly which bytes are sent.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::{Server, within};

/// A response with its body.
#[derive(Debug, Clone)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// Returns the value of a header. The name matches in upper and lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let named =
            |line: &str| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)).is_some();
        self.head.lines().find(|line| named(line))?.split_once(": ").map(|(_, value)| value)
    }

    /// Returns the body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Asserts that the response is a problem document (RFC 9457) with this status and code, and returns its detail.
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

/// A request that has not been sent yet.
pub(crate) struct Request<'s> {
    server: &'s Server,
    method: &'s str,
    pub(crate) path: String,
    headers: Vec<String>,
    body: String,
}

impl Server {
    /// Builds a request without a token and without a body.
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

    /// Adds this token as a bearer token.
    pub(crate) fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// Sets the body and its content type. The body is sent unchanged.
    pub(crate) fn body(mut self, content_type: &str, body: impl Into<String>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Type", content_type).header("Content-Length", &length)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.body("application/json", body.to_string())
    }

    /// Returns the method, the path and the body as text.
    pub(crate) fn in_words(&self) -> String {
        format!("{} {}\n{}", self.method, self.path, self.body)
    }

    /// Sends the request and reads the whole response.
    pub(crate) async fn send(self) -> HttpAnswer {
        request(self.server.address, &self.in_full()).await
    }

    /// Sends the request as [`Request::send`] does, with this timeout in seconds instead of the default deadline.
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

/// Sends this text as the request, unchanged, and reads the whole response.
pub(crate) async fn request(address: SocketAddr, text: &str) -> HttpAnswer {
    within("an answer over HTTP", exchange(address, text.to_owned())).await
}

async fn exchange(address: SocketAddr, text: String) -> HttpAnswer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    read_answer(&mut stream).await
}

/// Requests a WebSocket at this path with these additional headers, and returns the response, be it 101 or an error.
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

/// Reads the head byte by byte, so that no frame that follows a 101 response ends up in a buffer and is lost.
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

/// Reads a body with chunked transfer encoding. Panics if the body ends before its last chunk.
async fn read_chunks(stream: &mut TcpStream) -> Vec<u8> {
    let mut stream = BufReader::new(stream);
    let mut body = Vec::new();
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
