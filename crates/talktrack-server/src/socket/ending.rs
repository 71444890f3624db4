//! How a connection ends.

use axum::extract::ws::close_code;

use super::peer::{Gone, Peer};
use crate::wire::ServerFrame;

/// How a connection ends.
pub(super) enum Ending {
    /// The peer is gone.
    Gone,
    /// We close it, for this reason.
    Close(u16, &'static str),
    /// What proved who the peer is does not count any more, for this reason.
    Over(String),
    /// The server stops.
    Stopping,
}

impl From<Gone> for Ending {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// Says why the session cannot be started, and closes.
pub(super) async fn turn_away(mut peer: Peer, code: &'static str, message: String) {
    let close = match code {
        "forbidden" | "session_not_found" | "deleted" => close_code::POLICY,
        "shutting_down" => close_code::AWAY,
        "queue_full" | "journal_full" => close_code::AGAIN,
        _ => close_code::ERROR,
    };
    let error = ServerFrame::Error { code: code.to_owned(), message, reference: None };
    if peer.say(error.to_text()).await.is_ok() {
        peer.close(close, code).await;
    }
}
