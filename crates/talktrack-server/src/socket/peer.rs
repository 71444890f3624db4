//! The client's end of a WebSocket: receives and sends frames, each with a time limit.

use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{FutureExt as _, SinkExt as _};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite;

use crate::state::Stopping;

/// How long the close handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(1);

/// How long a client that does not read may delay the shutdown of the server.
const WHILE_STOPPING: Duration = Duration::from_secs(2);

/// What was received.
#[derive(Debug)]
pub(super) enum Heard {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame, which the protocol does not use.
    Binary,
    /// A WebSocket ping or pong, which shows that the client is alive.
    SignOfLife,
    /// A frame over the size limit. Nothing can be received after it.
    TooLarge,
    /// Text that is not UTF-8. Nothing can be received after it.
    NotUtf8,
    /// Bytes that are not a WebSocket frame. Nothing can be received after them.
    Garbage,
    /// The connection was closed or has failed.
    Gone,
}

/// The client no longer reads or has disconnected, so nothing can be sent to it.
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

    /// Waits for the next frame. Cancellation-safe: no frame is lost if the future is dropped.
    pub(super) async fn hear(&mut self) -> Heard {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) => Heard::Text(text),
            Some(Ok(Message::Binary(_))) => Heard::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Heard::SignOfLife,
            Some(Ok(Message::Close(_))) => {
                // The reply to the close frame is still to be sent: the next read sends it and finds the end.
                let _ = timeout(HANDSHAKE, self.socket.recv()).await;
                Heard::Gone
            }
            Some(Err(error)) => fault(&error),
            None => Heard::Gone,
        }
    }

    /// Returns the next frame if it has already arrived.
    pub(super) fn hear_now(&mut self) -> Option<Heard> {
        self.hear().now_or_never()
    }

    /// Queues a frame; [`Self::flush`] makes sure that it is sent.
    pub(super) async fn say(&mut self, text: String) -> Result<(), Gone> {
        let Self { socket, patience, stopping } = self;
        patiently(socket.feed(Message::Text(text.into())), *patience, stopping).await
    }

    /// Sends a ping.
    pub(super) async fn ping(&mut self) -> Result<(), Gone> {
        let Self { socket, patience, stopping } = self;
        patiently(socket.send(Message::Ping(Vec::new().into())), *patience, stopping).await
    }

    /// Sends all queued frames.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        let Self { socket, patience, stopping } = self;
        patiently(socket.flush(), *patience, stopping).await
    }

    /// Closes the connection: sends the queued frames and the close frame with the reason, then waits for the
    /// handshake.
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let Self { socket, patience, stopping } = &mut self;
        if patiently(socket.send(Message::Close(Some(frame))), *patience, stopping).await.is_ok() {
            let handshake = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = timeout(HANDSHAKE, handshake).await;
        }
    }
}

/// Waits until the frame is sent, at most `patience`, or less if the server shuts down.
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
