//! The address of the server as a browser sees it, and the addresses in pages.

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use axum::extract::{Extension, FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use crate::path_prefix::PathPrefix;

/// The address of this server as the browser sees it.
#[derive(Debug, Clone)]
pub(super) struct ServerAddress {
    is_over_tls: bool,
    /// The host, its port and the path prefix.
    place: String,
}

impl ServerAddress {
    /// Returns the address for HTTP, without a slash at its end.
    pub(super) fn http(&self) -> String {
        format!("{}://{}", if self.is_over_tls { "https" } else { "http" }, self.place)
    }

    /// Returns the address for WebSockets, without a slash at its end.
    pub(super) fn websocket(&self) -> String {
        format!("{}://{}", if self.is_over_tls { "wss" } else { "ws" }, self.place)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ServerAddress {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let host = parts.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8080");
        let prefix = parts.extensions.get::<PathPrefix>().map_or("", PathPrefix::as_str);
        // The address is only shown, so any proxy may say that it is over TLS.
        let proto = parts.headers.get("x-forwarded-proto");
        let is_over_tls = proto.is_some_and(|proto| proto == "https");
        Ok(Self { is_over_tls, place: format!("{host}{prefix}") })
    }
}

/// Passes a request on, and adds the path prefix to the addresses in the page.
pub(super) async fn add_path_prefix(
    prefix: Option<Extension<PathPrefix>>,
    request: Request,
    next: Next,
) -> Response {
    with_path_prefix(prefix, next.run(request).await).await
}

/// Adds the path prefix to the addresses in a page. Doing it here means that no page can forget it.
pub(super) async fn with_path_prefix(prefix: Option<Extension<PathPrefix>>, answer: Response) -> Response {
    let Some(Extension(prefix)) = prefix.filter(|prefix| !prefix.as_str().is_empty()) else { return answer };
    let is_page = |kind: &axum::http::HeaderValue| kind.as_bytes().starts_with(b"text/html");
    if !answer.headers().get(CONTENT_TYPE).is_some_and(is_page) {
        return answer;
    }
    let (head, body) = answer.into_parts();
    // A page is complete before it is sent, so reading it cannot fail.
    let html = to_bytes(body, usize::MAX).await.unwrap_or_default();
    Response::from_parts(head, Body::from(prefix.add_to_page(&String::from_utf8_lossy(&html))))
}
