//! The URL of a server, as people give it: of its HTTP API or of its WebSocket.

use talktrack_client::address::InvalidServer;
use talktrack_client::api::ApiClient;
use talktrack_client::socket::SocketClient;
use talktrack_protocol::Secret;

use crate::config::{TOKEN_VARIABLE, URL_VARIABLE};

/// The server that `talktrack serve` starts if no setting names another address.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// The path of the WebSocket below the URL of a server.
const SOCKET_PATH: &str = "/v1/ws";

/// A server, for commands that always talk to one.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    /// The URL of the server [env: TALKTRACK_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The API key (scopes read and write) or user token to authenticate with
    #[arg(long, value_name = "TOKEN", env = TOKEN_VARIABLE, hide_env_values = true)]
    pub(super) token: Option<Secret>,
}

impl ServerArgs {
    /// Makes a client of the HTTP API.
    ///
    /// # Errors
    /// Fails if the URL or the token is invalid.
    pub(super) fn api_client(&self) -> Result<ApiClient, InvalidServer> {
        api_client(&self.url(), self.token.clone())
    }

    /// Makes a client of the WebSocket.
    ///
    /// # Errors
    /// Fails if the URL or the token is invalid.
    pub(super) fn socket_client(&self) -> Result<SocketClient, InvalidServer> {
        SocketClient::new(&with_scheme_of_socket(&self.url()), self.token.as_ref())
    }

    fn url(&self) -> String {
        self.url.clone().or_else(variable_url).unwrap_or_else(|| DEFAULT_URL.to_owned())
    }
}

/// Returns the URL in the environment, if there is one.
pub(super) fn variable_url() -> Option<String> {
    std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty())
}

/// Makes a client of the HTTP API of the server at this URL.
///
/// # Errors
/// Fails if the URL or the token is invalid.
pub(super) fn api_client(url: &str, token: Option<Secret>) -> Result<ApiClient, InvalidServer> {
    ApiClient::new(&with_scheme_of_http(url), token)
}

fn with_scheme_of_http(url: &str) -> String {
    let base = |rest: &str| rest.trim_end_matches('/').trim_end_matches(SOCKET_PATH).to_owned();
    match url.split_once("://") {
        Some(("ws", rest)) => format!("http://{}", base(rest)),
        Some(("wss", rest)) => format!("https://{}", base(rest)),
        _ => url.to_owned(),
    }
}

fn with_scheme_of_socket(url: &str) -> String {
    let with_path = |rest: &str| format!("{}{SOCKET_PATH}", rest.trim_end_matches('/'));
    match url.split_once("://") {
        Some(("http", rest)) => format!("ws://{}", with_path(rest)),
        Some(("https", rest)) => format!("wss://{}", with_path(rest)),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_url_of_a_server_leads_to_both() {
        for (url, http, socket) in [
            ("http://h:1", "http://h:1", "ws://h:1/v1/ws"),
            ("https://h/calls/", "https://h/calls/", "wss://h/calls/v1/ws"),
            ("ws://h:1/v1/ws", "http://h:1", "ws://h:1/v1/ws"),
            ("wss://h/calls/v1/ws/", "https://h/calls", "wss://h/calls/v1/ws/"),
            ("ws://h:1", "http://h:1", "ws://h:1"),
            ("nonsense", "nonsense", "nonsense"),
        ] {
            assert_eq!(
                (with_scheme_of_http(url).as_str(), with_scheme_of_socket(url).as_str()),
                (http, socket)
            );
        }
    }
}
