//! The address of a server: a URL and a token.

use crate::tls::TlsError;

/// Why a URL and a token are not those of a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidServer {
    /// The URL has another scheme. Correct the URL.
    #[error("the URL must begin with {expected}, not {url:?}")]
    Scheme {
        /// The schemes that are possible, such as `ws:// or wss://`.
        expected: &'static str,
        /// The URL. The URL of a WebSocket is without its query, which may contain a token.
        url: String,
    },
    /// The token has characters that an HTTP header cannot have. Correct the token.
    #[error("the token contains characters that a token cannot have")]
    Token,
    /// TLS cannot be set up on this machine.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be set up on this machine.
    #[error("{0}")]
    Http(String),
}
