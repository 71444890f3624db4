//! Why a WebSocket connection is not established, and why one has ended.

use talktrack_core::ErrorCode;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;

/// An error of another crate.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a connection was not established. The words of the server may contain any character: make them visible before
/// you show them on a terminal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The server cannot be reached at this URL: it may be restarting, or the URL is wrong.
    #[error("cannot connect to {url}: {cause}")]
    Unreachable {
        /// The URL without its query, which may contain a token.
        url: String,
        /// The cause. The text contains it, so `source` does not return it.
        cause: Cause,
    },
    /// The URL is invalid, the server does not prove its name to a trusted root certificate, or it does not speak HTTP.
    /// Correct the URL or the certificates.
    #[error("cannot connect to {url}: {cause}")]
    HandshakeFailed {
        /// The URL without its query, which may contain a token.
        url: String,
        /// The cause. The text contains it, so `source` does not return it.
        cause: Cause,
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
    /// True if the same attempt may succeed later.
    ///
    /// | error | temporary |
    /// |---|---|
    /// | [`Unreachable`](Self::Unreachable) | Yes: the server may be restarting. If no attempt has succeeded yet, the URL may be wrong instead. |
    /// | [`HandshakeFailed`](Self::HandshakeFailed) | No. |
    /// | [`NoUpgrade`](Self::NoUpgrade) | If the status is 429 or 503, with which the server asks to retry, or 502 or 504, with which a proxy says that the server does not answer. |
    /// | [`Refused`](Self::Refused) | If the code [is retryable](ErrorCode::is_retryable). Codes that this version does not know are not. |
    /// | [`Disconnected`](Self::Disconnected) | If the connection is lost, or was closed without a code or with 1001, 1011, 1012 or 1013: the server is stopping, has failed or is overloaded. |
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::HandshakeFailed { .. } => false,
            Self::NoUpgrade { status, .. } => matches!(status, 429 | 502..=504),
            Self::Refused { code, .. } => code.parse().is_ok_and(ErrorCode::is_retryable),
            Self::Disconnected(Disconnected::Lost { .. }) => true,
            Self::Disconnected(Disconnected::Closed { code, .. }) => {
                matches!(code, None | Some(1001 | 1011..=1013))
            }
            Self::Disconnected(Disconnected::InvalidFrame { .. }) => false,
        }
    }

    /// Makes the error of an attempt that got no HTTP response. `url` has no query.
    pub(super) fn without_response(url: String, error: Error) -> Self {
        let is_network = match &error {
            // rustls reports certificates and messages that it rejects as `InvalidData`.
            Error::Io(error) => error.kind() != std::io::ErrorKind::InvalidData,
            Error::Protocol(ProtocolError::HandshakeIncomplete) | Error::ConnectionClosed => true,
            _ => false,
        };
        let cause = error.into();
        match is_network {
            true => Self::Unreachable { url, cause },
            false => Self::HandshakeFailed { url, cause },
        }
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
    #[error("the connection is lost: {cause}")]
    Lost {
        /// The cause. The text contains it, so `source` does not return it.
        cause: Cause,
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
    use std::error::Error as _;
    use std::io::ErrorKind;

    use tokio_tungstenite::tungstenite::error::UrlError;

    use super::*;

    #[test]
    fn the_end_of_a_connection_is_told_in_the_servers_words() {
        let told = |code, reason: &str| Disconnected::Closed { code, reason: reason.to_owned() }.to_string();
        assert_eq!(told(Some(1001), "shutting_down"), "the server closed the connection: shutting_down");
        assert_eq!(told(Some(1006), ""), "the server closed the connection (code 1006)");
        assert_eq!(told(None, ""), "the server closed the connection");
    }

    fn io_error(kind: ErrorKind) -> ConnectError {
        ConnectError::without_response("ws://h".into(), Error::Io(kind.into()))
    }

    #[test]
    fn a_server_that_restarts_is_temporary_and_a_wrong_certificate_is_not() {
        assert!(io_error(ErrorKind::ConnectionRefused).is_temporary());
        assert!(io_error(ErrorKind::UnexpectedEof).is_temporary());
        assert!(!io_error(ErrorKind::InvalidData).is_temporary());
        let broken_off = Error::Protocol(ProtocolError::HandshakeIncomplete);
        assert!(ConnectError::without_response("ws://h".into(), broken_off).is_temporary());
        let wrong_url = Error::Url(UrlError::NoHostName);
        assert!(!ConnectError::without_response("ws://".into(), wrong_url).is_temporary());
    }

    #[test]
    fn answers_over_http_are_temporary_if_the_protocol_says_to_retry() {
        let is_temporary = |status| ConnectError::NoUpgrade { status, detail: None }.is_temporary();
        assert!([429, 502, 503, 504].into_iter().all(is_temporary));
        assert!(![400, 401, 403, 404, 405, 410, 426, 500].into_iter().any(is_temporary));
    }

    #[test]
    fn refusals_are_temporary_if_their_code_is() {
        let is_temporary =
            |code: &str| ConnectError::Refused { code: code.into(), message: String::new() }.is_temporary();
        for code in ErrorCode::ALL {
            assert_eq!(is_temporary(code.as_str()), code.is_retryable(), "{code}");
        }
        assert!(
            is_temporary("shutting_down")
                && !is_temporary("forbidden")
                && !is_temporary("of_a_later_version")
        );
    }

    #[test]
    fn a_connection_that_ends_before_the_greeting_is_temporary_unless_the_server_objects() {
        let is_temporary =
            |code| ConnectError::from(Disconnected::Closed { code, reason: String::new() }).is_temporary();
        assert!([None, Some(1001), Some(1011), Some(1012), Some(1013)].into_iter().all(is_temporary));
        assert!(![Some(1000), Some(1002), Some(1008), Some(1009)].into_iter().any(is_temporary));
        assert!(ConnectError::from(Disconnected::Lost { cause: "reset".into() }).is_temporary());
        assert!(!ConnectError::from(Disconnected::InvalidFrame { problem: String::new() }).is_temporary());
    }

    #[test]
    fn a_cause_is_told_exactly_once() {
        let error = io_error(ErrorKind::ConnectionRefused);
        assert_eq!(error.to_string(), "cannot connect to ws://h: IO error: connection refused");
        assert!(error.source().is_none());
    }
}
