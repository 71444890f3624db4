//! A client of the WebSocket protocol that checks every frame.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async};
use uuid::Uuid;

use super::{Server, within};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A connection to the server that belongs to a session.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) session: Uuid,
    /// The user; nil if the id is no UUID.
    pub(crate) user: Uuid,
    /// The `session.started` frame.
    pub(crate) started: Value,
}

/// A durable message, as an entry of an `ack` frame reports it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ack {
    pub(crate) id: Uuid,
    pub(crate) reference: Value,
}

/// Builds a message frame with a role and a text, and nothing else.
pub(crate) fn text(role: &str, content: &str) -> Value {
    json!({"type": "message", "role": role, "content": content})
}

/// Builds a message frame of the user with a `ref`.
pub(crate) fn user(content: &str, reference: impl Into<Value>) -> Value {
    json!({"type": "message", "role": "user", "content": content, "ref": reference.into()})
}

impl Client {
    /// Starts a new session of a new user.
    pub(crate) async fn new(server: &Server) -> Self {
        Self::join(server, Uuid::new_v4(), Uuid::new_v4()).await
    }

    /// Joins a session and waits until it is durable.
    pub(crate) async fn join(server: &Server, session: Uuid, user: Uuid) -> Self {
        Self::open(server, &format!("session_id={session}&user_id={user}")).await.expect_started().await
    }

    /// Opens a socket without reading the first frame, so the ids are still unknown.
    pub(crate) async fn open(server: &Server, query: &str) -> Self {
        let url = format!("ws://{}/v1/ws?{query}", server.address);
        let (socket, _) = within("the socket opens", connect_async(url)).await.unwrap();
        Self::unknown(socket)
    }

    /// Opens a socket as [`Client::open`] does, and sends the token in the `Authorization` header, as programs do.
    pub(crate) async fn come_with(server: &Server, query: &str, token: &str) -> Self {
        let mut request = format!("ws://{}/v1/ws?{query}", server.address).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let (socket, _) = within("the socket opens", connect_async(request)).await.unwrap();
        Self::unknown(socket)
    }

    /// Opens a socket as [`Client::open`] does; `None` if the server has no room for the connection (503).
    pub(crate) async fn try_open(server: &Server, query: &str) -> Option<Self> {
        let url = format!("ws://{}/v1/ws?{query}", server.address);
        match within("the socket opens, or not", connect_async(url)).await {
            Ok((socket, _)) => Some(Self::unknown(socket)),
            Err(Error::Http(answer)) if answer.status() == 503 => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Joins a session over a socket with a receive buffer of 4 KiB. The buffer fills after a few frames that the test
    /// does not read, so the server sees a client that has stopped reading.
    pub(crate) async fn deaf(server: &Server, session: Uuid, user: Uuid) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = within("a connection", socket.connect(server.address)).await.unwrap();
        let url = format!("ws://{}/v1/ws?session_id={session}&user_id={user}", server.address);
        let opened = within("the socket opens", client_async(url, MaybeTlsStream::Plain(stream))).await;
        Self::unknown(opened.unwrap().0).expect_started().await
    }

    fn unknown(socket: Socket) -> Self {
        Self { socket, session: Uuid::nil(), user: Uuid::nil(), started: Value::Null }
    }

    /// Reads the first frame, which must be `session.started`.
    pub(crate) async fn expect_started(mut self) -> Self {
        self.started = self.expect("session.started").await;
        let id = |field: &str| self.started[field].as_str().unwrap().parse::<Uuid>();
        // The id of a user need not be a UUID.
        (self.session, self.user) = (id("session_id").unwrap(), id("user_id").unwrap_or_default());
        self
    }

    /// Sends a JSON frame.
    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_raw(Message::text(frame.to_string())).await;
    }

    /// Sends any WebSocket message, valid or not.
    pub(crate) async fn send_raw(&mut self, message: Message) {
        within("the frame goes out", self.socket.send(message)).await.unwrap();
    }

    /// Returns the next frame that is not a ping or a pong.
    pub(crate) async fn next(&mut self) -> Message {
        loop {
            match within("a frame of the server", self.socket.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(message)) => return message,
                other => panic!("the connection is gone: {other:?}"),
            }
        }
    }

    /// Returns the next frame as JSON.
    pub(crate) async fn receive(&mut self) -> Value {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")),
            other => panic!("a text frame was expected, not {other:?}"),
        }
    }

    /// Returns the next frame, which must have this type.
    pub(crate) async fn expect(&mut self, frame_type: &str) -> Value {
        let frame = self.receive().await;
        assert_eq!(frame["type"], frame_type, "{frame}");
        frame
    }

    /// Reads the next frame, which must be an error with this code and `ref`. Returns the text of the error.
    pub(crate) async fn refused(&mut self, code: &str, reference: impl Into<Value>) -> String {
        let frame = self.expect("error").await;
        assert_eq!((&frame["code"], &frame["ref"]), (&code.into(), &reference.into()), "{frame}");
        frame["message"].as_str().unwrap().to_owned()
    }

    /// Returns the acks of the next frame, which must be an `ack` frame.
    pub(crate) async fn ack_frame(&mut self) -> Vec<Ack> {
        acks_in(&self.expect("ack").await)
    }

    /// Reads `ack` frames until they hold this many acks.
    pub(crate) async fn acks(&mut self, count: usize) -> Vec<Ack> {
        let mut acks = Vec::new();
        while acks.len() < count {
            acks.extend(self.ack_frame().await);
        }
        assert_eq!(acks.len(), count, "more acks than messages: {acks:?}");
        acks
    }

    /// Sends a message, waits until the message is durable, and returns its id.
    pub(crate) async fn track(&mut self, message: Value) -> Uuid {
        let reference = message["ref"].clone();
        self.send(message).await;
        let [ack] = &self.ack_frame().await[..] else { panic!("one ack was expected") };
        assert_eq!(ack.reference, reference);
        ack.id
    }

    /// Sends a message of the user, waits until the message is durable, and returns its id.
    pub(crate) async fn say(&mut self, content: &str) -> Uuid {
        self.track(text("user", content)).await
    }

    /// Sends a ping and waits for the pong, which proves that the connection is alive.
    pub(crate) async fn lives(&mut self) {
        let reference = Uuid::new_v4().to_string();
        self.send(json!({"type": "ping", "ref": reference})).await;
        assert_eq!(self.expect("pong").await["ref"], reference);
    }

    /// Ends the session and returns the `session.ended` frame.
    pub(crate) async fn end(&mut self, reason: &str) -> Value {
        self.send(json!({"type": "session.end", "reason": reason})).await;
        self.expect("session.ended").await
    }

    /// Waits until the server closes the connection and returns the close code. No other frame may come first.
    pub(crate) async fn closed(&mut self) -> Option<CloseCode> {
        match self.next().await {
            Message::Close(frame) => frame.map(|frame| frame.code),
            other => panic!("the server should have closed the connection, not sent {other:?}"),
        }
    }

    /// Closes the connection with a close frame and waits until the server has closed its side too.
    pub(crate) async fn close(mut self) {
        within("the socket closes", self.socket.close(None)).await.unwrap();
        while let Some(Ok(_)) = within("the server closes too", self.socket.next()).await {}
    }
}

/// Returns the acks of an `ack` frame.
pub(crate) fn acks_in(frame: &Value) -> Vec<Ack> {
    let ack =
        |ack: &Value| Ack { id: ack["id"].as_str().unwrap().parse().unwrap(), reference: ack["ref"].clone() };
    frame["acks"].as_array().unwrap().iter().map(ack).collect()
}
