//! The accept loop: one task a connection, until it becomes a WebSocket's or ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::linger::Linger;

/// How long a client may take to say what it wants, and may keep a connection that it does not use.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that speak plain HTTP, or have yet to say what they speak. One more waits to be accepted.
const HTTP_CONNECTIONS: usize = 1_024;

/// A pause after the system had no connection to give (no file descriptor is free, say): some will be given back.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// Accepts and answers until it is dropped.
pub(super) async fn accept(listener: TcpListener, router: Router) {
    let service = TowerToHyperService::new(router);
    let slots = Arc::new(Semaphore::new(HTTP_CONNECTIONS));
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
        let Some(stream) = next(&listener).await else { continue };
        let service = service.clone();
        tokio::spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            let connection =
                server.serve_connection(TokioIo::new(Linger::new(stream)), service).with_upgrades();
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
