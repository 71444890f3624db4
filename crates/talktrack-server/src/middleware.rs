//! Middleware in front of all endpoints: determines the client's address, applies the rate limit of the address and the
//! time limit of the request, and adds security headers to every response.

use std::net::IpAddr;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, LOCATION, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use talktrack::ErrorCode;
use tokio::time::timeout;

use crate::error::Problem;
use crate::limits::{ClientAddress, OverTls};
use crate::path_prefix::PathPrefix;
use crate::state::AppState;

/// The peer of the connection that a request came over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerAddress(pub(crate) IpAddr);

/// The maximum size of the head of a request. A user's token may take up part of it. Of a head that is much larger, the
/// connection reads no more than its buffer takes, and its answer has no body.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// The bytes around the name and the value of a header field.
const FIELD_OVERHEAD: usize = 4;

/// Paths that load balancers request often and without credentials.
const NEVER_LIMITED: [&str; 2] = ["/healthz", "/readyz"];

/// The default headers of every response. They forbid browsers to embed a response in another page, to cache it, and to
/// guess its type.
const HEADERS: [(HeaderName, &str); 6] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// Sent only behind TLS: a browser that has received it uses only TLS for a year.
const ONLY_OVER_TLS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Passes a request on to its endpoint.
pub(crate) async fn guard_request(
    State(state): State<AppState>,
    mut request: Request,
    next: Next,
) -> Response {
    let admitted = admit_request(&state, &mut request);
    let is_over_tls = matches!(request.extensions().get(), Some(OverTls(true)));
    let prefix = request.extensions().get::<PathPrefix>().cloned().unwrap_or_default();
    let mut answer = match admitted {
        Ok(()) => run_with_timeout(&state, request, next).await,
        Err(problem) => problem.into_response(),
    };
    state.refusals().note(&answer);
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        for (name, value) in HEADERS {
            answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
        if is_over_tls {
            answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, ONLY_OVER_TLS);
        }
        add_path_prefix(&prefix, &mut answer);
    }
    answer
}

/// Adds the path prefix to the address that the answer leads to.
fn add_path_prefix(prefix: &PathPrefix, answer: &mut Response) {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    if let Some(location) = location.and_then(|location| prefix.add_to(location))
        && let Ok(location) = HeaderValue::try_from(location)
    {
        answer.headers_mut().insert(LOCATION, location);
    }
}

fn admit_request(state: &AppState, request: &mut Request) -> Result<(), Problem> {
    check_head(request)?;
    let Some(&PeerAddress(peer)) = request.extensions().get() else { return Ok(()) };
    let client = state.limits().client_of(peer, request.headers());
    let is_over_tls = state.limits().is_over_tls(peer, request.headers());
    request.extensions_mut().insert(ClientAddress(client));
    request.extensions_mut().insert(OverTls(is_over_tls));
    let prefix = state.limits().path_prefix(peer, request.headers());
    request.extensions_mut().insert(prefix);
    state.origins().check_host(request.uri(), request.headers())?;
    if NEVER_LIMITED.contains(&request.uri().path()) {
        return Ok(());
    }
    state.limits().take_from_address(client)?;
    state.origins().check_writing(request.method(), request.headers())
}

/// Refuses a head that is longer than [`MAX_HEAD_BYTES`].
fn check_head(request: &Request) -> Result<(), Problem> {
    let fields =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD);
    let length = fields.sum::<usize>() + request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length <= MAX_HEAD_BYTES {
        return Ok(());
    }
    let detail = format!("the path and the headers may have at most {MAX_HEAD_BYTES} bytes together");
    Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, ErrorCode::TooLarge, detail))
}

async fn run_with_timeout(state: &AppState, request: Request, next: Next) -> Response {
    // Uploading a recording has no total time limit. Its endpoint checks that bytes keep arriving.
    if request.method() == Method::POST && request.uri().path().ends_with("/audio") {
        return next.run(request).await;
    }
    let deadline = state.config().request_timeout;
    match timeout(deadline, next.run(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = format!("the request took longer than {deadline:?} (request_timeout)");
            Problem::new(StatusCode::REQUEST_TIMEOUT, ErrorCode::Timeout, detail).into_response()
        }
    }
}
