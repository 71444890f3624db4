//! Limits on how many bytes a user may read.

use std::sync::Arc;

use serde_json::json;
use talktrack_testbed::Postgres;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use uuid::Uuid;

use super::rates::for_users;
use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key, serve_with};
use crate::harness::remote::migrated;
use crate::harness::{Home, Server, until, until_told, upgrade};

/// Starts a session of this user with a key and sends `texts` messages of `bytes` bytes.
async fn conversation(server: &Server, key: &str, user: Uuid, texts: usize, bytes: usize) -> Uuid {
    let session = Uuid::new_v4();
    let start = json!({"session_id": session, "user_id": user});
    let started = server.request("POST", "/v1/sessions").token(key).json(&start).send().await;
    assert_eq!(started.status, 201, "{started:?}");
    for _ in 0..texts {
        let message = json!({"role": "assistant", "content": "x".repeat(bytes)});
        let path = format!("/v1/sessions/{session}/messages");
        let said = server.request("POST", path).token(key).json(&message).send().await;
        assert_eq!(said.status, 202, "{said:?}");
    }
    session
}

#[tokio::test]
async fn what_a_user_reads_is_bounded_and_costs_nobody_else_anything() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("TALKTRACK_READ_BYTES_PER_USER", "1KiB/h")];
    let (server, token, user) = for_users(&home, &environment).await;
    let session = conversation(&server, &key.key, user, 1, 20_000).await;
    let path = format!("/v1/sessions/{session}/messages");
    let read = async |path: &str, token: &str| server.get_with(path, token).await;
    assert_eq!(read(&path, &token).await.status, 200, "an answer that has begun goes on to its end");
    for path in [&*path, "/v1/sessions", "/v1/search?q=x", "/v1/events", "/", &format!("/sessions/{session}")]
    {
        let refused = read(path, &token).await;
        assert_eq!(refused.status, 429, "{path}: {refused:?}");
        assert!(refused.body.contains("read_bytes_per_user"), "{path}: {refused:?}");
        let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(seconds > 3_600, "{path}: {refused:?}");
    }
    let other = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    assert_eq!(read("/v1/sessions", &other).await.status, 200);
    assert_eq!(read(&path, &key.key).await.status, 200);
    // A user who has exceeded the read quota may still write.
    let said = server.request("POST", &*path).token(&token).json(&json!({"role": "user", "content": "x"}));
    assert_eq!(said.send().await.status, 202);
    let bearer = format!("Bearer {token}");
    let (_, opened) = upgrade(server.address, "/v1/ws", &[("Authorization", &bearer)]).await;
    assert_eq!(opened.status, 101, "{opened:?}");
}

/// An export continues at the permitted rate. This one has two parts, and the first is larger than the whole quota.
#[tokio::test]
async fn an_export_waits_between_its_pieces_if_its_user_has_read_too_much() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let environment = [("TALKTRACK_API_KEYS", &*key.entry), ("TALKTRACK_READ_BYTES_PER_USER", "1KiB/h")];
    let (server, token, user) = for_users(&home, &environment).await;
    let session = conversation(&server, &key.key, user, 9, 900_000).await;
    let path = format!("/v1/sessions/{session}/export");
    let whole = server.get_with(&path, &key.key).await;
    assert_eq!((whole.status, whole.body.lines().filter(|line| line.contains("xxx")).count()), (200, 9));
    let mut export = begin(&server, &path, &token).await;
    // A part ends as soon as it has 4 MiB of text.
    let first = read_for_now(&mut export).await;
    assert!((4 << 20..6 << 20).contains(&first), "{first} bytes of {}", whole.body.len());
}

/// Sends a request for a streamed response and reads its status.
async fn begin(server: &Server, path: &str, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

/// Reads until nothing arrives for two seconds, and returns the number of bytes.
async fn read_for_now(stream: &mut TcpStream) -> usize {
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 16];
    let pause = std::time::Duration::from_secs(2);
    while let Ok(read) = tokio::time::timeout(pause, stream.read(&mut buffer)).await {
        let read = read.unwrap();
        assert_ne!(read, 0, "the export has ended after {bytes} bytes");
        bytes += read;
    }
    bytes
}

#[tokio::test]
async fn exports_at_once_are_bounded_for_users_and_for_keys() {
    let home = Home::new();
    let key = new_key(&home, "agent", "read,write").await;
    let other_key = new_key(&home, "other", "read").await;
    let entries = format!("{} {}", key.entry, other_key.entry);
    let user = Uuid::new_v4();
    let environment = [
        ("TALKTRACK_API_KEYS", &*entries),
        ("SUPABASE_JWT_SECRET", SECRET),
        ("TALKTRACK_MAX_EXPORTS_PER_USER", "1"),
        ("TALKTRACK_MAX_EXPORTS_PER_KEY", "2"),
    ];
    let server = serve_with(&home, &environment).await;
    let session = conversation(&server, &key.key, user, 24, 900_000).await;
    let token = SigningKey::secret(SECRET).token(&claims(user));
    let path = format!("/v1/sessions/{session}/export");
    for (caller, most, setting) in [(&token, 1, "max_exports_per_user"), (&key.key, 2, "max_exports_per_key")]
    {
        let mut under_way = Vec::new();
        for _ in 0..most {
            under_way.push(begin(&server, &path, caller).await);
        }
        let refused = server.get_with(&path, caller).await;
        assert!(refused.problem(429, "rate_limited").contains(setting), "{refused:?}");
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
        assert_eq!(server.get_with(&format!("/v1/sessions/{session}"), caller).await.status, 200);
        // The limit applies per caller, so another caller can still export.
        let of_another = begin(&server, &path, &other_key.key).await;
        drop((under_way, of_another));
        let again = async || Some(server.get_with(&path, caller).await).filter(|answer| answer.status != 429);
        let again = until_told("an export that is given up makes room", again).await;
        assert_eq!(again.status, 200);
    }
}

/// Exports take turns on the processors. An export must not hold its turn while it waits for a slow database.
#[tokio::test]
async fn exports_that_wait_for_the_database_hold_up_no_other() {
    let database = migrated(Postgres::shared()).await;
    let slow = Uuid::new_v4();
    let fast = Uuid::new_v4();
    for session in [slow, fast] {
        database.psql(&format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{session}', '{}');
             INSERT INTO conversation_messages (session_id, role, content) VALUES ('{session}', 'user', 'said')",
            Uuid::new_v4()
        ));
    }
    let home = Home::new();
    // The search index and the statistics would read the slow rows too, and be counted with the exports below.
    let flags = ["--database-url", &database.url(), "--search", "false", "--stats", "false"];
    let server = Arc::new(home.serve(&flags).await);
    // From now on, a query for the messages of the first session takes 25 s.
    database.psql(&format!(
        "ALTER TABLE conversation_messages RENAME TO kept;
         CREATE VIEW conversation_messages AS SELECT * FROM kept WHERE session_id <> '{slow}' OR pg_sleep(25) IS NOT NULL"
    ));
    let turns = std::thread::available_parallelism().unwrap().get().div_ceil(2).min(6);
    let export = |session: Uuid| {
        let server = Arc::clone(&server);
        tokio::spawn(async move { server.get(&format!("/v1/sessions/{session}/export")).await })
    };
    let waiting: Vec<_> = (0..turns).map(|_| export(slow)).collect();
    let asleep =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    until("they wait", || (database.psql(asleep) == turns.to_string()).then_some(())).await;
    let answer = export(fast).await.unwrap();
    assert_eq!((answer.status, answer.body.lines().count()), (200, 2), "{answer:?}");
    assert!(!waiting.iter().any(tokio::task::JoinHandle::is_finished), "the other export waited for them");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
