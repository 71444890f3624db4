//! A WebSocket connection to the server, with its errors in words.

use axum::http::HeaderValue;
use axum::http::header::AUTHORIZATION;
use futures_util::StreamExt as _;
use talktrack::message::MAX_EXTERNAL_ID_BYTES;
use talktrack::{SessionId, UserId};
use talktrack_protocol::{Secret, ServerFrame};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{Connector, MaybeTlsStream, WebSocketStream, connect_async_tls_with_config};

use crate::error::Failure;
use crate::{terminal, tls};

/// The WebSocket itself.
pub(in crate::command) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The session and user that are sent in the URL.
#[derive(Debug, Clone, Default)]
pub(in crate::command) struct SessionIdentity<'a> {
    pub(in crate::command) session_id: Option<SessionId>,
    pub(in crate::command) user_id: Option<UserId>,
    pub(in crate::command) external_id: Option<&'a str>,
}

/// Why a connection was not established.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::command) enum NotConnected {
    /// The server has no room at present.
    TryAgain(String),
    /// A retry would not help.
    Refused(String),
}

impl From<String> for NotConnected {
    fn from(why: String) -> Self {
        Self::Refused(why)
    }
}

/// A server to connect to. It implements no `Debug`, because it contains a token.
pub(in crate::command) struct Server {
    /// The URL including the path of the protocol.
    url: String,
    /// The value of the `Authorization` header.
    authorization: Option<HeaderValue>,
    connector: Connector,
}

impl Server {
    /// Makes a server from its URL and the token to authenticate with.
    ///
    /// # Errors
    /// Fails if the URL is not `ws://` or `wss://`, or if the token has invalid characters.
    pub(in crate::command) fn new(url: &str, token: Option<&Secret>) -> Result<Self, Failure> {
        let connector = match url.split_once("://") {
            Some(("ws", _)) => Connector::Plain,
            Some(("wss", _)) => Connector::Rustls(tls::client_config().map_err(Failure::new)?),
            _ => {
                let problem =
                    format_args!("--url: must begin with ws:// or wss://, not {:?}", without_query(url));
                return Err(Failure::usage(problem));
            }
        };
        Ok(Self { url: with_path(url), authorization: token.map(bearer_header).transpose()?, connector })
    }

    /// Connects, which starts the session, and waits until the start is durable. Returns the connection and the
    /// greeting.
    ///
    /// # Errors
    /// Says in words why the server could not be reached or refused the connection.
    pub(in crate::command) async fn connect(
        &self,
        identity: SessionIdentity<'_>,
    ) -> Result<(Socket, ServerFrame), NotConnected> {
        let out_of_reach = |error| format!("cannot connect to {}: {error}", without_query(&self.url));
        let mut request = with_identity(&self.url, identity).into_client_request().map_err(out_of_reach)?;
        request.headers_mut().extend(self.authorization.clone().map(|token| (AUTHORIZATION, token)));
        // Disables Nagle's algorithm, so that flushed frames are sent immediately.
        let connected =
            connect_async_tls_with_config(request, None, true, Some(self.connector.clone())).await;
        let (mut socket, _) = connected.map_err(|error| match error {
            Error::Http(response) => {
                explain_refusal(response.status().as_u16(), response.body().as_deref().unwrap_or_default())
            }
            error => out_of_reach(error),
        })?;
        match next_frame(&mut socket).await? {
            ServerFrame::Error { code, message, .. } => {
                let why = format!("{code}: {}", terminal::escape_line(&message));
                Err(if is_want_of_room(&code) {
                    NotConnected::TryAgain(why)
                } else {
                    NotConnected::Refused(why)
                })
            }
            greeting => Ok((socket, greeting)),
        }
    }
}

fn bearer_header(token: &Secret) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.reveal()))
        .map_err(|_| Failure::usage("--token: contains characters that a token cannot have"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns the URL with the path of the protocol if it has no path.
fn with_path(url: &str) -> String {
    let (server, query) =
        url.split_once('?').map_or((url, String::new()), |(server, query)| (server, format!("?{query}")));
    let (scheme, place) = server.split_once("://").unwrap_or(("ws", server));
    let host = place.trim_end_matches('/');
    if host.contains('/') { url.to_owned() } else { format!("{scheme}://{host}/v1/ws{query}") }
}

/// True if an error with this code is temporary, so that a retry may succeed.
pub(in crate::command) fn is_want_of_room(code: &str) -> bool {
    matches!(code, "queue_full" | "journal_full" | "rate_limited")
}

/// Waits for the next answer. Skips answers of unknown types.
///
/// # Errors
/// Says in words why no further answer will come.
pub(in crate::command) async fn next_frame(socket: &mut Socket) -> Result<ServerFrame, String> {
    loop {
        let message = socket.next().await.ok_or("the server closed the connection")?;
        if let Some(frame) = parse_message(message)? {
            return Ok(frame);
        }
    }
}

/// Parses a message from the socket; `None` if it contains no answer, such as a ping.
///
/// # Errors
/// Says in words why the connection is lost.
pub(in crate::command) fn parse_message(
    message: Result<Message, Error>,
) -> Result<Option<ServerFrame>, String> {
    match message.map_err(|error| format!("the connection is lost: {error}"))? {
        Message::Text(text) => {
            ServerFrame::parse(&text).map(Some).or_else(|problem| match problem.starts_with("type: ") {
                true => Ok(None),
                false => Err(format!("the server sent an invalid answer: {problem}")),
            })
        }
        Message::Close(frame) => Err(close_reason(frame)),
        _ => Ok(None),
    }
}

fn close_reason(frame: Option<CloseFrame>) -> String {
    match frame {
        Some(frame) if !frame.reason.is_empty() => {
            format!("the server closed the connection: {}", terminal::escape_line(&frame.reason))
        }
        Some(frame) => format!("the server closed the connection (code {})", u16::from(frame.code)),
        None => "the server closed the connection".into(),
    }
}

/// Formats an HTTP response that refused the connection, with the detail of its problem document if it is one.
fn explain_refusal(status: u16, body: &[u8]) -> String {
    let problem: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| problem.get(key).and_then(serde_json::Value::as_str);
    match text("detail").or(text("title")) {
        Some(words) => {
            format!("the server refused the connection ({status}): {}", terminal::escape_line(words))
        }
        None => format!("the server refused the connection ({status}); check the URL"),
    }
}

fn with_identity(url: &str, identity: SessionIdentity<'_>) -> String {
    let mut url = url.to_owned();
    let mut add = |name: &str, value: String| {
        let mark = if url.contains('?') { '&' } else { '?' };
        url.push(mark);
        url.push_str(&format!("{name}={value}"));
    };
    identity.session_id.into_iter().for_each(|id| add("session_id", id.to_string()));
    identity.user_id.into_iter().for_each(|id| add("user_id", id.to_string()));
    identity.external_id.into_iter().for_each(|name| add("external_id", percent_encoded(name)));
    url
}

/// Removes the query from a URL, because it may contain a token.
fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(place, _)| place)
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len().min(MAX_EXTERNAL_ID_BYTES));
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            other => encoded.push_str(&format!("%{other:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_follows_what_the_url_says_already() {
        let identity = SessionIdentity {
            session_id: Some(SessionId::nil()),
            user_id: None,
            external_id: Some("call 7/ü"),
        };
        let nil = SessionId::nil();
        for (url, mark) in [("ws://h/v1/ws", '?'), ("ws://h/v1/ws?token=x", '&')] {
            let expected = format!("{url}{mark}session_id={nil}&external_id=call%207%2F%C3%BC");
            assert_eq!(with_identity(url, identity.clone()), expected);
        }
        assert_eq!(without_query("ws://h/v1/ws?token=x"), "ws://h/v1/ws");
    }

    #[test]
    fn a_url_without_a_path_means_the_protocols() {
        for url in ["ws://h:1", "ws://h:1/", "ws://h:1/v1/ws"] {
            assert_eq!(with_path(url), "ws://h:1/v1/ws");
        }
        assert_eq!(with_path("wss://h"), "wss://h/v1/ws");
        assert_eq!(with_path("ws://h?token=a/b"), "ws://h/v1/ws?token=a/b");
        assert_eq!(with_path("ws://h/behind/a/proxy"), "ws://h/behind/a/proxy");
    }

    #[test]
    fn a_refused_connection_is_told_in_the_servers_words() {
        let told = explain_refusal(400, br#"{"title":"Bad Request","detail":"user_id: missing"}"#);
        assert_eq!(told, "the server refused the connection (400): user_id: missing");
        assert_eq!(explain_refusal(404, b"nope"), "the server refused the connection (404); check the URL");
    }
}
