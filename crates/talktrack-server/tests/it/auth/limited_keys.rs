//! Keys that are limited to some users or to some addresses.

use serde_json::{Value, json};
use talktrack_testbed::Postgres;
use uuid::Uuid;

use super::{knock, new_key, new_limited_key, serve_with};
use crate::harness::remote::migrated;
use crate::harness::{Client, Home, HttpAnswer, Listener, Server};

/// Makes a key with these limits and returns it with its entry for the settings.
async fn limited(home: &Home, name: &str, scopes: &str, limits: &[&str]) -> (String, String) {
    let made = new_limited_key(home, name, scopes, limits).await;
    (made.key, made.entry)
}

/// Every request that concerns a session, with a body if it needs one. Each must be refused if the key has no access.
fn ways_in(session: Uuid) -> Vec<(&'static str, String, Option<Value>)> {
    let path = |rest: &str| format!("/v1/sessions/{session}{rest}");
    let message = json!({"role": "user", "content": "forged"});
    vec![
        ("GET", path(""), None),
        ("GET", path("/messages"), None),
        ("GET", path("/export"), None),
        ("GET", path("/audio/x.wav"), None),
        ("POST", path("/messages"), Some(message)),
        ("POST", path("/end"), Some(json!({"reason": "forged"}))),
        ("PATCH", path(""), Some(json!({"metadata": {"forged": true}}))),
        ("DELETE", path(""), None),
        ("GET", format!("/sessions/{session}"), None),
        ("GET", format!("/sessions/{session}/said"), None),
        ("GET", format!("/sessions/{session}/delete"), None),
    ]
}

async fn ask(server: &Server, key: &str, (method, path, body): &(&str, String, Option<Value>)) -> HttpAnswer {
    let request = server.request(method, path.as_str()).token(key);
    match body {
        Some(body) => request.json(body).send().await,
        None => request.send().await,
    }
}

async fn a_limited_key_acts_for_its_users_alone(database: Option<&str>) {
    let home = Home::new();
    let all = new_key(&home, "all", "admin").await;
    let mine = Uuid::new_v4();
    let also_mine = Uuid::new_v4();
    let others = Uuid::new_v4();
    let (one, one_entry) = limited(&home, "one", "admin", &["--users", &mine.to_string()]).await;
    let both = format!("{mine},{also_mine}");
    let (two, two_entry) = limited(&home, "two", "admin", &["--users", &both]).await;
    let keys = [&*all.entry, &one_entry, &two_entry].join(" ");
    let mut environment = vec![("TALKTRACK_API_KEYS", &*keys)];
    environment.extend(database.map(|url| ("DATABASE_URL", url)));
    let server = serve_with(&home, &environment).await;
    let start = async |user: Uuid, words: &str| {
        let mut client =
            Client::come_with(&server, &format!("user_id={user}"), &all.key).await.expect_started().await;
        client.say(words).await;
        client
    };
    let own = start(mine, "mine").await;
    let mut foreign = start(others, "of others").await;
    server_has_stored(&server, &all.key).await;

    for key in [&one, &two] {
        expect_no_access_to_user(&server, key, others, foreign.session).await;
    }
    // A key of one user needs no `user_id` in a query; a key of several users does.
    let listed = server.get_with("/v1/sessions", &one).await.json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["sessions"][0]["session_id"], json!(own.session));
    let why = server.get_with("/v1/sessions", &two).await.problem(400, "invalid_message");
    assert!(why.starts_with("user_id: missing"), "{why}");
    assert_eq!(server.get_with(&format!("/v1/sessions?user_id={mine}"), &two).await.status, 200);
    assert_eq!(
        ask(&server, &two, &("GET", format!("/v1/sessions/{}/messages", own.session), None)).await.status,
        200
    );

    let mut listener = Listener::with(&server, "", &format!("Authorization: Bearer {one}\r\n")).await;
    foreign.say("not for this key").await;
    let mut again = Client::come_with(&server, &format!("user_id={mine}"), &one).await.expect_started().await;
    again.say("for this key").await;
    assert_eq!(listener.contents(1).await, ["for this key"]);
    let rows = server.get_with(&format!("/v1/sessions/{}/messages", foreign.session), &all.key).await.json();
    assert!(!rows.to_string().contains("forged"), "{rows}");
}

/// Checks that this key can neither read nor change anything of a user whom it is not for.
async fn expect_no_access_to_user(server: &Server, key: &str, others: Uuid, session: Uuid) {
    for way in ways_in(session) {
        let refused = ask(server, key, &way).await;
        assert_eq!(refused.status, 404, "{way:?}: {refused:?}");
        assert!(!refused.body.contains("of others"), "{way:?}: {refused:?}");
    }
    for path in ["/v1/sessions", "/v1/search?q=others", "/v1/stats", "/v1/events", "/?user=", "/stats?user="]
    {
        let mark = if path.contains('?') { '&' } else { '?' };
        let named = match path.strip_suffix("user=") {
            Some(_) => format!("{path}{others}"),
            None => format!("{path}{mark}user_id={others}"),
        };
        let refused = server.get_with(&named, key).await;
        assert!(refused.status == 403 && !refused.body.contains("of others"), "{named}: {refused:?}");
    }
    assert_eq!(ask(server, key, &("DELETE", format!("/v1/users/{others}"), None)).await.status, 403);
    assert_eq!(knock(server, &format!("user_id={others}"), key).await.status, 403);
    let start = json!({"session_id": Uuid::new_v4(), "user_id": others});
    assert_eq!(ask(server, key, &("POST", "/v1/sessions".into(), Some(start))).await.status, 403);
    assert_eq!(server.get_with("/health", key).await.status, 403, "dead letters are of all users");
}

async fn server_has_stored(server: &Server, key: &str) {
    let told = async || {
        let metrics = server.get_with("/metrics", key).await.body;
        metrics.lines().any(|line| line == "talktrack_journal_bytes 0").then_some(())
    };
    crate::harness::until_told("everything is stored", told).await;
}

#[tokio::test]
async fn a_limited_key_acts_for_its_users_and_finds_nothing_of_others() {
    a_limited_key_acts_for_its_users_alone(None).await;
}

#[tokio::test]
async fn a_limited_key_acts_for_its_users_and_finds_nothing_of_others_in_postgresql() {
    let database = migrated(Postgres::shared()).await;
    a_limited_key_acts_for_its_users_alone(Some(&database.url())).await;
}

/// While the store is unavailable, the server cannot look up the owner of a session. A limited key must not gain access
/// to other users' sessions this way.
#[tokio::test]
async fn while_the_store_is_away_a_limited_key_is_told_so_and_changes_nothing() {
    let home = Home::new();
    let (key, entry) = limited(&home, "one", "admin", &["--users", &Uuid::new_v4().to_string()]).await;
    // No server listens on this port.
    let environment = [("TALKTRACK_API_KEYS", &*entry), ("DATABASE_URL", "postgres://me@127.0.0.1:9/x")];
    let server = serve_with(&home, &environment).await;
    for way in ways_in(Uuid::new_v4()) {
        let refused = ask(&server, &key, &way).await;
        assert_eq!(refused.status, 503, "{way:?}: {refused:?}");
    }
    let waiting = home.database().count("SELECT count(*) FROM journal", &[]);
    assert_eq!(waiting, 0, "nothing of it is on its way");
}

/// If two users claim a session while the store is unavailable, its messages later get the user of the stored row. That
/// may be a third user, to whom the key has no access.
#[tokio::test]
async fn a_limited_key_that_claims_a_session_for_two_of_its_users_writes_nothing_into_it() {
    let home = Home::new();
    let first = Uuid::new_v4();
    let second = Uuid::new_v4();
    let (key, entry) = limited(&home, "two", "read,write", &["--users", &format!("{first},{second}")]).await;
    // No server listens on this port.
    let environment = [("TALKTRACK_API_KEYS", &*entry), ("DATABASE_URL", "postgres://me@127.0.0.1:9/x")];
    let server = serve_with(&home, &environment).await;
    let session = Uuid::new_v4();
    let message =
        ("POST", format!("/v1/sessions/{session}/messages"), Some(json!({"role": "user", "content": "x"})));
    for (user, status) in [(first, 202), (second, 503)] {
        let start = json!({"session_id": session, "user_id": user});
        let started = ask(&server, &key, &("POST", "/v1/sessions".into(), Some(start))).await;
        assert_eq!(started.status, 201, "{started:?}");
        let answer = ask(&server, &key, &message).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

#[tokio::test]
async fn a_key_counts_from_its_networks_alone() {
    let home = Home::new();
    let (key, entry) = limited(&home, "far", "read", &["--addresses", "192.0.2.0/24,::1"]).await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &entry)]).await;
    let why = server.get_with("/v1/sessions", &key).await.problem(403, "forbidden");
    assert_eq!(why, "the API key may not be used from this address");
    // The address in `X-Forwarded-For` counts only if the request comes from a trusted proxy.
    let claimed = server.request("GET", "/v1/sessions").token(&key).header("X-Forwarded-For", "192.0.2.7");
    assert_eq!(claimed.send().await.status, 403);
    server.stop().await;
    let environment = [("TALKTRACK_API_KEYS", &*entry), ("TALKTRACK_TRUSTED_PROXIES", "127.0.0.1")];
    let server = serve_with(&home, &environment).await;
    for (address, status) in [("192.0.2.7", 200), ("198.51.100.1", 403)] {
        let request = server.request("GET", "/v1/sessions").token(&key).header("X-Forwarded-For", address);
        assert_eq!(request.send().await.status, status, "{address}");
    }
}
