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
pub(super) enum Received {
    /// A text frame.
    Text(Utf8Bytes),
    /// A binary frame, which the protocol does not use.
    Binary,
    /// A WebSocket ping or pong, which shows that the client is alive.
    PingOrPong,
    /// A frame over the size limit. Nothing can be received after it.
    TooLarge,
    /// Text that is not UTF-8. Nothing can be received after it.
    NotUtf8,
    /// Bytes that are not a WebSocket frame. Nothing can be received after them.
    Garbage,
    /// The connection was closed or has failed.
    Disconnected,
}

/// The client no longer reads or has disconnected, so nothing can be sent to it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Disconnected;

pub(super) struct Peer {
    socket: WebSocket,
    send_timeout: Duration,
    stopping: Stopping,
}

impl Peer {
    pub(super) fn new(socket: WebSocket, send_timeout: Duration, stopping: Stopping) -> Self {
        Self { socket, send_timeout, stopping }
    }

    /// Waits for the next frame. Cancellation-safe: no frame is lost if the future is dropped.
    pub(super) async fn recv(&mut self) -> Received {
        match self.socket.recv().await {
            Some(Ok(Message::Text(text))) => Received::Text(text),
            Some(Ok(Message::Binary(_))) => Received::Binary,
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Received::PingOrPong,
            Some(Ok(Message::Close(_))) => {
                // The reply to the close frame is still to be sent: the next read sends it and finds the end.
                let _ = timeout(HANDSHAKE, self.socket.recv()).await;
                Received::Disconnected
            }
            Some(Err(error)) => classify_error(&error),
            None => Received::Disconnected,
        }
    }

    /// Returns the next frame if it has already arrived.
    pub(super) fn try_recv(&mut self) -> Option<Received> {
        self.recv().now_or_never()
    }

    /// Queues a frame; [`Self::flush`] makes sure that it is sent.
    pub(super) async fn feed(&mut self, text: String) -> Result<(), Disconnected> {
        let Self { socket, send_timeout, stopping } = self;
        within_timeout(socket.feed(Message::Text(text.into())), *send_timeout, stopping).await
    }

    /// Sends a ping.
    pub(super) async fn ping(&mut self) -> Result<(), Disconnected> {
        let Self { socket, send_timeout, stopping } = self;
        within_timeout(socket.send(Message::Ping(Vec::new().into())), *send_timeout, stopping).await
    }

    /// Sends all queued frames.
    pub(super) async fn flush(&mut self) -> Result<(), Disconnected> {
        let Self { socket, send_timeout, stopping } = self;
        within_timeout(socket.flush(), *send_timeout, stopping).await
    }

    /// Closes the connection: sends the queued frames and the close frame with the reason, then waits for the
    /// handshake.
    pub(super) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from_static(reason) };
        let Self { socket, send_timeout, stopping } = &mut self;
        if within_timeout(socket.send(Message::Close(Some(frame))), *send_timeout, stopping).await.is_ok() {
            let handshake = async { while let Some(Ok(_)) = self.socket.recv().await {} };
            let _ = timeout(HANDSHAKE, handshake).await;
        }
    }
}

/// Waits until the frame is sent, at most `send_timeout`, or less if the server shuts down.
async fn within_timeout<T, E>(
    sending: impl Future<Output = Result<T, E>>,
    send_timeout: Duration,
    stopping: &mut Stopping,
) -> Result<(), Disconnected> {
    let hurry = async {
        stopping.wait().await;
        tokio::time::sleep(WHILE_STOPPING.min(send_timeout)).await;
    };
    tokio::select! {
        biased;
        sent = timeout(send_timeout, sending) => match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Disconnected),
        },
        () = hurry => Err(Disconnected),
    }
}

fn classify_error(error: &axum::Error) -> Received {
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(tungstenite::Error::Capacity(_)) => Received::TooLarge,
        Some(tungstenite::Error::Utf8(_)) => Received::NotUtf8,
        Some(tungstenite::Error::Protocol(
            tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        )) => Received::Disconnected,
        Some(tungstenite::Error::Protocol(_)) => Received::Garbage,
        _ => Received::Disconnected,
    }
}
