//! API keys: made by the program, stored as hashes, limited to their scopes.

use uuid::Uuid;

use super::{SECRET, knock, new_key, refuses, refuses_to_start, serve_with};
use crate::harness::{Client, Home};

#[tokio::test]
async fn a_key_opens_the_server_and_its_entry_does_not() {
    let home = Home::new();
    let key = new_key(&home, "agent-1", "read,write").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let session = Uuid::new_v4();
    let user = Uuid::new_v4();
    let query = format!("session_id={session}&user_id={user}");
    let mut client = Client::come_with(&server, &query, &key.key).await.expect_started().await;
    client.say("a server speaks for any user").await;
    assert_eq!(client.user, user);
    let hash = key.entry.rsplit(':').next().unwrap();
    for wrong in [&key.entry, hash, &format!("tt_{}_{hash}", &hash[..8])] {
        refuses(&server, wrong).await;
    }
    assert!(
        key.entry.starts_with("agent-1:read+write:") && key.key.starts_with(&format!("tt_{}_", &hash[..8]))
    );
}

#[tokio::test]
async fn who_has_no_key_or_another_one_is_told_what_is_wrong_and_nothing_more() {
    let home = Home::new();
    let key = new_key(&home, "a", "admin").await;
    let stranger = new_key(&home, "a", "admin").await;
    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &key.entry)]).await;
    let answer = server.get(&format!("/v1/ws?user_id={}", Uuid::new_v4())).await;
    assert!(answer.problem(401, "unauthorized").starts_with("no token: "), "{answer:?}");
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    assert_eq!(refuses(&server, &stranger.key).await, "the API key is unknown");
    assert_eq!(refuses(&server, &key.key[..key.key.len() - 1]).await, "the API key is mistyped or cut off");
    assert!(refuses(&server, "hunter2").await.starts_with("the token is not an API key"));
    let sessions = home.database().count("SELECT count(*) FROM conversation_sessions", &[]);
    assert_eq!(sessions, 0, "nobody came in");
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say() {
    let home = Home::new();
    let reader = new_key(&home, "reader", "read").await;
    let writer = new_key(&home, "writer", "write").await;
    let watcher = new_key(&home, "watcher", "metrics").await;
    let admin = new_key(&home, "admin", "admin").await;
    let file = format!("api_keys = [{:?}, {:?}]\n", reader.entry, writer.entry);
    let both = format!("{} {}", watcher.entry, admin.entry);
    home.settings(file);
    let query = format!("user_id={}", Uuid::new_v4());

    let server = serve_with(&home, &[]).await;
    let answer = knock(&server, &query, &reader.key).await;
    assert_eq!(answer.problem(403, "forbidden"), "this needs an API key with the scope write");
    assert_eq!(knock(&server, &query, &writer.key).await.status, 101);
    for key in [&reader.key, &writer.key] {
        let answer = server.get_with("/metrics", key).await;
        assert_eq!(answer.problem(403, "forbidden"), "this needs an API key with the scope metrics");
    }
    server.stop().await;

    let server = serve_with(&home, &[("TALKTRACK_API_KEYS", &both)]).await;
    assert_eq!(knock(&server, &query, &admin.key).await.status, 101);
    knock(&server, &query, &watcher.key).await.problem(403, "forbidden");
    for key in [&watcher.key, &admin.key] {
        assert!(server.get_with("/metrics", key).await.body.contains("talktrack_messages_durable_total"));
    }
    refuses(&server, &reader.key).await;
}

#[tokio::test]
async fn load_balancers_need_no_token_and_learn_no_more_than_they_need() {
    let home = Home::new();
    let key = new_key(&home, "watcher", "metrics").await;
    // No server listens on this port.
    let database = "postgres://me:hunter2@127.0.0.1:9/x";
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("DATABASE_URL", database)];
    let server = serve_with(&home, &environment).await;
    assert_eq!(server.get("/healthz").await.status, 200);
    assert_eq!(server.readiness(503).await, r#"{"status":"not ready"}"#);
    let told = server.get_with("/readyz", &key.key).await;
    assert!(
        told.status == 503 && told.json()["causes"][0].as_str().unwrap().starts_with("store: "),
        "{told:?}"
    );
    server.get("/metrics").await.problem(401, "unauthorized");
}

#[tokio::test]
async fn with_authentication_any_address_may_be_listened_on() {
    let home = Home::new();
    let key = new_key(&home, "a", "admin").await;
    let url = [("TALKTRACK_LISTEN", "0.0.0.0:0"), ("SUPABASE_URL", "http://localhost:9")];
    let secret = [("TALKTRACK_LISTEN", "0.0.0.0:0"), ("SUPABASE_JWT_SECRET", SECRET)];
    let keys = [("TALKTRACK_LISTEN", "0.0.0.0:0"), ("TALKTRACK_API_KEYS", &*key.entry)];
    for environment in [url, secret, keys] {
        let mut command = home.command(&["serve"]);
        command.env("TALKTRACK_DATA_DIR", home.data_dir()).envs(environment);
        let server = crate::harness::Server::start(&home, command).await;
        assert!(server.address.ip().is_unspecified());
        server.stop().await;
    }
}

#[tokio::test]
async fn a_bad_setting_of_identity_stops_the_start_and_is_not_repeated() {
    let home = Home::new();
    let entry = new_key(&home, "hunter2", "read").await.entry;
    for (variable, value, said) in [
        ("TALKTRACK_API_KEYS", "hunter2", "api_keys: must be a list of NAME:SCOPES:HASH"),
        ("TALKTRACK_API_KEYS", &entry.replace(":read:", ":root:"), "api_keys: scopes are"),
        ("SUPABASE_URL", "hunter2", "supabase_url: must be a URL"),
        ("SUPABASE_JWT_SECRET", "hunter2", "supabase_jwt_secret: must be at least 32 bytes"),
        ("TALKTRACK_JWT_AUDIENCE", "", "jwt_audience: must not be empty"),
        ("TALKTRACK_ALLOWED_ORIGINS", "app.example.com", "allowed_origins: must be a list of origins"),
        ("TALKTRACK_ALLOWED_ORIGINS", "*", "allowed_origins: must name the pages, not *"),
    ] {
        let line = refuses_to_start(&home, &[(variable, value)]).await;
        assert!(line.contains(said) && line.contains(variable) && !line.contains("hunter2"), "{line}");
    }
}

#[tokio::test]
async fn a_key_needs_a_name_and_scopes_that_exist() {
    let home = Home::new();
    for arguments in [
        &["keys", "new", "--name", "a"][..],
        &["keys", "new", "--scopes", "read"],
        &["keys", "new", "--name", "a b", "--scopes", "read"],
        &["keys", "new", "--name", "a", "--scopes", "root"],
        &["keys", "new", "--name", "a", "--scopes", ""],
    ] {
        home.run(arguments).await.failed(2);
    }
    let told = home.run(&["keys", "new", "--name", "a", "--scopes", "read,admin"]).await.succeeded().stdout;
    assert!(told.contains("\n  tt_") && told.contains("\n  a:read+admin:"), "{told}");
}
