//! How a connection ends.

use axum::extract::ws::close_code;

use super::peer::{Disconnected, Peer};
use crate::wire::ServerFrame;

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
pub(super) async fn reject_connection(mut peer: Peer, code: &'static str, message: String) {
    let close = match code {
        "forbidden" | "session_not_found" | "deleted" => close_code::POLICY,
        "shutting_down" => close_code::AWAY,
        "queue_full" | "journal_full" => close_code::AGAIN,
        _ => close_code::ERROR,
    };
    let error = ServerFrame::Error { code: code.to_owned(), message, reference: None };
    if peer.feed(error.to_text()).await.is_ok() {
        peer.close(close, code).await;
    }
}
