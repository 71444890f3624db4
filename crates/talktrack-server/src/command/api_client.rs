//! A client of the HTTP API of a running server.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use talktrack::clock::Seq;
use talktrack_protocol::Secret;

use crate::error::Failure;
use crate::{terminal, tls};

/// The time limit of a request. It is longer than a server takes for any request made here.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// The time limit for connecting to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of attempts while the server asks to retry later.
const ATTEMPTS: usize = 20;

/// A server and the token to authenticate with. It implements no `Debug`, because it contains a token.
pub(super) struct ApiClient {
    client: Client,
    /// The URL without a slash at its end.
    pub(super) url: String,
    token: Option<Secret>,
}

/// A response of the server, which may be an error.
pub(super) struct ApiResponse {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl ApiClient {
    /// Makes a client for the server at this URL.
    ///
    /// # Errors
    /// Fails if the URL is not `http://` or `https://`.
    pub(super) fn new(url: &str, token: Option<Secret>) -> Result<Self, Failure> {
        let tls = match url.split_once("://") {
            Some(("http", _)) => no_tls()?,
            Some(("https", _)) => tls::client_config().map_err(Failure::new)?,
            _ => {
                return Err(Failure::usage(format_args!(
                    "--url: must begin with http:// or https://, not {url:?}"
                )));
            }
        };
        let client = Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        Ok(Self { client: client.map_err(Failure::new)?, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Sends a GET request.
    pub(super) async fn get(&self, path: &str) -> Result<ApiResponse, Failure> {
        self.send(Method::GET, path, "application/json", Vec::new()).await
    }

    /// Sends a request with a JSON body.
    pub(super) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<ApiResponse, Failure> {
        self.send(method, path, "application/json", body.to_string().into_bytes()).await
    }

    /// Uploads a recording and returns its `audio_url`.
    pub(super) async fn upload_recording(&self, path: &str, wav: Vec<u8>) -> Result<Value, Failure> {
        let kept = self.send(Method::POST, path, "audio/wav", wav).await?.into_body()?;
        Ok(kept["audio_url"].clone())
    }

    /// Sends a request, and retries while the server asks for it with `Retry-After`.
    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<ApiResponse, Failure> {
        for _ in 0..ATTEMPTS {
            let request = self.request(method.clone(), path).timeout(REQUEST_TIMEOUT);
            let request = request.header("content-type", content_type).body(body.clone());
            let answer = request.send().await.map_err(|error| self.out_of_reach(&error))?;
            let status = answer.status();
            let later =
                answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let text = answer.text().await.map_err(|error| self.out_of_reach(&error))?;
            match later.filter(|_| !status.is_success()) {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => {
                    return Ok(ApiResponse { status, body: serde_json::from_str(&text).unwrap_or_default() });
                }
            }
        }
        Err(Failure::new(format_args!("{} still has no room after {ATTEMPTS} attempts", self.url)))
    }

    /// Opens the stream of the events after the one with this id; without an id, of the events from now on.
    pub(super) async fn open_events(&self, after: Option<Seq>) -> Result<Response, NoEvents> {
        let after = after.map_or_else(String::new, |after| format!("?last_event_id={after}"));
        let sent = self.request(Method::GET, &format!("/v1/events{after}")).send().await;
        let response = sent.map_err(|error| NoEvents::Unavailable(self.out_of_reach(&error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = serde_json::from_str(&response.text().await.unwrap_or_default()).unwrap_or_default();
        let failure = ApiResponse { status, body }.into_refusal();
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => NoEvents::Unavailable(failure),
            status if status.is_server_error() => NoEvents::Unavailable(failure),
            _ => NoEvents::Refused(failure),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    fn out_of_reach(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() {
            let hint = "start the server with `talktrack serve`, or name another one with --url";
            return Failure::new(format_args!("no server answers at {}; {hint}", self.url));
        }
        Failure::new(format_args!("{} did not answer: {error}", self.url))
    }
}

impl ApiResponse {
    /// Returns the body if the whole request succeeded.
    ///
    /// # Errors
    /// Fails if the status is an error, or 207 because some messages were refused.
    pub(super) fn into_body(self) -> Result<Value, Failure> {
        if self.status.is_success() && self.status != StatusCode::MULTI_STATUS {
            return Ok(self.body);
        }
        Err(self.into_refusal())
    }

    fn into_refusal(self) -> Failure {
        let first = self.body["acks"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|ack| ack["error"]["message"].as_str());
        let words = first.or(self.body["detail"].as_str()).unwrap_or("check the URL");
        Failure::new(format_args!(
            "the server refused the request ({}): {}",
            self.status.as_u16(),
            terminal::escape_line(words)
        ))
    }
}

/// Why a server does not stream its events.
pub(super) enum NoEvents {
    /// It cannot be reached, or has no room now. A later attempt may succeed.
    Unavailable(Failure),
    /// It refuses this caller.
    Refused(Failure),
}

impl NoEvents {
    pub(super) fn into_failure(self) -> Failure {
        let (Self::Unavailable(failure) | Self::Refused(failure)) = self;
        failure
    }
}

/// Makes a TLS configuration without root certificates, for a client that only uses plain HTTP.
fn no_tls() -> Result<Arc<ClientConfig>, Failure> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(Failure::new)?;
    Ok(Arc::new(config.with_root_certificates(RootCertStore::empty()).with_no_client_auth()))
}
