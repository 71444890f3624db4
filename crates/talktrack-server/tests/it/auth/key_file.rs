//! Keys in a file that are added, limited and revoked while the server runs.

use serde_json::Value;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use uuid::Uuid;

use super::{knock, new_key, refuses_to_start, serve_with};
use crate::dashboard::login::{cookie, log_in};
use crate::harness::{Client, Home, Listener, Output, Server, until_told};

/// A home directory whose commands and servers use this file of keys.
struct WithFile {
    home: Home,
    path: String,
}

impl WithFile {
    fn new() -> Self {
        let home = Home::new();
        let path = home.path("keys").to_str().unwrap().to_owned();
        Self { home, path }
    }

    async fn serve(&self) -> Server {
        serve_with(&self.home, &[("TALKTRACK_API_KEYS_FILE", &self.path)]).await
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.home.command(&[&["keys"], arguments].concat());
        command.env("TALKTRACK_API_KEYS_FILE", &self.path).env("TALKTRACK_DATA_DIR", self.home.data_dir());
        Output::of(command).await
    }

    /// Makes a key, which the command adds to the file, and returns it.
    async fn key(&self, arguments: &[&str]) -> String {
        let made = self.run(&[&["new", "--json"], arguments].concat()).await.succeeded().json();
        assert_eq!(made["file"], self.path.as_str(), "{made}");
        made["key"].as_str().unwrap().to_owned()
    }

    /// Returns the entry of a key in the output of `talktrack keys list`.
    async fn listed(&self, name: &str) -> Value {
        let listed = self.run(&["list", "--json"]).await.succeeded().json_lines();
        listed.into_iter().find(|key| key["name"] == name).unwrap_or_else(|| panic!("{name} is not listed"))
    }
}

async fn answers(server: &Server, key: &str, status: u16) {
    let told = async || (server.get_with("/v1/sessions", key).await.status == status).then_some(());
    until_told(&format!("the key is answered with {status}"), told).await;
}

#[tokio::test]
async fn a_key_is_made_used_listed_and_revoked_while_the_server_runs() {
    let files = WithFile::new();
    let server = files.serve().await;
    // The setting alone makes the server ask for a key, although the file does not exist yet.
    assert_eq!(server.get("/v1/sessions").await.status, 401);
    let key = files.key(&["--name", "agent", "--scopes", "read,write"]).await;
    answers(&server, &key, 200).await;
    let user = Uuid::new_v4();
    let mut client =
        Client::come_with(&server, &format!("user_id={user}"), &key).await.expect_started().await;
    let mut listener = Listener::with(&server, "", &format!("Authorization: Bearer {key}\r\n")).await;
    let page = cookie(&log_in(&server, &key, "/").await);
    let listed = files.listed("agent").await;
    assert_eq!((&listed["state"], &listed["expires"]), (&"active".into(), &Value::Null), "{listed}");

    let words = files.run(&["revoke", "agent"]).await.succeeded().stdout;
    assert!(words.starts_with("agent is revoked"), "{words}");
    answers(&server, &key, 401).await;
    let why = server.get_with("/v1/sessions", &key).await.problem(401, "unauthorized");
    assert_eq!(why, "the API key was revoked");
    assert_eq!(
        server.request("GET", "/").header("Cookie", &page).send().await.status,
        303,
        "the login is over"
    );
    client.refused("unauthorized", Value::Null).await;
    assert_eq!(client.closed().await, Some(CloseCode::Policy));
    while let Some(told) = listener.next().await {
        assert!(told.name != "closing" || told.data["code"] == "unauthorized", "{told:?}");
    }
    server.stop().await;

    let listed = files.listed("agent").await;
    assert_eq!((&listed["state"], &listed["last_used_from"]), (&"revoked".into(), &"127.0.0.1".into()));
    assert!(listed["last_used"].is_string() && listed["revoked"].is_string(), "{listed}");
    files.run(&["revoke", "agent"]).await.failed(1);
    // The name of a revoked key can be used again.
    files.key(&["--name", "agent", "--scopes", "read"]).await;
    let text = std::fs::read_to_string(&files.path).unwrap();
    assert!(!text.contains(key.splitn(3, '_').nth(2).unwrap()), "the file holds hashes");
}

#[tokio::test]
async fn a_key_that_is_taken_out_of_the_file_ends_its_connections_too() {
    let files = WithFile::new();
    let leaving = files.key(&["--name", "leaving", "--scopes", "write"]).await;
    let staying = files.key(&["--name", "staying", "--scopes", "write"]).await;
    let server = files.serve().await;
    let query = format!("user_id={}", Uuid::new_v4());
    let mut left = Client::come_with(&server, &query, &leaving).await.expect_started().await;
    let mut stays = Client::come_with(&server, &query, &staying).await.expect_started().await;
    let text = std::fs::read_to_string(&files.path).unwrap();
    let without: String =
        text.lines().filter(|line| !line.starts_with("leaving:")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&files.path, without).unwrap();
    assert_eq!(left.refused("unauthorized", Value::Null).await, "the API key is unknown");
    assert_eq!(left.closed().await, Some(CloseCode::Policy));
    stays.say("the other goes on").await;
}

#[tokio::test]
async fn a_key_of_the_settings_is_revoked_by_the_file() {
    let files = WithFile::new();
    let key = new_key(&files.home, "old", "read").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("TALKTRACK_API_KEYS_FILE", &files.path)];
    let server = serve_with(&files.home, &environment).await;
    answers(&server, &key.key, 200).await;
    let mut command = files.home.command(&["keys", "revoke", "old"]);
    command.envs(environment).env("TALKTRACK_DATA_DIR", files.home.data_dir());
    Output::of(command).await.succeeded();
    answers(&server, &key.key, 401).await;
    // Without a file, a key cannot be revoked while the server runs, and the command says so.
    let mut command = files.home.command(&["keys", "revoke", "old"]);
    command.env("TALKTRACK_API_KEYS", &key.entry);
    assert!(Output::of(command).await.failed(2).contains("api_keys_file is not set"));
}

#[tokio::test]
async fn a_line_that_cannot_be_read_takes_no_other_key_with_it_and_stops_the_next_start() {
    let files = WithFile::new();
    let key = files.key(&["--name", "good", "--scopes", "read"]).await;
    let server = files.serve().await;
    let text = std::fs::read_to_string(&files.path).unwrap();
    std::fs::write(&files.path, format!("{text}tt_hunter2\n")).unwrap();
    let line = server.logged("is ignored").await;
    assert!(line.contains("line 4 ") && !line.contains("hunter2"), "{line}");
    answers(&server, &key, 200).await;
    server.stop().await;
    let line = refuses_to_start(&files.home, &[("TALKTRACK_API_KEYS_FILE", &files.path)]).await;
    assert!(
        line.contains("line 4: must be a list of NAME:SCOPES:HASH") && !line.contains("hunter2"),
        "{line}"
    );
}

#[tokio::test]
async fn a_key_that_is_limited_while_it_is_connected_loses_what_it_may_not_do_any_more() {
    let files = WithFile::new();
    let mine = Uuid::new_v4();
    let others = Uuid::new_v4();
    let key = files.key(&["--name", "agent", "--scopes", "read,write"]).await;
    let server = files.serve().await;
    let open = async |user| {
        Client::come_with(&server, &format!("user_id={user}"), &key).await.expect_started().await
    };
    let mut allowed = open(mine).await;
    let mut forbidden = open(others).await;
    let text = std::fs::read_to_string(&files.path).unwrap();
    std::fs::write(&files.path, format!("{};users={mine}\n", text.trim_end())).unwrap();
    forbidden.refused("unauthorized", Value::Null).await;
    assert_eq!(forbidden.closed().await, Some(CloseCode::Policy));
    allowed.say("this user is allowed").await;
    assert_eq!(knock(&server, &format!("user_id={others}"), &key).await.status, 403);
}
