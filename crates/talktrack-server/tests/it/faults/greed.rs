//! One user takes as much as the server gives: arrays, updates of large metadata, pages of large messages and slow
//! heads, all at the same time. Meanwhile other users are served, memory stays bounded, and nothing acknowledged is
//! lost.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use uuid::Uuid;

use super::cut;
use super::rows;
use super::stand::Stand;
use crate::auth::signing::{SigningKey, claims};
use crate::auth::{SECRET, new_key};
use crate::harness::{HttpAnswer, Server};

/// Messages of the user who keeps to the limits.
const SAID: u32 = 60;

async fn post(server: &Server, path: &str, token: &str, body: &Value) -> HttpAnswer {
    server.request("POST", path).token(token).json(body).send().await
}

/// Sends requests one after the other, as fast as the server responds. It may accept or refuse them, but not fail.
async fn again_and_again(is_over: &AtomicBool, ask: impl AsyncFn() -> HttpAnswer) {
    while !is_over.load(Ordering::Relaxed) {
        let answer = ask().await;
        assert!([200, 202, 413, 429, 503].contains(&answer.status), "{answer:?}");
    }
}

async fn greed(stand: &Stand) {
    let key = new_key(&stand.home, "agent", "read,write").await;
    let mut command =
        stand.command(&["--max-http-connections", "60", "--max-http-connections-per-address", "50"]);
    command.env("TALKTRACK_API_KEYS", &key.entry).env("SUPABASE_JWT_SECRET", SECRET);
    let server = Server::start(&stand.home, command).await;
    let greedy = SigningKey::secret(SECRET).token(&claims(Uuid::new_v4()));
    let theirs = post(&server, "/v1/sessions", &greedy, &json!({})).await;
    let theirs = format!("/v1/sessions/{}", theirs.json()["session_id"].as_str().unwrap());
    let own = Uuid::new_v4();
    let user = Uuid::new_v4();
    let begun = post(&server, "/v1/sessions", &key.key, &json!({"session_id": own, "user_id": user})).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let before = server.resident_kib();
    let messages = format!("{theirs}/messages");
    let array: Value = (0..500).map(|_| json!({"role": "user", "content": "x".repeat(200)})).collect();
    let large = json!({"role": "user", "content": "x".repeat(900 << 10)});
    let note = json!({"metadata": {"note": "x".repeat(60 << 10)}});
    let is_over = AtomicBool::new(false);
    let crowd = async {
        tokio::join!(
            again_and_again(&is_over, async || post(&server, &messages, &greedy, &array).await),
            again_and_again(&is_over, async || post(&server, &messages, &greedy, &large).await),
            again_and_again(&is_over, async || {
                server.request("PATCH", &theirs).token(&greedy).json(&note).send().await
            }),
            again_and_again(&is_over, async || {
                server.request("GET", format!("{messages}?limit=500")).token(&greedy).send().await
            }),
        );
    };
    let mut slow = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nX: ").await;
        slow.push(stream);
    }
    let said = cut::rounds(SAID, 10 * SAID);
    let patient = async {
        for number in 0..said {
            let body = json!({"role": "user", "content": number.to_string()});
            let answer = post(&server, &format!("/v1/sessions/{own}/messages"), &key.key, &body).await;
            assert_eq!(answer.status, 202, "{answer:?}");
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(crowd, patient);
    let grown = server.grown_mib(before);
    assert!(grown < 256, "{grown} MiB more");
    stand.drained(&server).await;
    let sql = format!("SELECT count(*) AS n FROM conversation_messages WHERE session_id = '{own}'");
    assert_eq!(rows::number(stand, &sql), u64::from(said));
    stand.stop(server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_users_greed_leaves_others_served() {
    greed(&Stand::on_sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_users_greed_leaves_others_served_on_postgresql() {
    greed(&Stand::on_postgres().await).await;
}
