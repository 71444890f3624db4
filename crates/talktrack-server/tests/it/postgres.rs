//! PostgreSQL as the store: messages from a socket reach it through every kind of connection, and while other programs
//! write to it.

use serde_json::{Value, json};
use talktrack_testbed::{Database, PgBouncer, Postgres, like_supabase};
use uuid::Uuid;

use crate::harness::remote::{arrives, has_status, migrated, said, select, session};
use crate::harness::{Client, Home, Server, text, until_told};
use crate::logs::{grepped, short};

/// Sends a conversation with every field that a message can have, and compares it with the rows in the database.
async fn converses(url: &str, database: &Database) {
    let home = Home::new();
    let server = home.serve_on(url).await;
    let query = format!("user_id={}&external_id=call-{}", Uuid::new_v4(), short(Uuid::new_v4()));
    let mut client = Client::open(&server, &query).await.expect_started().await;
    client.send(json!({"type": "session.update", "metadata": {"room": 7}})).await;
    let rich = json!({
        "type": "message", "role": "assistant", "content": "It is four o\u{2019}clock \u{1F553}", "audio_url": "https://x/a.ogg",
        "metadata": {"a": [1, null]}, "created_at": "2026-11-23T08:00:00.123456Z", "external_id": "turn-1",
        "kind": "message", "interrupted": true, "content_generated": "It is four, and tea is ready",
        "parts": [{"type": "text"}], "metrics": {"e2e_ms": 812.5}, "ref": 1,
    });
    let id = client.track(rich).await;
    client.track(text("system", "be kind")).await;
    client.end("completed").await;
    let row = has_status(database, client.session, "ended").await;
    assert_eq!((&row["user_id"], &row["metadata"]), (&json!(client.user), &json!({"room": 7})), "{row}");
    assert_eq!((&row["end_reason"], &row["message_count"]), (&json!("completed"), &json!(2)), "{row}");
    let query = format!(
        "SELECT *, pg_typeof(id) || ' ' || pg_typeof(metadata) || ' ' || pg_typeof(created_at) AS types, \
         created_at = '2026-11-23 08:00:00.123456+00' AS on_time FROM conversation_messages WHERE id = '{id}'"
    );
    let row = &select(database, &query)[0];
    for (column, expected) in [
        ("types", json!("uuid jsonb timestamp with time zone")),
        ("on_time", json!(true)),
        ("session_id", json!(client.session)),
        ("user_id", json!(client.user)),
        ("role", json!("assistant")),
        ("content", json!("It is four o\u{2019}clock \u{1F553}")),
        ("audio_url", json!("https://x/a.ogg")),
        ("metadata", json!({"a": [1, null]})),
        ("external_id", json!("turn-1")),
        ("kind", json!("message")),
        ("revision", json!(0)),
        ("interrupted", json!(true)),
        ("content_generated", json!("It is four, and tea is ready")),
        ("parts", json!([{"type": "text"}])),
        ("metrics", json!({"e2e_ms": 812.5})),
    ] {
        assert_eq!(row[column], expected, "{column}: {row}");
    }
    let system = format!(
        "SELECT user_id, metadata, seq > 0 AS has_seq FROM conversation_messages \
         WHERE session_id = '{}' AND role = 'system'",
        client.session
    );
    assert_eq!(select(database, &system), [json!({"user_id": null, "metadata": null, "has_seq": true})]);
    server.drained().await;
    assert_eq!(server.readiness(200).await, r#"{"status":"ready"}"#);
    assert_eq!(server.metric("talktrack_messages_stored_total").await, 2.0);
    server.stop().await;
    home.look_at(url, &["verify"]).await.succeeded();
}

#[tokio::test]
async fn what_is_said_over_a_socket_is_stored_in_the_columns_of_the_schema() {
    let database = migrated(Postgres::shared()).await;
    converses(&database.url(), &database).await;
}

#[tokio::test]
async fn a_pooler_that_hands_out_connections_by_the_transaction_makes_no_difference() {
    let database = migrated(Postgres::shared()).await;
    converses(&PgBouncer::shared().url(&database), &database).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_not_answered_as_if_the_store_were_away() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    let server = home.serve_on(&database.url()).await;
    let mut client = Client::new(&server).await;
    client.say("one").await;
    client.end("completed").await;
    has_status(&database, client.session, "ended").await;
    let paths = ["/v1/sessions".to_owned(), format!("/v1/sessions/{}", client.session)];
    database.psql("ALTER TABLE conversation_sessions ALTER duration_seconds TYPE text");
    for path in &paths {
        let answer = server.get(path).await;
        assert!(answer.problem(500, "internal").contains("cannot read"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), None, "{path}");
    }
    database.psql("ALTER TABLE conversation_sessions RENAME TO elsewhere");
    let [list, session] = &paths;
    let answer = server.get(list).await;
    answer.problem(503, "store_unavailable");
    assert_eq!(answer.header("retry-after"), Some("5"));
    // This node still has the records of the session.
    let answer = server.get(session).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &"ended".into()), "{answer:?}");
}

#[tokio::test]
async fn without_a_column_everything_waits_until_migrate_and_then_arrives_without_a_restart() {
    let home = Home::new();
    let database = migrated(Postgres::shared()).await;
    database.psql("ALTER TABLE conversation_messages DROP audio_url");
    let server = home.serve_on(&database.url()).await;
    let mut client = Client::new(&server).await;
    client.say("is anybody there?").await;
    client.track(text("assistant", "I am")).await;
    client.end("completed").await;
    let cause = "Could not find the 'audio_url' column of 'conversation_messages' (run: talktrack migrate)";
    assert_eq!(
        server.readiness(503).await,
        json!({"status": "not ready", "causes": [format!("store: {cause}")]}).to_string()
    );
    server.shows("talktrack_store_up", 0.0).await;
    assert_eq!(server.metric("talktrack_journal_pending").await, 2.0);
    // Each attempt would log the error again if the server did not remember it.
    until_retried(&server, "systemic", 3.0).await;
    let failed = format!("❌ Failed to save message: {cause}");
    let log = server.log();
    let lines = grepped(&log);
    assert_eq!(lines.iter().filter(|line| **line == failed).count(), 1, "{lines:?}");
    assert!(!lines.iter().any(|line| line.contains("Saved") || line.contains("Ended")), "{lines:?}");
    assert_eq!(said(&database, client.session), [] as [String; 0]);

    home.look_at(&database.url(), &["migrate"]).await.succeeded();
    arrives(&database, client.session, &["is anybody there?", "I am"]).await;
    server.drained().await;
    server.readiness(200).await;
    server.shows("talktrack_store_up", 1.0).await;
    assert_eq!(server.metric("talktrack_journal_pending").await, 0.0);
    // Each line appears once, regardless of the number of attempts. The session's start may be stored before the first
    // message.
    let id = short(client.session);
    let log = server.log();
    let mut lines = grepped(&log);
    // If an attempt fails just before the migration adds the column, and looks for the cause just after it, no difference of
    // the schema is left to name.
    lines.retain(|line| !line.contains("does not exist (SQLSTATE 42703)"));
    lines.sort();
    let started = format!("✅ Started session {id}... for user {}...", short(client.user));
    let saved = ["assistant", "user"].map(|role| format!("✅ Saved {role} message for session {id}..."));
    assert!(lines[0].starts_with(&format!("✅ Ended session {id}... (duration: ")), "{lines:?}");
    assert!(lines[0].ends_with("s, messages: 2)"), "{lines:?}");
    assert_eq!(lines[1..], [&saved[..], &[started, failed]].concat(), "{lines:?}");
}

/// Waits until the writer has retried at least this many times.
async fn until_retried(server: &Server, class: &str, times: f64) {
    let name = format!("talktrack_store_retries_total{{class=\"{class}\"}}");
    let tried = async || (server.metric(&name).await >= times).then_some(());
    until_told(&format!("{name} is {times} or more"), tried).await;
}

#[tokio::test]
async fn a_password_is_never_shown_neither_a_wrong_one_nor_that_of_a_database_out_of_reach() {
    let database = migrated(Postgres::shared()).await;
    let nowhere = "postgres://keyed:hunter2@127.0.0.1:1/x".to_owned();
    for (url, words) in [
        (database.url_as("keyed:hunter2"), "password authentication failed"),
        (nowhere, "the database cannot be reached"),
    ] {
        let home = Home::new();
        let server = home.serve(&["--database-url", &url, "--log-level", "trace"]).await;
        let mut client = Client::new(&server).await;
        client.say("acknowledged all the same").await;
        let mut told = server.readiness(503).await;
        assert!(told.contains(words), "{told}");
        for command in [&["sessions"][..], &["export"], &["verify"], &["doctor"]] {
            told += &home.look_at(&url, command).await.failed(1);
        }
        told += &server.get("/metrics").await.body;
        server.logged("❌ Failed to save message: ").await;
        told += &server.log();
        server.stop().await;
        assert!(!told.contains("hunter2"), "{told}");
    }
    let home = Home::new();
    let line = home.look_at("postgres://keyed:hunter2@h:port/x", &["sessions"]).await.failed(2);
    assert!(line.contains("database_url") && !line.contains("hunter2"), "{line}");
}

/// Returns the rows that this user sees through the API of a Supabase project.
fn seen_by(database: &Database, user: Uuid) -> Vec<Value> {
    let claims = json!({"role": "authenticated", "sub": user});
    let seen = database.psql(&format!(
        "SET ROLE authenticated;\n\\o /dev/null\nSELECT set_config('request.jwt.claims', '{claims}', false);\n\\o\n
         SELECT json_build_object('session', session_id, 'user', session.user_id, 'content', content)
         FROM conversation_sessions session JOIN conversation_messages USING (session_id) ORDER BY seq"
    ));
    seen.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
}

#[tokio::test]
async fn in_a_supabase_project_a_user_sees_what_the_server_wrote_of_the_own_sessions_and_no_other() {
    let home = Home::new();
    let database = Postgres::shared().database();
    like_supabase(&database);
    let url = database.url_as("postgres");
    home.look_at(&url, &["migrate"]).await.succeeded();
    let server = home.serve_on(&url).await;
    let mut clients = [Client::new(&server).await, Client::new(&server).await];
    for client in &mut clients {
        client.say("hello").await;
        client.track(text("system", "be kind")).await;
    }
    server.drained().await;
    for Client { session, user, .. } in &clients {
        let row = |content: &str| json!({"session": session, "user": user, "content": content});
        assert_eq!(seen_by(&database, *user), [row("hello"), row("be kind")]);
    }
    assert_eq!(seen_by(&database, Uuid::new_v4()), [] as [Value; 0]);
}

#[tokio::test]
async fn a_session_moves_to_another_server_and_the_first_ones_return_does_not_end_it() {
    let database = migrated(Postgres::shared()).await;
    let home_a = Home::new();
    let home_b = Home::new();
    let a = home_a.serve_on(&database.url()).await;
    let mut client = Client::new(&a).await;
    let id = client.session;
    let user = client.user;
    client.say("to a").await;
    a.drained().await;
    a.kill().await;

    let b = home_b.serve_on(&database.url()).await;
    let mut client = Client::join(&b, id, user).await;
    client.say("to b").await;
    arrives(&database, id, &["to a", "to b"]).await;
    let a = home_a.serve_on(&database.url()).await;
    a.logged("1 sessions were still open when the last process ended").await;
    a.drained().await;
    client.say("to b again").await;
    arrives(&database, id, &["to a", "to b", "to b again"]).await;
    let row = session(&database, id).unwrap();
    assert_eq!((&row["status"], &row["message_count"]), (&json!("active"), &json!(3)), "{row}");
    client.end("completed").await;
    let row = has_status(&database, id, "ended").await;
    assert_eq!((&row["end_reason"], &row["message_count"]), (&json!("completed"), &json!(3)), "{row}");
    assert_eq!(select(&database, "SELECT session_id FROM conversation_sessions").len(), 1);
    for server in [a, b] {
        server.stop().await;
    }
    for home in [home_a, home_b] {
        home.look_at(&database.url(), &["verify"]).await.succeeded();
    }
}

#[tokio::test]
async fn what_a_killed_server_left_open_is_abandoned_unless_another_one_has_ended_it() {
    let database = migrated(Postgres::shared()).await;
    let home_a = Home::new();
    let home_b = Home::new();
    let a = home_a.serve_on(&database.url()).await;
    let mut moved = Client::new(&a).await;
    let mut left = Client::new(&a).await;
    for client in [&mut moved, &mut left] {
        client.say("to a").await;
    }
    a.drained().await;
    a.kill().await;
    let b = home_b.serve_on(&database.url()).await;
    Client::join(&b, moved.session, moved.user).await.end("completed").await;
    has_status(&database, moved.session, "ended").await;
    let a = home_a.serve_on(&database.url()).await;
    let row = has_status(&database, left.session, "abandoned").await;
    assert_eq!((&row["end_reason"], &row["ended_at"]), (&json!("error"), &row["last_event_at"]), "{row}");
    a.drained().await;
    let row = session(&database, moved.session).unwrap();
    assert_eq!((&row["status"], &row["end_reason"]), (&json!("ended"), &json!("completed")), "{row}");
}
