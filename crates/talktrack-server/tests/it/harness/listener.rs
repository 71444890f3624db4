//! A client of the event stream written by hand: it reads the chunks and lines as the server sends them.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};

use super::{Server, within};

/// An event as the server sent it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// `None` if the event has no id.
    pub(crate) id: Option<i64>,
    pub(crate) name: String,
    pub(crate) data: Value,
}

/// A stream of events. Dropping it closes the connection.
pub(crate) struct Listener {
    stream: BufReader<TcpStream>,
    /// Text that was received and has not been parsed yet.
    text: String,
    /// The id to send as `Last-Event-ID` on the next connection: that of the last event, or of a later heartbeat.
    pub(crate) last_id: Option<i64>,
    pub(crate) head: String,
}

impl Listener {
    /// Opens a stream that starts with the next event.
    pub(crate) async fn new(server: &Server) -> Self {
        Self::with(server, "", "").await
    }

    /// Opens a stream that starts after the event with this id, as a client does that connects again.
    pub(crate) async fn after(server: &Server, id: Option<i64>) -> Self {
        let id = id.expect("an event was heard before");
        let mut listener = Self::with(server, "", &format!("Last-Event-ID: {id}\r\n")).await;
        listener.last_id = Some(id);
        listener
    }

    /// Opens a stream with a query and additional headers.
    pub(crate) async fn with(server: &Server, query: &str, headers: &str) -> Self {
        Self::over(TcpSocket::new_v4().unwrap(), server, query, headers).await
    }

    /// Opens a stream; `None` if the server refuses it.
    pub(crate) async fn try_new(server: &Server) -> Option<Self> {
        let listener = Self::come(TcpSocket::new_v4().unwrap(), server, "", "").await;
        listener.head.starts_with("HTTP/1.1 200 ").then_some(listener)
    }

    /// Opens a stream over a socket with a receive buffer of 4 KiB. The buffer fills after a few events that the test
    /// does not read, so the server sees a listener that has stopped reading.
    pub(crate) async fn deaf(server: &Server) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        Self::over(socket, server, "", "").await
    }

    async fn over(socket: TcpSocket, server: &Server, query: &str, headers: &str) -> Self {
        let listener = Self::come(socket, server, query, headers).await;
        assert!(listener.head.starts_with("HTTP/1.1 200 "), "{}", listener.head);
        listener
    }

    async fn come(socket: TcpSocket, server: &Server, query: &str, headers: &str) -> Self {
        let request = format!("GET /v1/events?{query} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let mut stream =
            BufReader::new(within("a connection", socket.connect(server.address)).await.unwrap());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = within("the head of a stream", stream.read_line(&mut head)).await.unwrap();
            assert!(read > 0, "the connection ended within the answer's head: {head}");
        }
        Self { stream, text: String::new(), last_id: None, head }
    }

    /// Returns the next event; `None` if the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if let Some(told) = self.read(&block) {
                    return Some(told);
                }
            }
            if !within("something from a stream of events", self.chunk()).await {
                return None;
            }
        }
    }

    /// Waits for a heartbeat, with no event before it.
    pub(crate) async fn mark(&mut self) {
        assert!(within("a sign of life", self.chunk()).await, "the stream has ended");
        while let Some(end) = self.text.find("\n\n") {
            let block: String = self.text.drain(..end + 2).collect();
            assert_eq!(self.read(&block), None);
        }
    }

    /// Returns the next event, which must have this name.
    pub(crate) async fn expect(&mut self, name: &str) -> Told {
        let told = self.next().await.unwrap_or_else(|| panic!("the stream ended before {name}"));
        assert_eq!(told.name, name, "{told:?}");
        told
    }

    /// Returns the next `count` events.
    pub(crate) async fn several(&mut self, count: usize) -> Vec<Told> {
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.push(self.next().await.expect("one more event"));
        }
        heard
    }

    /// Returns the texts of the next `count` messages and skips other events.
    pub(crate) async fn contents(&mut self, count: usize) -> Vec<String> {
        let mut contents = Vec::new();
        while contents.len() < count {
            let told = self.next().await.expect("one more event");
            if told.name == "message" {
                contents.push(told.data["content"].as_str().unwrap().to_owned());
            }
        }
        contents
    }

    /// Reads a chunk. False if this was the last chunk or the connection is closed.
    async fn chunk(&mut self) -> bool {
        let mut size = String::new();
        if self.stream.read_line(&mut size).await.unwrap_or(0) == 0 {
            return false;
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("no chunk: {size:?}"));
        let mut chunk = vec![0; size + 2];
        if self.stream.read_exact(&mut chunk).await.is_err() {
            return false;
        }
        chunk.truncate(size);
        self.text.push_str(&String::from_utf8(chunk).unwrap());
        size > 0
    }

    fn read(&mut self, block: &str) -> Option<Told> {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let id: Option<i64> = field("id").map(|id| id.parse().unwrap());
        if let Some(id) = id {
            assert!(self.last_id.is_none_or(|last| last < id), "{id} after {:?}", self.last_id);
            self.last_id = Some(id);
        }
        let data = serde_json::from_str(field("data")?).unwrap();
        Some(Told { id, name: field("event").unwrap().to_owned(), data })
    }
}
