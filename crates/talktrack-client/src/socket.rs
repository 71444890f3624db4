//! A WebSocket connection to the server: one connection records one session.

mod error;
mod url;

use futures_util::{SinkExt as _, StreamExt as _};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_protocol::{InvalidServerFrame, Secret, ServerFrame};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};
use url::{with_identity, with_path, without_query};

pub use error::{ConnectError, Disconnected};

use crate::address::InvalidServer;
use crate::tls;

/// The session and user that are sent in the URL. Begin with the default and set what is known.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct SessionIdentity<'a> {
    /// The session to start or resume. `None`: the server derives the id from `external_id`, or generates one.
    pub session_id: Option<SessionId>,
    /// The user who owns the session. With a user's token, the token names the user, and this may be `None`.
    pub user_id: Option<UserId>,
    /// The caller's own id of the session, up to 256 bytes.
    pub external_id: Option<&'a str>,
}

/// The session that a connection has started or resumed, as the server's greeting says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionStarted {
    /// The session. The server has generated or derived the id if the identity has none.
    pub session_id: SessionId,
    /// The user that the session belongs to.
    pub user_id: UserId,
    /// True if the session existed before.
    pub resumed: bool,
}

/// A server to connect to, and the token to authenticate with. It implements no `Debug`, because it contains a token.
pub struct SocketClient {
    /// The URL including the path of the protocol.
    url: String,
    /// The value of the `Authorization` header.
    authorization: Option<HeaderValue>,
    connector: Connector,
}

impl SocketClient {
    /// Makes a client of the server at this URL, with the token to authenticate with.
    ///
    /// # Errors
    /// Fails if the URL is not `ws://` or `wss://`, or if the token has invalid characters.
    pub fn new(url: &str, token: Option<&Secret>) -> Result<Self, InvalidServer> {
        let connector = match url.split_once("://") {
            Some(("ws", _)) => Connector::Plain,
            Some(("wss", _)) => Connector::Rustls(tls::client_config()?),
            _ => {
                let url = without_query(url).to_owned();
                return Err(InvalidServer::Scheme { expected: "ws:// or wss://", url });
            }
        };
        Ok(Self { url: with_path(url), authorization: token.map(bearer_header).transpose()?, connector })
    }

    /// Connects, which starts the session, and waits until the start is durable. Returns the connection and the session.
    ///
    /// # Errors
    /// Says why the server could not be reached or refused the connection, and whether a later attempt may succeed.
    pub async fn connect(
        &self,
        identity: &SessionIdentity<'_>,
    ) -> Result<(Connection, SessionStarted), ConnectError> {
        let out_of_reach = |error| ConnectError::without_response(without_query(&self.url).to_owned(), error);
        let mut request = with_identity(&self.url, identity).into_client_request().map_err(out_of_reach)?;
        request.headers_mut().extend(self.authorization.clone().map(|token| (AUTHORIZATION, token)));
        // Disables Nagle's algorithm, so that flushed frames are sent immediately.
        let connected =
            connect_async_tls_with_config(request, None, true, Some(self.connector.clone())).await;
        let (socket, _) = connected.map_err(|error| match error {
            Error::Http(response) => {
                explain_refusal(response.status().as_u16(), response.body().as_deref().unwrap_or_default())
            }
            error => out_of_reach(error),
        })?;
        let mut connection = Connection { socket };
        match connection.next_frame().await? {
            ServerFrame::SessionStarted { session_id, user_id, resumed, .. } => {
                Ok((connection, SessionStarted { session_id, user_id, resumed }))
            }
            ServerFrame::Error { code, message, .. } => Err(ConnectError::Refused { code, message }),
            _ => {
                let problem = "the first frame is not session.started".to_owned();
                Err(Disconnected::InvalidFrame { problem }.into())
            }
        }
    }
}

fn bearer_header(token: &Secret) -> Result<HeaderValue, InvalidServer> {
    let mut value =
        HeaderValue::try_from(format!("Bearer {}", token.reveal())).map_err(|_| InvalidServer::Token)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A connection, on which the session has started. If it ends before a `session.end`, the server ends the session with the
/// reason `disconnect`.
#[derive(Debug)]
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Connection {
    /// Sends a frame, which is the text of one JSON object.
    ///
    /// # Errors
    /// Fails if the connection is lost. The server may have received the frame nevertheless.
    pub async fn send(&mut self, frame: impl Into<String>) -> Result<(), Disconnected> {
        self.socket.send(Message::text::<String>(frame.into())).await.map_err(connection_lost)
    }

    /// Buffers a frame, to send several with one [`Self::flush`]. Sends the frames before it if the buffer is full.
    ///
    /// # Errors
    /// Fails if the connection is lost. The server may have received the frame nevertheless.
    pub async fn feed(&mut self, frame: impl Into<String>) -> Result<(), Disconnected> {
        self.socket.feed(Message::text::<String>(frame.into())).await.map_err(connection_lost)
    }

    /// Sends the buffered frames.
    ///
    /// # Errors
    /// Fails if the connection is lost. The server may have received some of the frames nevertheless.
    pub async fn flush(&mut self) -> Result<(), Disconnected> {
        self.socket.flush().await.map_err(connection_lost)
    }

    /// Waits for the next answer. Skips answers of unknown types. Dropping the future loses no answer.
    ///
    /// # Errors
    /// Says why no further answer will come.
    pub async fn next_frame(&mut self) -> Result<ServerFrame, Disconnected> {
        loop {
            let message = self.socket.next().await;
            let message = message.ok_or(Disconnected::Closed { code: None, reason: String::new() })?;
            if let Some(frame) = parse_message(message)? {
                return Ok(frame);
            }
        }
    }

    /// Closes the connection with a close handshake.
    ///
    /// # Errors
    /// Fails if the connection is lost.
    pub async fn close(&mut self) -> Result<(), Disconnected> {
        self.socket.close(None).await.map_err(connection_lost)
    }
}

fn connection_lost(error: Error) -> Disconnected {
    Disconnected::Lost { cause: error.into() }
}

/// Parses a message from the socket; `None` if it contains no answer, such as a ping.
fn parse_message(message: Result<Message, Error>) -> Result<Option<ServerFrame>, Disconnected> {
    match message.map_err(connection_lost)? {
        Message::Text(text) => match ServerFrame::parse(&text) {
            Ok(frame) => Ok(Some(frame)),
            Err(InvalidServerFrame::UnknownType { .. }) => Ok(None),
            Err(invalid) => Err(Disconnected::InvalidFrame { problem: invalid.to_string() }),
        },
        Message::Close(Some(frame)) => Err(Disconnected::Closed {
            code: Some(frame.code.into()),
            reason: frame.reason.as_str().to_owned(),
        }),
        Message::Close(None) => Err(Disconnected::Closed { code: None, reason: String::new() }),
        _ => Ok(None),
    }
}

/// Reads an HTTP response that refused the connection, with the detail of its problem document if it is one.
fn explain_refusal(status: u16, body: &[u8]) -> ConnectError {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(serde_json::Value::as_str);
    ConnectError::NoUpgrade { status, detail: text("detail").or(text("title")).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_is_told_in_the_servers_words() {
        let told = explain_refusal(400, br#"{"title":"Bad Request","detail":"user_id: missing"}"#);
        assert_eq!(told.to_string(), "the server refused the connection (400): user_id: missing");
        assert_eq!(
            explain_refusal(404, b"nope").to_string(),
            "the server refused the connection (404); check the URL"
        );
    }
}
