//! More messages than the disk takes, or more connections than allowed: the server refuses at once with an error code,
//! and nothing is lost.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::harness::{Client, Home, acks_in, upgrade, user, within};

/// Reads `count` answers and returns which messages were acknowledged and which were refused.
async fn answers(client: &mut Client, count: usize) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let mut acked = BTreeSet::new();
    let mut refused = BTreeSet::new();
    while acked.len() + refused.len() < count {
        let frame = client.receive().await;
        match frame["type"].as_str() {
            Some("ack") => acked.extend(acks_in(&frame).iter().map(|ack| ack.reference.as_u64().unwrap())),
            Some("error") => {
                assert_eq!(frame["code"], "queue_full", "{frame}");
                assert!(refused.insert(frame["ref"].as_u64().unwrap()), "refused twice: {frame}");
            }
            _ => panic!("neither an ack nor a refusal: {frame}"),
        }
    }
    (acked, refused)
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_what_it_took_is_kept() {
    let home = Home::new();
    let server = home.serve(&["--queue-capacity", "10"]).await;
    let mut client = Client::new(&server).await;
    let mut bystander = Client::new(&server).await;
    let disk = home.database().block();
    for number in 0..50_u64 {
        client.send(user(&number.to_string(), number)).await;
    }
    // Ten messages wait in the queue and at most ten more in the batch for the blocked disk, so thirty are refused.
    let mut refused = BTreeSet::new();
    while refused.len() < 30 {
        let frame = client.expect("error").await;
        assert_eq!(frame["code"], "queue_full", "{frame}");
        refused.insert(frame["ref"].as_u64().unwrap());
    }
    bystander.lives().await;
    drop(disk);
    let (acked, refused_later) = answers(&mut client, 50 - refused.len()).await;
    refused.extend(refused_later);
    assert!(acked.is_disjoint(&refused), "{acked:?} {refused:?}");
    assert_eq!(acked.union(&refused).copied().collect::<Vec<_>>(), (0..50).collect::<Vec<_>>());
    assert!(acked.len() >= 10, "{acked:?}");

    let expected: Vec<_> = acked.iter().map(u64::to_string).collect();
    assert_eq!(home.database().contents(client.session), expected);
    client.say("there is room again").await;
    bystander.say("for everybody").await;
    let counted = server.metric(r#"talktrack_messages_refused_total{reason="queue_full"}"#).await;
    assert_eq!(counted.to_string(), refused.len().to_string());
    home.verify().await;
}

#[tokio::test]
async fn the_byte_budget_of_the_queue_counts_too() {
    let home = Home::new();
    let server = home.serve(&["--queue-bytes", "64KiB", "--max-message-bytes", "32KiB"]).await;
    let mut client = Client::new(&server).await;
    let disk = home.database().block();
    let content = "x".repeat(30_000);
    for number in 0..12_u64 {
        client.send(user(&content, number)).await;
    }
    let first = client.expect("error").await;
    assert_eq!(first["code"], "queue_full", "{first}");
    drop(disk);
    let (acked, refused) = answers(&mut client, 11).await;
    assert!(acked.len() >= 2, "{acked:?} {refused:?}");
    assert_eq!(home.database().contents(client.session).len(), acked.len());
    home.verify().await;
}

#[tokio::test]
async fn a_refused_message_can_be_sent_again() {
    let home = Home::new();
    let server = home.serve(&["--queue-capacity", "5"]).await;
    let mut client = Client::new(&server).await;
    let disk = home.database().block();
    for number in 0..30_u64 {
        client.send(user(&number.to_string(), number)).await;
    }
    let first = client.expect("error").await["ref"].as_u64().unwrap();
    drop(disk);
    let (mut acked, mut open) = answers(&mut client, 29).await;
    open.insert(first);
    while let Some(number) = open.pop_first() {
        client.send(user(&number.to_string(), number)).await;
        let (taken, refused) = answers(&mut client, 1).await;
        acked.extend(taken);
        open.extend(refused);
    }
    assert_eq!(acked.len(), 30);
    assert_eq!(home.database().contents(client.session).len(), 30);
}

#[tokio::test]
async fn one_connection_more_than_allowed_gets_503_until_one_leaves() {
    let home = Home::new();
    let server = home.serve(&["--max-connections", "2"]).await;
    let mut first = Client::new(&server).await;
    let mut second = Client::new(&server).await;
    let path = format!("/v1/ws?user_id={}", first.user);
    let (_, answer) = upgrade(server.address, &path, &[]).await;
    let said = answer.problem(503, "rate_limited");
    assert!(said.contains("max_connections"), "{said}");
    // Invalid requests must not use up a connection.
    for _ in 0..5 {
        assert_ne!(upgrade(server.address, "/v1/ws?user_id=nobody", &[]).await.1.status, 101);
    }
    first.say("served").await;
    second.say("served too").await;
    assert_eq!(server.get("/healthz").await.status, 200, "looking is always allowed");
    first.close().await;
    let query = format!("user_id={}", second.user);
    let place = async {
        loop {
            if let Some(client) = Client::try_open(&server, &query).await {
                return client.expect_started().await;
            }
        }
    };
    let mut third = within("a place is free", place).await;
    third.say("at last").await;
    assert_eq!(third.started["resumed"], Value::Bool(false));
}
