//! The audit log: who did what, when and from which address, without any text of the conversations.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::dashboard::csrf;
use crate::dashboard::login::{cookie, log_in};
use crate::harness::{Client, Home, Server, text, until};

const FORM: &str = "application/x-www-form-urlencoded";

/// Returns all entries so far, as the command shows them.
async fn entries(home: &Home) -> Vec<Value> {
    home.look(&["audit", "--json"]).await.succeeded().json_lines()
}

/// Returns the entries of this operation. Waits for the first one, because the server may write the file after its
/// response.
pub(crate) async fn said(home: &Home, what: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let look = async || {
        let entries = entries(home).await;
        let these: Vec<Value> = entries.into_iter().filter(|entry| entry["what"] == what).collect();
        (!these.is_empty()).then_some(these)
    };
    found.extend(crate::harness::until_told(&format!("the audit log says {what}"), look).await);
    found
}

fn raw(home: &Home) -> String {
    std::fs::read_to_string(home.data_dir().join("audit.jsonl")).unwrap()
}

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_nothing_of_what_was_said() {
    let home = Home::new();
    let admin = new_key(&home, "desk", "admin").await;
    let reader = new_key(&home, "app", "read").await;
    let keys = format!("{} {};expires=2099-01-01T00:00:00Z", admin.entry, reader.entry);
    let environment = [("TALKTRACK_API_KEYS", &*keys), ("SUPABASE_JWT_SECRET", SECRET)];
    let server = serve_with(&home, &environment).await;
    let user = Uuid::new_v4();
    let token = SigningKey::secret(SECRET).token(&claims(user));
    let query = format!("user_id={user}");
    let mut client = Client::come_with(&server, &query, &admin.key).await.expect_started().await;
    client.track(text("user", "a secret horse")).await;
    let session = client.session;
    let path = format!("/v1/sessions/{}", client.session);
    client.close().await;

    cause_entries(&server, &path, [&admin.key, &reader.key, &token]).await;

    let deleted = said(&home, "delete").await;
    let expected = json!({"who": "key:desk", "what": "delete", "from": "127.0.0.1", "outcome": "ok", "status": 200,
        "route": "/v1/sessions/{session_id}", "session_id": session});
    let without_time = |entry: &Value| {
        let mut entry = entry.clone();
        assert!(entry.as_object_mut().unwrap().remove("at").unwrap().as_str().unwrap().ends_with('Z'));
        entry
    };
    assert_eq!(deleted.iter().map(without_time).collect::<Vec<_>>(), [expected]);

    let who = |entries: &[Value]| entries.iter().map(|entry| entry["who"].clone()).collect::<Vec<_>>();
    let reads = said(&home, "read").await;
    let routes: Vec<_> = reads.iter().map(|entry| (&entry["who"], &entry["route"])).collect();
    assert_eq!(
        routes,
        [
            (&json!("key:desk"), &json!("/v1/sessions/{session_id}/messages")),
            (&json!("key:desk"), &json!("/v1/search")),
            (&json!("key:app"), &json!("/")),
        ],
        "programs' reads and users' own are not written down, and repetitions once"
    );
    assert_eq!(who(&said(&home, "export").await), [json!(format!("user:{user}"))]);
    assert_eq!(who(&said(&home, "login").await), ["key:app"]);
    assert_eq!(who(&said(&home, "logout").await), ["key:app"]);
    assert_eq!(said(&home, "login.failed").await.len(), 1, "a repetition is written once");
    assert_eq!(said(&home, "refused").await.len(), 1);
    let mut used = who(&said(&home, "key.used").await);
    used.sort_by_key(ToString::to_string);
    assert_eq!(used, ["key:app", "key:desk"], "once a key, address and hour");

    let started = &said(&home, "server.started").await[0]["detail"]["settings"];
    assert_eq!(started["api_keys"], "desk:admin app:read");
    assert_eq!(started["supabase_jwt_secret"], "(set, hidden)");
    assert_eq!(started["max_connections"], "10000");
    server.stop().await;
    said(&home, "server.stopped").await;

    let raw = raw(&home);
    for secret in ["horse", "hunter2", SECRET, &token, &admin.key, admin.entry.rsplit(':').next().unwrap()] {
        assert!(!raw.contains(secret), "{secret}: {raw}");
    }
    let mode = std::fs::metadata(home.data_dir().join("audit.jsonl")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(home.look(&["audit", "--since", "1h"]).await.succeeded().stdout.contains("key:desk  delete"));
    let later = home.look(&["audit", "--since", "2099-01-01T00:00:00Z"]).await.succeeded();
    assert_eq!(later.stdout, "");
}

/// Causes entries: reads the session with both keys and its user's token, fails to log in, logs in and out, and deletes
/// the session.
async fn cause_entries(server: &Server, path: &str, [admin, reader, token]: [&str; 3]) {
    for _ in 0..3 {
        assert_eq!(server.get_with(&format!("{path}/messages"), admin).await.status, 200);
        assert_eq!(server.get_with(&format!("{path}/messages"), reader).await.status, 200);
        assert_eq!(server.get_with(path, token).await.status, 200);
    }
    server.get_with("/v1/search?q=horse", admin).await;
    assert_eq!(server.get_with(&format!("{path}/export"), token).await.status, 200);
    for _ in 0..3 {
        server.get_with("/v1/sessions", "tt_00000000_hunter2").await;
        log_in(server, "tt_hunter2", "/").await;
    }
    let page = cookie(&log_in(server, reader, "/").await);
    let list = server.request("GET", "/").header("Cookie", &page).send().await;
    let form = format!("csrf={}", csrf(&list));
    server.request("POST", "/logout").header("Cookie", &page).body(FORM, form).send().await;
    assert_eq!(server.request("DELETE", path).token(admin).send().await.status, 200);
}

#[tokio::test]
async fn what_is_done_to_dead_letters_and_keys_is_written_down_whoever_does_it() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    home.database().execute(
        "CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages WHEN NEW.content LIKE 'poison%' \
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    );
    for words in ["poison one", "poison two", "poison three"] {
        client.say(words).await;
    }
    let health = server.get("/health").await;
    let form = format!("csrf={}&reason=data", csrf(&health));
    assert_eq!(server.request("POST", "/health/replay").body(FORM, form).send().await.status, 200);
    let by_page = &said(&home, "dead_letters.replay").await[0];
    assert_eq!((&by_page["who"], &by_page["from"]), (&json!("anyone"), &json!("127.0.0.1")));
    // First through the control socket of the server, then directly in the data directory without a server.
    home.look(&["dead-letters", "drop", "--all", "--yes"]).await.succeeded();
    let by_server = said(&home, "dead_letters.drop").await;
    assert_eq!((by_server.len(), &by_server[0]["count"]), (1, &json!(3)), "{by_server:?}");
    assert!(by_server[0]["who"].as_str().unwrap().starts_with("command-line:"), "{by_server:?}");
    client.say("poison four").await;
    server.stop().await;
    home.look(&["dead-letters", "drop", "--all", "--yes"]).await.succeeded();
    assert_eq!(said(&home, "dead_letters.drop").await.len(), 2);
    home.look(&["export"]).await.succeeded();
    assert_eq!(said(&home, "export").await[0]["count"], 1);
    let keys = home.path("keys");
    let file = ["--api-keys-file", keys.to_str().unwrap()];
    home.look(&[&["keys", "new", "--name", "a", "--scopes", "read"][..], &file].concat()).await.succeeded();
    home.look(&[&["keys", "revoke", "a"][..], &file].concat()).await.succeeded();
    assert_eq!(said(&home, "keys.revoke").await[0]["detail"], json!({"key": "a", "scopes": "read"}));
    assert!(!raw(&home).contains("poison"));
}

#[tokio::test]
async fn a_disk_that_does_not_take_the_audit_log_is_said_once_and_holds_up_nobody() {
    let home = Home::new();
    std::fs::create_dir_all(home.data_dir().join("audit.jsonl")).unwrap();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("this is kept").await;
    for _ in 0..3 {
        let path = format!("/v1/sessions/{}/export", Client::new(&server).await.session);
        assert_eq!(server.get(&path).await.status, 200);
    }
    server.shows("talktrack_audit_entries_lost_total", 4.0).await;
    let complaints = || server.log().lines().filter(|line| line.contains("cannot be written")).count();
    assert_eq!(complaints(), 1, "{}", server.log());
    // As soon as the file can be written again, it gets an entry with the number of lost entries.
    std::fs::remove_dir(home.data_dir().join("audit.jsonl")).unwrap();
    assert_eq!(server.request("DELETE", format!("/v1/sessions/{}", client.session)).send().await.status, 200);
    assert_eq!(said(&home, "audit.lost").await[0]["count"], 4);
    assert_eq!(said(&home, "delete").await.len(), 1);
    server.logged("the audit log can be written again").await;
}

#[tokio::test]
async fn the_audit_log_is_rotated_and_the_command_reads_all_of_it_in_order() {
    let home = Home::new();
    let flags = ["--audit-file-bytes", "4KiB", "--audit-files", "3"];
    let server = home.serve(&flags).await;
    for _ in 0..60 {
        let client = Client::new(&server).await;
        assert_eq!(
            server.request("DELETE", format!("/v1/sessions/{}", client.session)).send().await.status,
            200
        );
    }
    let file = |name: &str| home.data_dir().join(name);
    until("the log is rotated", || file("audit.jsonl.2").exists().then_some(())).await;
    server.stop().await;
    assert!(!file("audit.jsonl.3").exists());
    for name in ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"] {
        let metadata = std::fs::metadata(file(name)).unwrap();
        assert!(metadata.len() <= 4096 && metadata.permissions().mode() & 0o777 == 0o600, "{name}");
    }
    let entries = entries(&home).await;
    let times: Vec<_> = entries.iter().map(|entry| entry["at"].as_str().unwrap()).collect();
    assert!(times.is_sorted() && entries.last().unwrap()["what"] == "server.stopped", "{times:?}");
}

#[tokio::test]
async fn what_retention_deletes_is_written_down_as_a_sum() {
    let home = Home::new();
    let server: Server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    client.say("long ago").await;
    server.stop().await;
    home.database().execute(
        "UPDATE conversation_sessions SET started_at = '2020-01-01T00:00:00.000000Z', \
         last_event_at = '2020-01-01T00:00:00.000000Z', ended_at = '2020-01-01T00:00:00.000000Z'",
    );
    let _server = home.serve(&["--retention-days", "30"]).await;
    let summary = &said(&home, "retention").await[0];
    assert_eq!((&summary["who"], &summary["detail"]["messages"]), (&json!("server"), &json!(1)), "{summary}");
}
