//! Large messages of one caller that wait for a turn while others send, and what their connection does in the meantime.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::auth::{ApiKey, new_key, serve_with};
use crate::harness::{Client, Home, Server, acks_in, until, until_told, user};

/// A message that is larger than what may be in flight while other callers are active.
fn large(reference: u32) -> serde_json::Value {
    user(&"x".repeat(200_000), reference)
}

/// Starts a server with two callers, one of which has just sent a message.
async fn beside_another(home: &Home, environment: &[(&str, &str)]) -> (Server, ApiKey) {
    let key = new_key(home, "agent", "read,write,metrics").await;
    let other = new_key(home, "other", "read,write").await;
    let entries = format!("{} {}", key.entry, other.entry);
    let environment = [&[("TALKTRACK_API_KEYS", &*entries)], environment].concat();
    let server = serve_with(home, &environment).await;
    client(&server, &other).await.say("somebody else is there").await;
    (server, key)
}

async fn client(server: &Server, key: &ApiKey) -> Client {
    let query = format!("session_id={}&user_id={}", Uuid::new_v4(), Uuid::new_v4());
    Client::come_with(server, &query, &key.key).await.expect_started().await
}

/// Waits until the server has accepted this many messages for the journal since its start.
async fn handed_over(server: &Server, key: &ApiKey, count: u32) {
    let line = format!("talktrack_messages_accepted_total {count}");
    let page = async || server.get_with("/metrics", &key.key).await.body;
    let shows = async || page().await.lines().any(|shown| shown == line).then_some(());
    until_told(&line, shows).await;
}

#[tokio::test]
async fn what_is_durable_is_acknowledged_and_light_messages_go_on_while_a_large_one_waits() {
    let home = Home::new();
    let (server, key) = beside_another(&home, &[]).await;
    let mut first = client(&server, &key).await;
    let mut second = client(&server, &key).await;
    let disk = home.database().block();
    first.send(large(0)).await;
    handed_over(&server, &key, 2).await;
    second.send(user("light", 0)).await;
    second.lives().await;
    second.send(large(1)).await;
    // The large message has waited long enough that the rest of its wait is about a whole second.
    tokio::time::sleep(Duration::from_millis(600)).await;
    drop(disk);
    let database = home.database();
    until("the light message is durable", || (!database.contents(second.session).is_empty()).then_some(()))
        .await;
    let durable = Instant::now();
    assert_eq!(second.acks(1).await[0].reference, json!(0));
    let acknowledged = Instant::now();
    assert_eq!(first.acks(1).await[0].reference, json!(0));
    first.say("light, too").await;
    assert_eq!(database.contents(second.session), ["light"], "the large message still waits");
    assert_eq!(second.acks(1).await[0].reference, json!(1));
    let took = acknowledged - durable;
    let waited = acknowledged.elapsed();
    assert!(took < waited, "{took:?} until the ack, {waited:?} until the large message");
}

#[tokio::test]
async fn a_connection_that_waits_for_its_turn_hears_the_stop() {
    let home = Home::new();
    let (mut server, key) = beside_another(&home, &[]).await;
    let mut client = client(&server, &key).await;
    let disk = home.database().block();
    client.send(large(0)).await;
    client.send(large(1)).await;
    handed_over(&server, &key, 2).await;
    server.signal(Signal::SIGTERM);
    server.logged("stopping").await;
    // Longer than a small message would wait.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    drop(disk);
    let mut acknowledged = Vec::new();
    while let Message::Text(text) = client.next().await {
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str() {
            Some("ack") => acknowledged.extend(acks_in(&frame).into_iter().map(|ack| ack.reference)),
            _ => assert_eq!((&frame["type"], &frame["message_count"]), (&json!("session.ended"), &json!(1))),
        }
    }
    assert_eq!(acknowledged, [json!(0)]);
    assert_eq!(server.ended().await, Some(0));
    assert_eq!(home.database().contents(client.session).len(), 1, "what waited was never handed over");
    home.verify().await;
}

#[tokio::test]
async fn a_connection_that_waits_for_its_turn_is_not_silent() {
    let home = Home::new();
    let limits = [("TALKTRACK_PING_INTERVAL", "500ms"), ("TALKTRACK_PEER_TIMEOUT", "2s")];
    let (server, key) = beside_another(&home, &limits).await;
    let mut client = client(&server, &key).await;
    let disk = home.database().block();
    client.send(large(0)).await;
    client.send(large(1)).await;
    handed_over(&server, &key, 2).await;
    // Longer than the peer timeout.
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(disk);
    let acks = client.acks(2).await;
    assert_eq!(acks.iter().map(|ack| &ack.reference).collect::<Vec<_>>(), [&json!(0), &json!(1)]);
    client.lives().await;
}

/// A disk that hangs delays a large message, but not for an unlimited time.
#[tokio::test]
async fn waiting_for_a_turn_has_an_end() {
    let home = Home::new();
    let (server, key) = beside_another(&home, &[]).await;
    let mut client = client(&server, &key).await;
    let disk = home.database().block();
    client.send(large(0)).await;
    client.send(large(1)).await;
    for number in 2..5 {
        client.send(user("light", number)).await;
    }
    // The pong proves that the server has read all messages.
    client.lives().await;
    drop(disk);
    client.acks(5).await;
}
