//! The other end of the line: hears and says frames, and never waits for it longer than it may.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{FutureExt as _, SinkExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::state::Stopping;

/// How long a peer may take over the closing handshake.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How long a peer that does not read may hold up a server that wants to stop.
const WHILE_STOPPING: Duration = Duration::from_secs(2);

/// What came over the line.
#[derive(Debug)]
pub(super) enum Heard {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame, which the protocol does not have.
    Binary,
    /// A ping or pong of the WebSocket itself: it lives.
    SignOfLife,
    /// A frame over the size limit. Nothing can be heard after it.
    TooLarge,
    /// Text that is not UTF-8. Nothing can be heard after it.
    NotUtf8,
    /// Something that is not WebSocket. Nothing can be heard after it.
    Garbage,
    /// Closed, or broken off.
    Gone,
}

/// The peer does not read any more, or is gone: there is nobody to say anything to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone;

pub(super) struct Peer {
    socket: WebSocket,
    patience: Duration,
    stopping: Stopping,
}

impl Peer {
    pub(super) fn new(socket: WebSocket, patience: Duration, stopping: Stopping) -> Self {
        Self { socket, patience, stopping }
    }

    /// Waits for the next frame. May be dropped without losing one.
    pub(super) async fn hear(&mut self) -> Heard {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) => Heard::Text(text),
            Some(Ok(Message::Binary(_))) => Heard::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Heard::SignOfLife,
            Some(Ok(Message::Close(_))) => {
                // The reply waits to be sent; the next read does it, and finds the end.
                let _ = timeout(HANDSHAKE, self.socket.recv()).await;
                Heard::Gone
            }
            Some(Err(error)) => fault(&error),
            None => Heard::Gone,
        }
    }

    /// The next frame, where it has come already.
    pub(super) fn hear_now(&mut self) -> Option<Heard> {
        self.hear().now_or_never()
    }

    /// Says a frame; it may wait for [`Self::flush`].
    pub(super) async fn say(&mut self, text: String) -> Result<(), Gone> {
        let Self { socket, patience, stopping } = self;
        patiently(socket.feed(Message::Text(text.into())), *patience, stopping).await
    }

    /// Asks for a sign of life.
    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        let Self { socket, patience, stopping } = self;
        patiently(socket.send(Message::Ping(Vec::new().into())), *patience, stopping).await
    }

    /// Sees to it that everything said is on its way.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        let Self { socket, patience, stopping } = self;
        patiently(socket.flush(), *patience, stopping).await
    }

    /// Closes the connection: what was said arrives, then the reason, then the end.
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let Self { socket, patience, stopping } = &mut self;
        if patiently(socket.send(Message::Close(Some(frame))), *patience, stopping).await.is_ok() {
            let handshake = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = timeout(HANDSHAKE, handshake).await;
        }
    }
}

/// Waits for the peer to take what is sent, as long as it may take.
async fn patiently<T, E>(
    sending: impl Future<Output = Result<T, E>>,
    patience: Duration,
    stopping: &mut Stopping,
) -> Result<(), Gone> {
    let hurry = async {
        stopping.wait().await;
        tokio::time::sleep(WHILE_STOPPING.min(patience)).await;
    };
    tokio::select! {
        biased;
        sent = timeout(patience, sending) => match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Gone),
        },
        () = hurry => Err(Gone),
    }
}

fn fault(error: &axum::Error) -> Heard {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(tungstenite::Error::Capacity(_)) => Heard::TooLarge,
        Some(tungstenite::Error::Utf8(_)) => Heard::NotUtf8,
        Some(tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )) => Heard::Gone,
        Some(tungstenite::Error::Protocol(_)) => Heard::Garbage,
        _ => Heard::Gone,
    }
}
