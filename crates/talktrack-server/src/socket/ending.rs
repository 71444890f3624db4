//! How a connection ends.

use std::time::Duration;

use axum::extract::ws::close_code;
use talktrack::ErrorCode;
use talktrack_protocol::ServerFrame;

use super::peer::{Disconnected, Peer};

/// How long the last answers and the close handshake may take when the connection must end.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(20);

/// What the client is told if the store dropped a record that was acknowledged.
pub(super) const DROPPED: &str =
    "something that was acknowledged is not stored: the session or its user was deleted meanwhile";

/// Why a connection ends.
pub(super) enum Ending {
    /// The client has disconnected.
    Disconnected,
    /// The server closes the connection, with this code and reason.
    Close(u16, &'static str),
    /// The proof of the client's identity is no longer valid, for this reason.
    Over(String),
    /// The server shuts down.
    Stopping,
}

impl From<Disconnected> for Ending {
    fn from(_: Disconnected) -> Self {
        Self::Disconnected
    }
}

/// Tells the client why the session cannot be started, and closes the connection.
pub(super) async fn reject_connection(mut peer: Peer, code: ErrorCode, message: String) {
    let close = match code {
        ErrorCode::Forbidden | ErrorCode::SessionNotFound | ErrorCode::Deleted => close_code::POLICY,
        ErrorCode::ShuttingDown => close_code::AWAY,
        ErrorCode::QueueFull | ErrorCode::JournalFull => close_code::AGAIN,
        _ => close_code::ERROR,
    };
    let error = ServerFrame::Error { code: code.to_string(), message, reference: None, session_id: None };
    if peer.feed(error.to_text()).await.is_ok() {
        peer.close(close, code.as_str()).await;
    }
}
