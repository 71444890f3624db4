//! Clients written by others: a generator of requests that knows only the API description, and the WebSocket clients of
//! Python and Node. `make test` installs them; without them, these tests print what is missing and are skipped.

use std::path::{Path, PathBuf};

use serde_json::json;
use talktrack_testbed::skip;
use tokio::process::Command;
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, serve_with};
use crate::harness::{Home, Output, Server};

const TURNS: [&str; 3] = ["What is on today?", "Tea at four \u{2615}.", "Thanks!"];

/// Finds a program in the Python environment of the clients.
fn installed(program: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join("target/clients/bin").join(program);
    let found = path.is_file().then_some(path);
    if found.is_none() {
        skip::missing(program, "it is not installed (`make test` does it with Python and a package index)");
    }
    found
}

/// Finds a Node with a built-in WebSocket: version 22 or later, or an earlier one with a flag.
pub(crate) async fn node() -> Option<Command> {
    for flags in [&[][..], &["--experimental-websocket"]] {
        let mut probe = Command::new("node");
        let works =
            probe.args(flags).args(["--eval", "new WebSocket('ws://127.0.0.1:1').onerror = () => {}"]);
        if works.output().await.is_ok_and(|output| output.status.success()) {
            let mut node = Command::new("node");
            node.args(flags);
            return Some(node);
        }
    }
    skip::missing("clients in JavaScript", "there is no Node with a WebSocket (20.10 or later)");
    None
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// Runs a client and checks the session whose id it prints.
async fn holds_a_conversation(home: &Home, command: Command) {
    let output = Output::of(command).await.succeeded();
    let session: Uuid = output.stdout.trim().parse().unwrap();
    assert_eq!(home.database().contents(session), TURNS);
    assert_eq!(home.database().ended(session).await.end(), ("ended", Some("completed")));
}

#[tokio::test]
async fn pythons_websockets_hold_a_conversation() {
    let Some(python) = installed("python") else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut command = Command::new(python);
    command.arg(script("conversation.py")).arg(server.address.to_string());
    holds_a_conversation(&home, command).await;
}

#[tokio::test]
async fn nodes_websocket_holds_a_conversation() {
    let Some(mut node) = node().await else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    node.arg(script("conversation.mjs")).arg(server.address.to_string());
    holds_a_conversation(&home, node).await;
}

#[tokio::test]
async fn nodes_websocket_brings_a_token_as_browsers_do() {
    let Some(mut node) = node().await else { return };
    let home = Home::new();
    let server = serve_with(&home, &[("SUPABASE_JWT_SECRET", SECRET)]).await;
    let token = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    node.arg(script("conversation.mjs")).arg(server.address.to_string()).arg(token);
    holds_a_conversation(&home, node).await;
}

/// Sends generated requests, valid and invalid ones, and asserts that every response conforms to the API description.
async fn keeps_to_its_description(home: &Home, server: &Server, schemathesis: &Path) {
    // Data for the requests that read.
    let body = json!({"session_id": Uuid::nil(), "user_id": Uuid::nil()});
    assert_eq!(server.request("POST", "/v1/sessions").json(&body).send().await.status, 201);
    let mut command = Command::new(schemathesis);
    command.env("SCHEMATHESIS_HOOKS", script("hooks.py")).current_dir(home.data_dir());
    command.arg("--config-file").arg(script("schemathesis.toml"));
    command.arg("run").arg(format!("http://{}/openapi.json", server.address));
    // A response without an end.
    command.args(["--exclude-path", "/v1/events"]);
    command.args(["--checks", "all", "--max-examples", "20", "--seed", "20261123", "--workers", "1"]);
    let output = Output::of(command).await;
    let end: String = output.stdout.chars().take(20_000).collect();
    assert_eq!(output.code, Some(0), "{end}\n{}", output.stderr);
}

#[tokio::test]
async fn whatever_is_generated_from_the_description_is_answered_as_it_says() {
    let Some(schemathesis) = installed("schemathesis") else { return };
    let home = Home::new();
    let server = home.serve(&[]).await;
    keeps_to_its_description(&home, &server, &schemathesis).await;
    server.stop().await;
    home.verify().await;
}
