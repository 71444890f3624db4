//! The accept loop: one task a connection, until it becomes a WebSocket's or ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;

use super::linger::Linger;
use crate::config::Config;

/// How long a client may take to say what it wants, and may keep a connection that it does not use.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that speak plain HTTP, or have yet to say what they speak, besides those that listen to events. One more waits
/// to be accepted.
const HTTP_CONNECTIONS: usize = 1_024;

/// A pause after the system had no connection to give (no file descriptor is free, say): some will be given back.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// What a connection is held to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    connections: usize,
    /// How long a peer may take nothing of what is sent to it.
    patience: Duration,
}

impl Bounds {
    pub(super) fn of(config: &Config) -> Self {
        let connections = HTTP_CONNECTIONS.saturating_add(config.max_listeners).min(Semaphore::MAX_PERMITS);
        Self { connections, patience: config.peer_timeout }
    }
}

/// Accepts and answers until it is dropped.
pub(super) async fn accept(listener: TcpListener, router: Router, bounds: Bounds) {
    let service = TowerToHyperService::new(router);
    let slots = Arc::new(Semaphore::new(bounds.connections));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(stream) = next(&listener).await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let mut stream = TimeoutStream::new(Linger::new(stream));
            stream.set_write_timeout(Some(bounds.patience));
            let stream = TokioIo::new(Box::pin(stream));
            let connection = server.serve_connection(stream, service).with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
}

async fn next(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => {
            // Acks are small and awaited: they must not wait for company.
            let _ = stream.set_nodelay(true);
            Some(stream)
        }
        Err(error) => {
            if !is_the_peers(&error) {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(NO_DESCRIPTOR).await;
            }
            None
        }
    }
}

/// The peer left before it was accepted.
fn is_the_peers(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
