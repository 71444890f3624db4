//! Authentication and authorisation: API keys, users' tokens, rotated public keys, and all of them on the socket.

mod keys;
mod tokens;
mod published;
mod socket;
mod expiry;
mod key_file;
mod limited_keys;
mod events;
mod audio;
mod tls;
mod deletion;

// Helpers of the modules above.
mod publisher;
pub(crate) mod signing;

use publisher::Publisher;
use signing::{SigningKey, claims};
use uuid::Uuid;

use crate::harness::{Home, HttpAnswer, Output, Server, upgrade};

/// A secret of the same length as those of Supabase.
pub(crate) const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

/// An API key and its entry for the settings.
pub(crate) struct ApiKey {
    pub(crate) key: String,
    pub(crate) entry: String,
}

/// Makes an API key with `talktrack keys new`.
pub(crate) async fn new_key(home: &Home, name: &str, scopes: &str) -> ApiKey {
    new_limited_key(home, name, scopes, &[]).await
}

/// Makes an API key with `talktrack keys new` and these arguments, which limit the key.
pub(crate) async fn new_limited_key(home: &Home, name: &str, scopes: &str, limits: &[&str]) -> ApiKey {
    let arguments = [&["keys", "new", "--name", name, "--scopes", scopes, "--json"], limits].concat();
    let made = home.run(&arguments).await.succeeded().json();
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    ApiKey { key: text("key"), entry: text("api_keys") }
}

/// Starts a server with these environment variables. Its log level is `trace`, so that any secret that it logs is
/// found.
pub(crate) async fn serve_with(home: &Home, environment: &[(&str, &str)]) -> Server {
    let mut command = home.server_command(&["--log-level", "trace"]);
    command.envs(environment.iter().copied());
    Server::start(home, command).await
}

/// Starts a server that trusts the public keys of a project.
async fn serve_for(home: &Home, project: &Publisher) -> Server {
    serve_with(home, &[("SUPABASE_URL", &project.url())]).await
}

/// Asserts that the server does not start with these variables, and returns the error line.
async fn refuses_to_start(home: &Home, environment: &[(&str, &str)]) -> String {
    let mut command = home.server_command(&[]);
    command.envs(environment.iter().copied());
    Output::of(command).await.failed(2)
}

/// Requests a WebSocket with this token and returns the response; 101 means that the server accepts the token.
async fn knock(server: &Server, query: &str, token: &str) -> HttpAnswer {
    let authorization = format!("Bearer {token}");
    upgrade(server.address, &format!("/v1/ws?{query}"), &[("Authorization", &authorization)]).await.1
}

/// Asserts that the token opens a session for its user.
async fn admits(server: &Server, token: &str) {
    let answer = knock(server, "", token).await;
    assert_eq!(answer.status, 101, "{answer:?}");
}

/// Asserts that the token is refused with 401 and the header of RFC 6750, and that the response repeats no part of the
/// token. Returns the reason.
async fn refuses(server: &Server, token: &str) -> String {
    let answer = knock(server, &format!("user_id={}", Uuid::new_v4()), token).await;
    let why = answer.problem(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer:?}");
    let repeats = token.split('.').filter(|part| part.len() > 8).any(|part| answer.body.contains(part));
    assert!(!repeats, "{answer:?}");
    why
}
