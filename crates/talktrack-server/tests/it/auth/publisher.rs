//! A project that publishes its keys over HTTP, with faults if a test asks for them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use super::signing::{SigningKey, claims};

/// The path that the server requests.
const PATH: &str = "/auth/v1/.well-known/jwks.json";

/// How the project responds.
#[derive(Debug, Clone)]
pub(super) enum Manner {
    /// With this status and this body.
    Answer(u16, String),
    /// It accepts the connection and never responds.
    Silent,
    /// It closes the connection at once.
    Gone,
    /// With a body that never ends.
    Endless,
}

/// A running project. Dropping it stops the project.
pub(super) struct Publisher {
    pub(super) address: SocketAddr,
    scheme: &'static str,
    manner: Arc<Mutex<Manner>>,
    asked: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Publisher {
    /// Starts a project that publishes these keys.
    pub(super) async fn of(keys: &[&SigningKey]) -> Self {
        Self::start(keys, None).await
    }

    /// Starts a project that publishes these keys over TLS.
    pub(super) async fn over_tls(keys: &[&SigningKey], acceptor: TlsAcceptor) -> Self {
        Self::start(keys, Some(acceptor)).await
    }

    async fn start(keys: &[&SigningKey], acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let manner = Arc::new(Mutex::new(publishing(keys)));
        let asked = Arc::<AtomicUsize>::default();
        let shown = Arc::clone(&manner);
        let counted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let manner = shown.lock().clone();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    match acceptor {
                        None => answer(stream, manner).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => answer(stream, manner).await,
                            Err(_) => None,
                        },
                    }
                });
            }
        });
        Self { address, scheme, manner, asked, task: task.abort_handle() }
    }

    /// Returns the URL of the project.
    pub(super) fn url(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    /// Replaces the published keys.
    pub(super) fn publishes(&self, keys: &[&SigningKey]) {
        self.behaves(publishing(keys));
    }

    pub(super) fn behaves(&self, manner: Manner) {
        *self.manner.lock() = manner;
    }

    /// Returns how many connections the project has accepted.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Makes a valid token of a new user, signed with this key.
    pub(super) fn token(&self, key: &SigningKey) -> String {
        key.token(&self.claims(Uuid::new_v4()))
    }

    /// Returns the claims of a valid token of this project.
    pub(super) fn claims(&self, user: Uuid) -> Value {
        let mut claims = claims(user);
        claims["iss"] = format!("{}/auth/v1", self.url()).into();
        claims
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn publishing(keys: &[&SigningKey]) -> Manner {
    let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
    Manner::Answer(200, json!({"keys": keys}).to_string())
}

/// Responds to a request; `None` if the connection breaks.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, manner: Manner) -> Option<()> {
    if matches!(manner, Manner::Gone) {
        return None;
    }
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    assert!(head.starts_with(&format!("GET {PATH} HTTP/1.1\r\n")), "{head}");
    match manner {
        Manner::Answer(status, body) => {
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
        Manner::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"keys\":[").await.ok()?;
            loop {
                stream.write_all(&[b' '; 4096]).await.ok()?;
            }
        }
        Manner::Silent | Manner::Gone => _ = stream.read_u8().await,
    }
    Some(())
}
