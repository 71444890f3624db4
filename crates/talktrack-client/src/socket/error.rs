//! Why a WebSocket connection is not established, and why one has ended.

use crate::retry;

/// An error of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a connection was not established. The words of the server may contain any character: make them visible before
/// you show them on a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server cannot be reached at this URL.
    #[error("cannot connect to {url}: {source}")]
    Unreachable {
        /// The URL without its query, which may contain a token.
        url: String,
        /// The cause.
        source: Cause,
    },
    /// The server answered the request over HTTP and did not open a WebSocket.
    #[error("the server refused the connection ({status}){}", words_or_hint(detail.as_deref()))]
    NoUpgrade {
        /// The status of the response.
        status: u16,
        /// The detail of the problem document, if the response has one.
        detail: Option<String>,
    },
    /// The server opened the WebSocket and refused the session.
    #[error("{code}: {message}")]
    Refused {
        /// One of the error codes of the protocol.
        code: String,
        /// The reason in words.
        message: String,
    },
    /// The connection ended before the server greeted the client.
    #[error(transparent)]
    Disconnected(#[from] Disconnected),
}

impl ConnectError {
    /// True if the server has no room at present, so that a retry may succeed.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if retry::is_want_of_room(code))
    }
}

fn words_or_hint(detail: Option<&str>) -> String {
    detail.map_or_else(|| "; check the URL".into(), |words| format!(": {words}"))
}

/// Why a connection has ended. The words of the server may contain any character: make them visible before you show them
/// on a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnected {
    /// The server closed the connection.
    #[error("the server closed the connection{}", close_reason(*code, reason))]
    Closed {
        /// The code of the close frame. `None` if the server sent none.
        code: Option<u16>,
        /// The reason in words. Empty if the server gave none.
        reason: String,
    },
    /// The server sent a frame that the protocol does not have.
    #[error("the server sent an invalid answer: {problem}")]
    InvalidFrame {
        /// What is wrong with the frame.
        problem: String,
    },
    /// The connection is lost.
    #[error("the connection is lost: {source}")]
    Lost {
        /// The cause.
        source: Cause,
    },
}

fn close_reason(code: Option<u16>, reason: &str) -> String {
    match code {
        Some(_) if !reason.is_empty() => format!(": {reason}"),
        Some(code) => format!(" (code {code})"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_connection_is_told_in_the_servers_words() {
        let told = |code, reason: &str| Disconnected::Closed { code, reason: reason.to_owned() }.to_string();
        assert_eq!(told(Some(1001), "shutting_down"), "the server closed the connection: shutting_down");
        assert_eq!(told(Some(1006), ""), "the server closed the connection (code 1006)");
        assert_eq!(told(None, ""), "the server closed the connection");
    }
}
