//! A flood of ten times the admitted rate slows down a caller that keeps to the rate only a little.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::harness::{Home, HttpAnswer, Server};

/// The admitted requests per second, and the minimum rate of the flood.
const RATE: usize = 100;
const FLOOD: usize = 10 * RATE;

/// Number of requests that keep to the rate.
const MEASURED: usize = 40;

/// The largest accepted slowdown, far above what the flood costs, because test machines are shared. The test proves
/// only that the server does not break down.
const MOST: u32 = 20;

/// Sends a message from this address.
async fn say(server: &Server, session: Uuid, from: &str) -> HttpAnswer {
    let path = format!("/v1/sessions/{session}/messages");
    let body = json!({"role": "user", "content": "x".repeat(1_000)});
    server.request("POST", path).header("X-Forwarded-For", from).json(&body).send().await
}

/// Returns the median latency of a caller that keeps to the rate.
async fn patiently(server: &Server, session: Uuid) -> Duration {
    let mut times = Vec::new();
    for _ in 0..MEASURED {
        let began = Instant::now();
        let answer = say(server, session, "198.51.100.1").await;
        assert_eq!(answer.status, 202, "{answer:?}");
        times.push(began.elapsed());
    }
    times.sort();
    times[MEASURED / 2]
}

#[tokio::test]
async fn ten_times_what_is_admitted_is_refused_cheaply_and_others_are_served() {
    let home = Home::new();
    let rate = format!("{RATE}/m");
    let server = home.serve(&["--rate-per-address", &rate, "--trusted-proxies", "127.0.0.1"]).await;
    let session = crate::audio::session(&server).await;
    let alone = patiently(&server, session).await;
    let before = server.resident_kib();
    let flood = async {
        let mut statuses = Vec::new();
        for _ in 0..FLOOD / 20 {
            let answers = (0..20).map(|_| say(&server, session, "203.0.113.9"));
            statuses.extend(futures_util::future::join_all(answers).await.into_iter().map(|answer| {
                assert_eq!(answer.status == 429, answer.header("retry-after").is_some(), "{answer:?}");
                answer.status
            }));
        }
        statuses
    };
    let (statuses, crowded) = tokio::join!(flood, patiently(&server, session));
    let admitted = statuses.iter().filter(|status| **status == 202).count();
    assert!((RATE..2 * RATE).contains(&admitted), "{admitted} were admitted");
    assert_eq!(
        statuses.iter().filter(|status| **status == 429).count(),
        FLOOD - admitted,
        "and nothing else"
    );
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB");
    eprintln!("median alone {alone:?}, in the crowd {crowded:?}, grown by {grown} KiB");
    assert!(crowded < alone * MOST, "{crowded:?} instead of {alone:?}");
    server.stop().await;
    home.verify().await;
}
