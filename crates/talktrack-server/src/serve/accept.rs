//! The accept loop. Each connection is one task until it ends or becomes a WebSocket.

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

use super::lingering_close::LingeringClose;
use crate::config::Config;
use crate::limits::{Admitted, Connections};
use crate::middleware::PeerAddress;
use crate::path_prefix::PathPrefix;

/// How long a client may take to send the head of a request, and how long it may keep an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of bytes that are buffered from a connection, which is also the size of a head of a request that is
/// refused without a problem document. A smaller head that is too large gets one from the middleware.
const READ_AHEAD: usize = 128 << 10;

/// The maximum number of refusals that are being sent at once. Further refused connections are closed without an
/// answer.
const REFUSALS: usize = 256;

/// The pause after the system could not provide a connection, for example because no file descriptor was free. Other
/// connections will free some.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// Accepts connections and answers requests until the future is dropped.
pub(super) async fn accept_connections(listener: TcpListener, router: Router, config: Config) {
    let connections = Connections::new(&config);
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let write_timeout = config.peer_timeout;
    let base_path = config.base_path.clone();
    loop {
        let Some((stream, peer)) = accept_next(&listener).await else { continue };
        match connections.admit_connection(peer) {
            Ok(Admitted { slot, place }) => {
                let router = router.clone();
                let stream = LingeringClose::new(stream, place);
                let base_path = base_path.clone();
                tokio::spawn(async move {
                    serve_connection(stream, write_timeout, router, peer, base_path).await;
                    drop(slot);
                });
            }
            Err(problem) => {
                let Ok(refusal) = Arc::clone(&refusals).try_acquire_owned() else { continue };
                let refuse = Router::new().fallback(async move || problem.clone());
                tokio::spawn(async move {
                    // A refusal gets a short time limit, which is enough for the head of one request.
                    let stream = LingeringClose::new(stream, None);
                    serve_connection(stream, HEADER_TIMEOUT, refuse, peer, PathPrefix::default()).await;
                    drop(refusal);
                });
            }
        }
    }
}

/// Answers the requests of a connection until it ends or becomes a WebSocket. Gives up on a client that accepts nothing
/// of the response for `write_timeout`. The paths of requests may begin with `base_path`: some proxies pass it on,
/// others remove it.
async fn serve_connection(
    stream: LingeringClose,
    write_timeout: Duration,
    router: Router,
    peer: IpAddr,
    base_path: PathPrefix,
) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(write_timeout));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    server.max_header_size(READ_AHEAD).max_buf_size(READ_AHEAD);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(PeerAddress(peer));
        if let Some(uri) = base_path.strip(request.uri()) {
            *request.uri_mut() = uri;
        }
        // A router is always ready, so there is no need to poll for readiness.
        router.clone().call(request)
    });
    let connection = server.serve_connection(TokioIo::new(Box::pin(stream)), service).with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn accept_next(listener: &TcpListener) -> Option<(TcpStream, IpAddr)> {
    match listener.accept().await {
        Ok((stream, peer)) => {
            // Acks are small and urgent, so Nagle's algorithm must not delay them.
            let _ = stream.set_nodelay(true);
            Some((stream, peer.ip()))
        }
        Err(error) => {
            if !is_peer_error(&error) {
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(NO_DESCRIPTOR).await;
            }
            None
        }
    }
}

/// True if the error means that the client disconnected before it was accepted.
fn is_peer_error(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
