//! One document over HTTP or HTTPS: a fresh connection, no redirects, nothing larger than it should be. For one small file
//! every ten minutes, that is all the client we need.

use axum::body::Bytes;
use axum::http::header::{ACCEPT, HOST, USER_AGENT};
use axum::http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tls;

/// Bytes of the answer's head that are read at most.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// What stands at this URL, up to `limit` bytes of it.
///
/// # Errors
/// Says in words why it is not to be had.
pub(super) async fn get(url: &Uri, limit: usize) -> Result<Bytes, String> {
    let host = url.host().ok_or("the URL names no host")?.trim_matches(['[', ']']);
    let is_encrypted = url.scheme_str() == Some("https");
    let port = url.port_u16().unwrap_or(if is_encrypted { 443 } else { 80 });
    let stream =
        TcpStream::connect((host, port)).await.map_err(|error| format!("cannot connect: {error}"))?;
    if !is_encrypted {
        return request(stream, url, limit).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connected = TlsConnector::from(tls::client_config()?).connect(name, stream).await;
    request(connected.map_err(|error| format!("TLS: {error}"))?, url, limit).await
}

async fn request<S>(stream: S, url: &Uri, limit: usize) -> Result<Bytes, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let in_words = |error: hyper::Error| error.to_string();
    let mut client = http1::Builder::new();
    client.max_buf_size(MAX_HEAD_BYTES);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(in_words)?;
    // Ends by itself when the sender is gone.
    tokio::spawn(connection);
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("talktrack/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = sender.send_request(request).await.map_err(in_words)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    let body = Limited::new(answer.into_body(), limit).collect().await;
    body.map(|body| body.to_bytes()).map_err(|error| error.to_string())
}
