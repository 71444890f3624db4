//! Arrays of messages: either all are durable, or each has its own result. A repeated request changes nothing.

use serde_json::{Value, json};
use uuid::Uuid;

use super::{messages_of, said, say, start};
use crate::harness::{Home, until};

fn turns(count: usize) -> Value {
    (0..count).map(|turn| json!({"role": "user", "content": format!("turn {turn}")})).collect()
}

fn ids(answer: &Value) -> Vec<String> {
    let acks = answer["acks"].as_array().unwrap();
    acks.iter().map(|ack| ack["id"].as_str().unwrap_or_default().to_owned()).collect()
}

#[tokio::test]
async fn what_is_answered_survives_a_kill_in_the_order_of_the_array() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let answer = say(&server, session, &turns(1_000)).await;
    server.kill().await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let rows = home.database().messages(session);
    assert_eq!(rows.iter().map(|row| row.id.clone()).collect::<Vec<_>>(), ids(&answer.json()));
    assert!(rows.iter().enumerate().all(|(turn, row)| row.content == format!("turn {turn}")));
}

#[tokio::test]
async fn more_than_a_thousand_are_refused_as_a_whole() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let answer = say(&server, session, &turns(1_001)).await;
    assert_eq!(answer.problem(413, "too_large"), "an array may have at most 1000 messages, not 1001");
    assert!(said(&server, session).await.is_empty());
}

#[tokio::test]
async fn the_same_request_again_with_its_idempotency_key_changes_nothing() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let body = json!([
        {"role": "user", "content": "one", "created_at": "2026-11-23T08:00:00Z"},
        {"role": "assistant", "content": "two", "created_at": "2026-11-23T08:00:01Z"},
    ]);
    let send = async |key: &str| {
        let request = server.request("POST", messages_of(session)).header("Idempotency-Key", key);
        let answer = request.json(&body).send().await;
        assert_eq!(answer.status, 202, "{answer:?}");
        ids(&answer.json())
    };
    let first = send("a").await;
    assert_eq!(send("a").await, first);
    assert_eq!(said(&server, session).await, ["one", "two"]);
    assert_ne!(send("b").await, first, "another request says it once more");
    assert_eq!(said(&server, session).await, ["one", "one", "two", "two"]);
}

#[tokio::test]
async fn a_retry_of_a_request_without_times_is_answered_as_the_first_was() {
    let home = Home::new();
    let server = home.serve(&[]).await;
    let session = start(&server).await;
    let body =
        json!([{"role": "user", "content": "one"}, {"role": "user", "content": "two", "external_id": "2"}]);
    let send = async || {
        let request = server.request("POST", messages_of(session)).header("Idempotency-Key", "k");
        request.json(&body).send().await
    };
    let first = send().await;
    let again = send().await;
    assert_eq!((first.status, again.status), (202, 202), "{again:?}");
    assert_eq!(first.json(), again.json());
    assert_eq!(said(&server, session).await, ["one", "two"]);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let home = Home::new();
    let server = home.serve(&["--max-body-bytes", "10KiB"]).await;
    let session = start(&server).await;
    let answer = say(&server, session, &json!({"role": "user", "content": "x".repeat(10_240)})).await;
    assert_eq!(answer.problem(413, "too_large"), "the body may have at most 10240 bytes (max_body_bytes)");
    let answer = say(&server, session, &json!({"role": "user", "content": "x".repeat(10_000)})).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn a_full_queue_refuses_what_has_no_room_and_takes_the_rest() {
    let home = Home::new();
    let server = home.serve(&["--queue-capacity", "10"]).await;
    let session = start(&server).await;
    let database = home.database();
    let disk = database.block();
    let body =
        (0..30).map(|turn| json!({"role": "user", "content": format!("{turn}"), "ref": turn})).collect();
    let request = say(&server, session, &body);
    let unblocked = async {
        let refused = r#"talktrack_messages_refused_total{reason="queue_full"}"#;
        crate::harness::until_told("some are refused", async || {
            (server.metric(refused).await >= 1.0).then_some(())
        })
        .await;
        drop(disk);
    };
    let (answer, ()) = tokio::join!(request, unblocked);
    assert_eq!(answer.status, 207, "{answer:?}");
    let answer = answer.json();
    let acks = answer["acks"].as_array().unwrap();
    assert_eq!(acks.len(), 30);
    assert!(acks.iter().enumerate().all(|(turn, ack)| ack["ref"] == turn), "in the order of the request");
    let (taken, refused): (Vec<_>, Vec<_>) = acks.iter().partition(|ack| ack["id"].is_string());
    assert!(refused.iter().all(|ack| ack["error"]["code"] == "queue_full"), "{refused:?}");
    let taken: Vec<_> = taken.iter().map(|ack| ack["ref"].to_string()).collect();
    assert!(!taken.is_empty() && !refused.is_empty());
    until("what was taken is there, and nothing else", || {
        (database.contents(session) == taken).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_message_alone_that_has_no_room_is_told_to_come_again() {
    let home = Home::new();
    let server = home.serve(&["--queue-capacity", "1"]).await;
    let session = start(&server).await;
    let disk = home.database().block();
    let burst = (0..20).map(|turn| json!({"role": "user", "content": format!("{turn}")})).collect();
    let refused = async {
        let message = json!({"id": Uuid::new_v4(), "role": "user", "content": "alone"});
        let answer = crate::harness::until_told("a message alone is refused", async || {
            let request = say(&server, session, &message);
            // While the queue has room, the server waits for the blocked disk. This means that the burst has not filled
            // the queue yet, so the request is cancelled and sent again.
            let answer = tokio::time::timeout(std::time::Duration::from_millis(200), request).await;
            answer.ok()
        })
        .await;
        answer.problem(429, "queue_full");
        drop(disk);
    };
    tokio::join!(say(&server, session, &burst), refused);
}
