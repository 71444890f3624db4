//! The endpoints for operators: `/healthz`, `/readyz` and `/metrics`, and the responses to unknown paths.

use serde_json::{Value, json};

use crate::harness::{Client, Home, Server, request, text, upgrade, user, within};

#[tokio::test]
async fn a_healthy_server_says_so() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for (path, status) in [("/healthz", "ok"), ("/readyz", "ready")] {
        let answer = server.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!(answer.json()["status"], status);
    }
}

#[tokio::test]
async fn a_server_that_stops_is_not_ready_any_more() {
    let home = Home::new();
    let mut server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let disk = home.database().block();
    client.send(user("keeps it from stopping at once", 1)).await;
    client.lives().await;
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let stopping = async {
        loop {
            let answer = server.get("/readyz").await;
            if answer.status == 503 {
                return answer.json();
            }
        }
    };
    let answer = within("it is not ready any more", stopping).await;
    assert!(answer["causes"].as_array().unwrap().contains(&json!("shutting down")), "{answer}");
    assert_eq!(server.get("/healthz").await.status, 200, "but it is there");
    let (_, answer) = upgrade(server.address, &format!("/v1/ws?user_id={}", client.user), &[]).await;
    answer.problem(503, "shutting_down");
    drop(disk);
    assert_eq!(server.ended().await, Some(0));
}

#[tokio::test]
async fn every_metric_is_there_and_the_books_balance() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let other = Client::new(&server).await;
    let mut message = text("user", "said once");
    message["id"] = json!(uuid::Uuid::new_v4());
    client.track(message.clone()).await;
    client.track(message.clone()).await;
    client.say("something else").await;
    message["content"] = "said otherwise".into();
    client.send(message).await;
    client.refused("id_conflict", Value::Null).await;

    let page = server.get("/metrics").await;
    assert_eq!(page.status, 200);
    for name in [
        "messages_accepted_total",
        "messages_durable_total",
        "messages_stored_total",
        "messages_dead_lettered_total",
        "dead_letters_taken_out_total",
        "messages_refused_total",
        "queue_depth",
        "journal_pending",
        "journal_bytes",
        "quarantines",
        "store_up",
        "batch_size",
        "commit_seconds",
        "sessions_active",
        "ws_connections",
        "answer_seconds",
        "build_info",
        "process_cpu_seconds_total",
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
    ] {
        assert!(page.body.contains(&format!("# TYPE talktrack_{name} ")), "{name} is missing: {}", page.body);
        assert!(
            page.body.contains(&format!("# HELP talktrack_{name} ")),
            "{name} is not explained: {}",
            page.body
        );
    }
    balances(&server, 3, 0).await;
    assert_eq!(count(&server, "talktrack_store_up").await, 1);
    assert_eq!(count(&server, "talktrack_ws_connections").await, 2);
    other.close().await;
    client.end("completed").await;
    client.close().await;
    let empty = async { while count(&server, "talktrack_ws_connections").await != 0 {} };
    within("nobody is connected any more", empty).await;
    let idle = async { while count(&server, "talktrack_sessions_active").await != 0 {} };
    within("no session is active any more", idle).await;

    server.stop().await;
    let server = home.serve(&[]).await;
    balances(&server, 3, 0).await;
}

async fn count(server: &Server, name: &str) -> u64 {
    server.metric(name).await.to_string().parse().unwrap()
}

/// Asserts `durable = stored + dead-lettered + pending` with these figures, which may be published a moment after the
/// ack.
async fn balances(server: &Server, durable: u64, dead: u64) {
    let published = async { while count(server, "talktrack_messages_durable_total").await != durable {} };
    within("the figures are published", published).await;
    let stored = count(server, "talktrack_messages_stored_total").await;
    let pending = count(server, "talktrack_journal_pending").await;
    assert_eq!(count(server, "talktrack_messages_dead_lettered_total").await, dead);
    assert_eq!((durable, pending), (stored + dead + pending, 0));
}

#[tokio::test]
async fn every_counter_exists_from_the_start_with_all_its_labels() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let page = server.get("/metrics").await.body;
    let refused = ["unauthorized", "queue_full", "deleted", "internal"]
        .map(|reason| ("messages_refused_total", "reason", reason));
    let limited = ["address", "bodies", "exports", "max_audio_bytes_total", "connections_per_address"];
    let limited = limited.map(|limit| ("limited_total", "limit", limit));
    let retried = ["transient", "systemic"].map(|class| ("store_retries_total", "class", class));
    let deleted = ["sessions_deleted_total", "messages_deleted_total"];
    let deleted =
        deleted.into_iter().flat_map(|name| ["request", "age"].map(|reason| (name, "reason", reason)));
    for (name, label, value) in refused.into_iter().chain(limited).chain(retried).chain(deleted) {
        let line = format!("talktrack_{name}{{{label}=\"{value}\"}} 0\n");
        assert!(page.contains(&line), "{line} is missing: {page}");
    }
    for name in
        ["audio_bytes_total", "audit_entries_lost_total", "log_lines_lost_total", "answer_seconds_count"]
    {
        assert!(page.contains(&format!("talktrack_{name} 0\n")), "{name} is missing: {page}");
    }
    let version = env!("CARGO_PKG_VERSION");
    let build = page.lines().find(|line| line.starts_with("talktrack_build_info{")).unwrap();
    assert!(build.contains(&format!("version=\"{version}\"")) && build.ends_with(" 1"), "{build}");
    let resident = server.metric("talktrack_process_resident_memory_bytes").await;
    assert!(resident > 1e6, "{resident}");
    assert!(server.metric("talktrack_process_open_fds").await > 5.0);
}

#[tokio::test]
async fn answers_are_counted_by_the_time_that_the_user_waited() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    let mut answer = text("assistant", "an answer");
    answer["id"] = json!(uuid::Uuid::new_v4());
    for metrics in
        [json!({"e2e_ms": 900}), json!({"e2e_ms": 900}), json!({"e2e_ms": 2100.0}), json!({"tts_ttfb_ms": 5})]
    {
        if metrics["e2e_ms"] == 2100.0 {
            answer["id"] = json!(uuid::Uuid::new_v4());
        }
        answer["metrics"] = metrics.clone();
        if metrics["e2e_ms"].is_null() {
            answer["id"] = json!(uuid::Uuid::new_v4());
        }
        client.track(answer.clone()).await;
    }
    server.shows("talktrack_answer_seconds_count", 2.0).await;
    assert_eq!(server.metric("talktrack_answer_seconds_sum").await, 3.0);
    assert_eq!(server.metric(r#"talktrack_answer_seconds_bucket{le="1"}"#).await, 1.0);
}

#[tokio::test]
async fn refusals_are_logged_with_their_number_and_not_one_by_one() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let mut client = Client::new(&server).await;
    for _ in 0..3 {
        client.send_raw("{SECRET".into()).await;
        client.refused("invalid_json", Value::Null).await;
    }
    let line = server.logged("⚠️ Refused messages, starts, updates or frames: ").await;
    assert!(line.contains(" with invalid_json ("), "{line}");
    for _ in 0..3 {
        server
            .request("POST", "/v1/sessions")
            .json(&json!({"king": "SECRET"}))
            .send()
            .await
            .problem(400, "invalid_message");
    }
    let line = server.logged("⚠️ Refused requests over HTTP: ").await;
    assert!(line.contains(" with invalid_message ("), "{line}");
    client.send_raw("{SECRET".into()).await;
    client.refused("invalid_json", Value::Null).await;
    client.say("something").await;
    server.stop().await;
    let log = std::fs::read_to_string(home.log_path()).unwrap();
    assert!(log.matches("with invalid_json").count() == 1 && !log.contains("SECRET"), "{log}");
}

#[tokio::test]
async fn a_head_that_is_too_long_gets_a_problem_document() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let long = "x".repeat(40 << 10);
    let detail =
        server.request("GET", "/v1/sessions").header("X-Long", &long).send().await.problem(431, "too_large");
    assert!(detail.contains("32768 bytes"), "{detail}");
    let answer = server.get(&format!("/v1/sessions?user_id={long}")).await;
    answer.problem(431, "too_large");
}

#[tokio::test]
async fn every_refusal_is_counted_by_its_reason() {
    let home = Home::new();
    let server = home.serve(&["--max-message-bytes", "100"]).await;
    let mut client = Client::new(&server).await;
    let id = client.say("something").await;
    let taken = json!({"type": "message", "role": "user", "content": "something else", "id": id});
    for (reason, frame) in [
        ("invalid_json", "{".to_owned()),
        ("invalid_message", json!({"type": "message", "content": "x"}).to_string()),
        ("invalid_message", text("king", "x").to_string()),
        ("too_large", text("user", &"x".repeat(101)).to_string()),
        ("id_conflict", taken.to_string()),
    ] {
        let metric = format!("talktrack_messages_refused_total{{reason=\"{reason}\"}}");
        let before = count(&server, &metric).await;
        client.send_raw(frame.into()).await;
        client.refused(reason, Value::Null).await;
        assert_eq!(count(&server, &metric).await, before + 1, "{reason}");
    }
    balances(&server, 1, 0).await;
}

#[tokio::test]
async fn other_requests_get_problem_documents() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for (line, status) in [
        ("GET /nothing HTTP/1.1", 404),
        ("GET /v2/sessions HTTP/1.1", 404),
        ("POST /healthz HTTP/1.1", 405),
        ("GET /v1/ws?user_id=00000000-0000-4000-8000-000000000001 HTTP/1.1", 400),
    ] {
        let answer =
            request(server.address, &format!("{line}\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await;
        let kind = answer.header("content-type");
        assert_eq!((answer.status, kind), (status, Some("application/problem+json")), "{line}");
        assert_eq!(answer.json()["status"], status);
    }
}

/// With DNS rebinding, a page uses a name of its own that resolves to this machine. It must not learn what is wrong
/// with the server.
#[tokio::test]
async fn probes_without_identity_are_answered_under_names_of_this_machine_only() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    for path in ["/healthz", "/readyz", "/v1/sessions"] {
        for (host, status) in [
            ("localhost", 200),
            ("127.0.0.1:8080", 200),
            ("[::1]:8080", 200),
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("localhost.", 403),
            ("me@localhost", 403),
        ] {
            let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            let answer = request(server.address, &head).await;
            assert_eq!(answer.status, status, "{path} {host}");
            assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
            assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
            assert_eq!(answer.header("strict-transport-security"), None, "not over TLS");
        }
    }
}

#[tokio::test]
async fn browsers_are_told_to_stay_with_tls_if_a_trusted_proxy_says_so() {
    let home = Home::new();
    let hsts = async |server: &Server| {
        let answer = server.request("GET", "/healthz").header("X-Forwarded-Proto", "https").send().await;
        answer.header("strict-transport-security").map(str::to_owned)
    };
    let server = home.serve(&["--trusted-proxies", "127.0.0.1"]).await;
    assert_eq!(hsts(&server).await.as_deref(), Some("max-age=31536000"));
    assert_eq!(server.get("/healthz").await.header("strict-transport-security"), None);
    server.stop().await;
    let server = home.serve(&[]).await;
    assert_eq!(hsts(&server).await, None, "anybody could say so");
}
