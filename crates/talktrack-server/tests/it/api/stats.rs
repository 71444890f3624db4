//! Statistics over HTTP: the figures, which users they include, and which requests are refused.

use serde_json::{Value, json};
use talktrack_testbed::{Database, Postgres, like_supabase};
use uuid::Uuid;

use super::transcript::Transcript;
use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key};
use crate::harness::{Home, Server, until_told};

const SESSION: &str = "fda86359-0000-4000-8000-000000000001";
const USER: &str = "03f6b167-0000-4000-8000-000000000002";
const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000003";
/// The range that these tests query.
const RANGE: &str = "since=2026-11-23T07:00:00Z&until=2026-11-23T10:00:00Z&step=1h";

/// Writes a conversation of four messages over an hour, one of which is revised once. Its metrics contain entries that the
/// statistics must ignore.
async fn conversation(server: &Server) {
    let session = json!({"session_id": SESSION, "user_id": USER, "started_at": "2026-11-23T08:00:00Z"});
    assert_eq!(server.request("POST", "/v1/sessions").json(&session).send().await.status, 201);
    let id = "11111111-0000-4000-8000-000000000001";
    let messages = json!([
        {"role": "user", "content": "Hello", "created_at": "2026-11-23T08:00:01Z", "metrics": {"stt_ms": 250}},
        {"role": "assistant", "content": "H", "created_at": "2026-11-23T08:00:02Z", "id": id},
        {"role": "assistant", "content": "Hi the", "created_at": "2026-11-23T08:00:02Z", "id": id, "revision": 1,
         "interrupted": true, "metrics": {"e2e_ms": 800, "audio_start_ms": 3, "model": "a"}},
        {"role": "system", "content": "Be kind", "created_at": "2026-11-23T08:59:59.999999Z"},
        {"role": "assistant", "content": "Bye", "created_at": "2026-11-23T09:00:00Z", "metrics": {"e2e_ms": 400}},
    ]);
    let said =
        server.request("POST", format!("/v1/sessions/{SESSION}/messages")).json(&messages).send().await;
    assert_eq!(said.status, 202, "{said:?}");
    let end = json!({"reason": "completed", "ended_at": "2026-11-23T09:00:30Z"});
    let end = server.request("POST", format!("/v1/sessions/{SESSION}/end")).json(&end).send().await;
    assert_eq!(end.status, 202, "{end:?}");
}

/// Waits until the statistics have counted all messages of the range, and returns the answer.
async fn counted(server: &Server, token: Option<&str>, query: &str, messages: u64) -> Value {
    until_told(&format!("{query} counts {messages}"), async || {
        let request = server.request("GET", format!("/v1/stats?{query}"));
        let answer = match token {
            Some(token) => request.token(token).send().await,
            None => request.send().await,
        };
        let told = if answer.status == 200 { answer.json() } else { Value::Null };
        let is_counted = told["behind"] == json!({"messages": 0, "changes": 0, "slices": 0});
        (is_counted && told["totals"]["messages"]["total"] == messages).then_some(told)
    })
    .await
}

#[tokio::test]
async fn stats_tell_what_happened_when() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    conversation(&server).await;
    counted(&server, None, RANGE, 4).await;
    let mut told = Transcript::default();
    let stats = |query: &str| server.request("GET", format!("/v1/stats?{query}"));
    told.add("hour by hour", stats(RANGE)).await;
    let of_user = format!("since=2026-11-23T08:59:30Z&until=2026-11-23T09:00:01Z&user_id={USER}");
    told.add("the slices of a moment, of a user", stats(&of_user)).await;
    told.add("of a user who has none", stats(&format!("{RANGE}&user_id={OTHER}").replace("1h", "1d"))).await;
    for query in [
        "since=2026-11-23T08:00:00Z&until=2026-11-23T08:00:00Z",
        "since=2016-11-23T08:00:00Z&step=5m",
        "until=9999-12-31T21:00:00Z&step=1d",
        "since=yesterday",
        "step=1w",
        "user_id=",
        "page=2",
    ] {
        told.add("a bad query", stats(query)).await;
    }
    told.is_as_before("stats");
}

#[tokio::test]
async fn without_a_range_stats_tell_of_the_last_day_hour_by_hour() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = super::start(&server).await;
    let said = super::say(&server, session, &json!({"role": "user", "content": "now"})).await;
    assert_eq!(said.status, 202);
    let told = counted(&server, None, "", 1).await;
    let buckets = told["buckets"].as_array().unwrap();
    assert_eq!((told["step_seconds"].as_u64(), buckets.len()), (Some(3_600), 25), "a day touches 25 hours");
    assert_eq!(told["totals"]["sessions"], json!({"begun": 1, "active": 1, "ended": 0, "abandoned": 0}));
    assert_eq!(told["totals"]["dead_letters"], 0);
}

#[tokio::test]
async fn dead_letters_are_told_where_they_died() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    home.database().execute(
        "INSERT INTO dead_letters (seq, session_id, message_id, reason, body, died_at) VALUES
         (1, 'x', 'y', 'data', '{}', '2026-11-23T07:59:59.999999Z'),
         (2, 'x', 'y', 'data', '{}', '2026-11-23T09:10:00.000000Z'),
         (3, 'x', 'y', 'data', '{}', '2026-11-23T09:59:59.999999Z'),
         (4, 'x', 'y', 'data', '{}', '2026-11-23T10:00:00.000000Z'),
         (5, 'x', NULL, 'data', '{}', '2026-11-23T09:20:00.000000Z');",
    );
    let told = counted(&server, None, RANGE, 0).await;
    let letters = |figures: &Value| figures["dead_letters"].as_u64();
    let buckets: Vec<_> = told["buckets"].as_array().unwrap().iter().map(letters).collect();
    assert_eq!((letters(&told["totals"]), buckets), (Some(3), vec![Some(1), Some(0), Some(2)]));
    let own = counted(&server, None, &format!("{RANGE}&user_id={USER}"), 0).await;
    assert!(own["totals"]["dead_letters"].is_null(), "{own}");
}

async fn each_sees_their_own(home: &Home, database: Option<&Database>) {
    let key = new_key(home, "k", "read,write").await;
    let blind = new_key(home, "b", "write").await;
    let mut command = home.server_command(&[]);
    let keys = format!("{},{}", key.entry, blind.entry);
    command.env("TALKTRACK_API_KEYS", keys).env("SUPABASE_JWT_SECRET", SECRET);
    database.inspect(|database| {
        command.env("DATABASE_URL", database.url());
    });
    let server = Server::start(home, command).await;
    let users = [Uuid::new_v4(), Uuid::new_v4()];
    for user in users {
        let session = Uuid::new_v4();
        let body = json!({"session_id": session, "user_id": user});
        let begun = server.request("POST", "/v1/sessions").token(&key.key).json(&body).send().await;
        assert_eq!(begun.status, 201);
        let path = format!("/v1/sessions/{session}/messages");
        let message = json!({"role": "user", "content": "x", "metrics": {"stt_ms": 7}});
        assert_eq!(server.request("POST", path).token(&key.key).json(&message).send().await.status, 202);
    }
    let all = counted(&server, Some(&key.key), "", 2).await;
    assert_eq!(all["totals"]["metrics"]["stt_ms"]["count"], 2);
    for user in users {
        let token = SigningKey::secret(SECRET).token(&claims(user));
        for query in [String::new(), format!("user_id={user}")] {
            let told = counted(&server, Some(&token), &query, 1).await;
            assert_eq!(
                (&told["totals"]["sessions"]["begun"], &told["totals"]["dead_letters"]),
                (&json!(1), &Value::Null)
            );
        }
        counted(&server, Some(&key.key), &format!("user_id={user}"), 1).await;
        let other = users.iter().find(|other| **other != user).unwrap();
        let others = server.request("GET", format!("/v1/stats?user_id={other}")).token(&token).send().await;
        assert_eq!(others.status, 403, "{others:?}");
    }
    assert_eq!(server.request("GET", "/v1/stats").token(&blind.key).send().await.status, 403);
    assert_eq!(server.request("GET", "/v1/stats").send().await.status, 401);
}

#[tokio::test]
async fn a_user_sees_their_own_figures_and_a_key_all() {
    each_sees_their_own(&Home::new(), None).await;
}

#[tokio::test]
async fn a_user_sees_their_own_figures_in_postgresql_and_a_key_all() {
    let home = Home::new();
    let database = Postgres::shared().database();
    like_supabase(&database);
    home.run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    each_sees_their_own(&home, Some(&database)).await;
}

#[tokio::test]
async fn without_counting_stats_say_so() {
    let home = Home::new();
    let server = home.serve(&["--stats", "false"]).await;
    conversation(&server).await;
    let mut told = Transcript::default();
    told.add("nobody counts", server.request("GET", format!("/v1/stats?{RANGE}"))).await;
    told.is_as_before("stats_off");
    let own = server.request("GET", format!("/v1/stats?{RANGE}&user_id={USER}")).send().await;
    assert_eq!((own.status, &own.json()["totals"]["messages"]["total"]), (200, &json!(4)));
}
