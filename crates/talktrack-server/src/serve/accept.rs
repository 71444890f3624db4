//! The accept loop: one task a connection, until it becomes a WebSocket's or ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower_service::Service as _;

use super::linger::Linger;
use crate::config::Config;
use crate::guard::PeerAddress;
use crate::limits::{Admitted, Connections};

/// How long a client may take to say what it wants, and may keep a connection that it does not use.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The head of a request. A token of a user may take some of it.
const MAX_HEAD_BYTES: usize = 32 << 10;

/// What is read ahead of a connection's body.
const READ_AHEAD: usize = 128 << 10;

/// Refusals that are being told; of more than these, the connections are closed without a word.
const REFUSALS: usize = 256;

/// A pause after the system had no connection to give (no file descriptor is free, say): some will be given back.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// Accepts and answers until it is dropped.
pub(super) async fn accept(listener: TcpListener, router: Router, config: Config) {
    let connections = Connections::new(&config);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let patience = config.peer_timeout;
    loop {
        let Some((stream, peer)) = next(&listener).await else { continue };
        match connections.admit(peer) {
            Ok(Admitted { slot, place }) => {
                let router = router.clone();
                let stream = Linger::new(stream, place);
                tokio::spawn(async move {
                    serve(stream, patience, router, peer).await;
                    drop(slot);
                });
            }
            Err(problem) => {
                let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() else { continue };
                let refuse = Router::new().fallback(async move || problem.clone());
                tokio::spawn(async move {
                    // Its own patience is short: the head of one request.
                    serve(Linger::new(stream, None), HEADER_TIMEOUT, refuse, peer).await;
                    drop(refusal);
                });
            }
        }
    }
}

/// Answers what comes over a connection, until it ends or becomes a WebSocket.
/// A peer that takes nothing of what is sent is given up after `patience`.
async fn serve(stream: Linger, patience: Duration, router: Router, peer: IpAddr) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.max_header_size(MAX_HEAD_BYTES).max_buf_size(READ_AHEAD);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        // Always ready.
        router.clone().call(request)
    });
    let connection = server.serve_connection(TokioIo::new(Box::pin(stream)), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn next(listener: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Acks are small and awaited: they must not wait for company.
            let _ = stream.set_nodelay(true);
            Some((stream, peer.ip()))
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
