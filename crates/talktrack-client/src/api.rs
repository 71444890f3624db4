//! A client of the HTTP API of a running server.

mod error;

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use serde_json::Value;
use talktrack_core::clock::Seq;
use talktrack_protocol::Secret;

pub use error::{OpenEventsError, Refusal, RequestError};

use crate::address::InvalidServer;
use crate::events::EventStream;
use crate::tls;

/// The content type of a body in JSON.
const JSON: &str = "application/json";

/// The time limit of a request. It is longer than a server takes for any request made here.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// The time limit for connecting to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum number of attempts while the server asks to retry later.
const ATTEMPTS: usize = 20;

/// A server and the token to authenticate with. It implements no `Debug`, because it contains a token.
pub struct ApiClient {
    client: Client,
    url: String,
    token: Option<Secret>,
}

/// A response of the server, which may be an error.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ApiResponse {
    /// The status of the response.
    pub status: StatusCode,
    /// The body. [`Value::Null`] if it is no JSON.
    pub body: Value,
}

/// A response of the server as text, which may be an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TextResponse {
    /// The status of the response.
    pub status: StatusCode,
    /// The body.
    pub body: String,
}

impl ApiClient {
    /// Makes a client for the server at this URL.
    ///
    /// # Errors
    /// Fails if the URL is not `http://` or `https://`.
    pub fn new(url: &str, token: Option<Secret>) -> Result<Self, InvalidServer> {
        let tls = match url.split_once("://") {
            Some(("http", _)) => tls::no_tls()?,
            Some(("https", _)) => tls::client_config()?,
            _ => {
                let url = url.to_owned();
                return Err(InvalidServer::Scheme { expected: "http:// or https://", url });
            }
        };
        let client = Client::builder()
            .tls_backend_preconfigured(Arc::unwrap_or_clone(tls))
            .connect_timeout(CONNECT_TIMEOUT)
            .build();
        let client = client.map_err(|error| InvalidServer::Http(error.to_string()))?;
        Ok(Self { client, url: url.trim_end_matches('/').to_owned(), token })
    }

    /// Returns the URL of the server, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a GET request. The path begins with a slash. Retries while the server asks for it with `Retry-After`.
    ///
    /// # Errors
    /// Fails if the server does not answer, or has no room for a long time. An answer that is an error is a response.
    pub async fn get(&self, path: &str) -> Result<ApiResponse, RequestError> {
        self.send(Method::GET, path, JSON, Vec::new()).await
    }

    /// Sends a GET request, and reads the body of a successful answer as `T`. Retries as [`Self::get`] does. Unlike a
    /// [`Value`], `T` can keep numbers and objects as the server wrote them.
    ///
    /// # Errors
    /// Fails as [`Self::get`] does, or if the server refuses the request, or if the body is not a `T`.
    pub async fn get_as<T: DeserializeOwned>(&self, path: &str) -> Result<T, RequestError> {
        let answer = self.get_text(path).await?;
        if !answer.status.is_success() {
            return Err(answer.parse().into_refusal().into());
        }
        let url = self.url.clone();
        serde_json::from_str(&answer.body)
            .map_err(|error| RequestError::InvalidAnswer { url, problem: error.to_string() })
    }

    /// Sends a GET request, and returns the body as text. Retries as [`Self::get`] does.
    ///
    /// # Errors
    /// Fails as [`Self::get`] does.
    pub async fn get_text(&self, path: &str) -> Result<TextResponse, RequestError> {
        self.exchange(Method::GET, path, JSON, Vec::new()).await
    }

    /// Sends a request with a JSON body. Retries as [`Self::get`] does.
    ///
    /// # Errors
    /// Fails as [`Self::get`] does.
    pub async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<ApiResponse, RequestError> {
        self.send(method, path, JSON, body.to_string().into_bytes()).await
    }

    /// Sends a request whose body is this text of JSON. Retries as [`Self::get`] does.
    ///
    /// # Errors
    /// Fails as [`Self::get`] does.
    pub async fn send_text(
        &self,
        method: Method,
        path: &str,
        json: String,
    ) -> Result<ApiResponse, RequestError> {
        self.send(method, path, JSON, json.into_bytes()).await
    }

    /// Uploads a recording and returns its `audio_url`. Retries as [`Self::get`] does.
    ///
    /// # Errors
    /// Fails as [`Self::get`] does, or if the server refuses the recording, or if its answer has no `audio_url`.
    pub async fn upload_recording(&self, path: &str, wav: Vec<u8>) -> Result<String, RequestError> {
        let kept = self.send(Method::POST, path, "audio/wav", wav).await?.into_body()?;
        let audio_url = kept["audio_url"].as_str().map(str::to_owned);
        audio_url.ok_or_else(|| {
            let url = self.url.clone();
            RequestError::InvalidAnswer { url, problem: "audio_url: missing".to_owned() }
        })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<ApiResponse, RequestError> {
        Ok(self.exchange(method, path, content_type, body).await?.parse())
    }

    /// Sends a request, and retries while the server asks for it with `Retry-After`.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<TextResponse, RequestError> {
        for _ in 0..ATTEMPTS {
            let request = self.request(method.clone(), path).timeout(REQUEST_TIMEOUT);
            let request = request.header("content-type", content_type).body(body.clone());
            let answer = request.send().await.map_err(|error| self.out_of_reach(error))?;
            let status = answer.status();
            let later =
                answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let body = answer.text().await.map_err(|error| self.out_of_reach(error))?;
            match later.filter(|_| !status.is_success()) {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => return Ok(TextResponse { status, body }),
            }
        }
        Err(RequestError::RetriesExhausted { url: self.url.clone(), attempts: ATTEMPTS })
    }

    /// Opens the stream of the events after the one with this id; without an id, of the events from now on.
    ///
    /// # Errors
    /// Says why the server does not stream its events, and whether a later attempt may succeed.
    pub async fn open_events(&self, after: Option<Seq>) -> Result<EventStream, OpenEventsError> {
        let after = after.map_or_else(String::new, |after| format!("?last_event_id={after}"));
        let sent = self.request(Method::GET, &format!("/v1/events{after}")).send().await;
        let response = sent.map_err(|error| OpenEventsError::Unavailable(self.out_of_reach(error)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(EventStream::new(response));
        }
        let body = response.text().await.unwrap_or_default();
        let refusal = TextResponse { status, body }.parse().into_refusal();
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS => OpenEventsError::Unavailable(refusal.into()),
            status if status.is_server_error() => OpenEventsError::Unavailable(refusal.into()),
            _ => OpenEventsError::Refused(refusal),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    fn out_of_reach(&self, error: reqwest::Error) -> RequestError {
        let url = self.url.clone();
        match error.is_connect() {
            true => RequestError::Unreachable { url, source: error.into() },
            false => RequestError::NoAnswer { url, source: error.into() },
        }
    }
}

impl TextResponse {
    /// Parses the body as JSON.
    fn parse(self) -> ApiResponse {
        ApiResponse { status: self.status, body: serde_json::from_str(&self.body).unwrap_or_default() }
    }
}

impl ApiResponse {
    /// Returns the body if the whole request succeeded.
    ///
    /// # Errors
    /// Fails if the status is an error, or 207 because some messages were refused.
    pub fn into_body(self) -> Result<Value, Refusal> {
        if self.status.is_success() && self.status != StatusCode::MULTI_STATUS {
            return Ok(self.body);
        }
        Err(self.into_refusal())
    }

    fn into_refusal(self) -> Refusal {
        let first = self.body["acks"]
            .as_array()
            .into_iter()
            .flatten()
            .find_map(|ack| ack["error"]["message"].as_str());
        let detail = first.or(self.body["detail"].as_str()).map(str::to_owned);
        Refusal { status: self.status, detail }
    }
}
