//! Fetches one small document over HTTP or HTTPS, without following redirects.

use axum::body::Bytes;
use axum::http::Uri;
use axum::http::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use rustls::ClientConfig;
use talktrack_client::tls;

/// Fetches the document at this URL, up to `limit` bytes. Each call opens its own connection, so that it trusts the
/// system's current root certificates. `HTTPS_PROXY` and `NO_PROXY` are respected.
///
/// # Errors
/// Says in words why the document cannot be fetched.
pub(super) async fn get(url: &Uri, limit: usize) -> Result<Bytes, String> {
    let client = Client::builder()
        .tls_backend_preconfigured(ClientConfig::clone(
            &*tls::client_config().map_err(|error| error.to_string())?,
        ))
        .redirect(Policy::none())
        .user_agent(concat!("talktrack/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(describe)?;
    let request = client.get(url.to_string()).header(ACCEPT, "application/json");
    let mut answer = request.send().await.map_err(describe)?;
    if answer.status() != StatusCode::OK {
        return Err(format!("the answer is {}", answer.status()));
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(describe)? {
        if body.len() + chunk.len() > limit {
            return Err(format!("the answer is longer than {limit} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// Returns the text of the innermost cause, since the outer ones only repeat it. The caller names the URL.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    causes.last().map_or_else(String::new, ToString::to_string)
}
