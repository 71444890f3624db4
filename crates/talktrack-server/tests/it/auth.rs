//! Who may ask, and for whom: API keys, users' tokens, published keys that come and go, and all of it on the socket.

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

// What these are made of.
mod publisher;
pub(crate) mod signing;

use uuid::Uuid;

use crate::harness::{Home, HttpAnswer, Output, Server, upgrade};
use publisher::Publisher;
use signing::{SigningKey, claims};

/// A secret as long as Supabase's.
pub(crate) const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

/// An API key, and its entry for the settings.
pub(crate) struct ApiKey {
    pub(crate) key: String,
    pub(crate) entry: String,
}

/// Has the program make a key.
pub(crate) async fn new_key(home: &Home, name: &str, scopes: &str) -> ApiKey {
    new_limited_key(home, name, scopes, &[]).await
}

/// Has the program make a key that is limited by these arguments.
pub(crate) async fn new_limited_key(home: &Home, name: &str, scopes: &str, limits: &[&str]) -> ApiKey {
    let arguments = [&["keys", "new", "--name", name, "--scopes", scopes, "--json"], limits].concat();
    let made = home.run(&arguments).await.succeeded().json();
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    ApiKey { key: text("key"), entry: text("api_keys") }
}

/// A server with these variables in its environment, and a log that hides nothing.
pub(crate) async fn serve_with(home: &Home, environment: &[(&str, &str)]) -> Server {
    let mut command = home.server_command(&["--log-level", "trace"]);
    command.envs(environment.iter().copied());
    Server::start(home, command).await
}

/// A server that trusts the keys of a project.
async fn serve_for(home: &Home, project: &Publisher) -> Server {
    serve_with(home, &[("SUPABASE_URL", &project.url())]).await
}

/// It must not start with these variables; what it says.
async fn refuses_to_start(home: &Home, environment: &[(&str, &str)]) -> String {
    let mut command = home.server_command(&[]);
    command.envs(environment.iter().copied());
    Output::of(command).await.failed(2)
}

/// What the server answers to a request for a WebSocket with this token. 101 is a yes.
async fn knock(server: &Server, query: &str, token: &str) -> HttpAnswer {
    let authorization = format!("Bearer {token}");
    upgrade(server.address, &format!("/v1/ws?{query}"), &[("Authorization", &authorization)]).await.1
}

/// The token opens a session for its user.
async fn admits(server: &Server, token: &str) {
    let answer = knock(server, "", token).await;
    assert_eq!(answer.status, 101, "{answer:?}");
}

/// The token is refused with 401, as the standard has it, and without repeating any of it; says why.
async fn refuses(server: &Server, token: &str) -> String {
    let answer = knock(server, &format!("user_id={}", Uuid::new_v4()), token).await;
    let why = answer.problem(401, "unauthorized");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{answer:?}");
    let repeats = token.split('.').filter(|part| part.len() > 8).any(|part| answer.body.contains(part));
    assert!(!repeats, "{answer:?}");
    why
}
