//! Listeners that do not read: they cost other clients nothing, and the server disconnects them.

use std::time::Duration;

use super::Place;
use crate::harness::{Client, Listener, Server, until_told, user};

const WORDS: usize = 100_000;

/// The memory that the listeners may cost in KiB, including the noise of the system and of the test.
const MUCH: u64 = 64 << 10;

/// Sends large messages and waits until each is durable.
async fn flood(client: &mut Client, messages: usize) {
    let words = "x".repeat(WORDS);
    for number in 0..messages {
        client.send(user(&words, number)).await;
        client.ack_frame().await;
    }
}

async fn deaf(server: &Server, count: usize) -> Vec<Listener> {
    let mut deaf = Vec::new();
    for _ in 0..count {
        deaf.push(Listener::deaf(server).await);
    }
    deaf
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn listeners_that_do_not_read_are_cut_off_and_cost_no_memory() {
    const MESSAGES: usize = 300;
    let place = Place::file();
    let server = place.serve(&["--peer-timeout", "2s", "--ping-interval", "500ms"]).await;
    let mut client = Client::new(&server).await;
    let _deaf = deaf(&server, 20).await;
    let mut listener = Listener::new(&server).await;
    server.shows("talktrack_event_listeners", 21.0).await;
    let before = server.resident_kib();
    let mut grown = 0;
    for _ in 0..MESSAGES / 10 {
        flood(&mut client, 10).await;
        for told in listener.several(10).await {
            assert_eq!(told.data["content"].as_str().unwrap().len(), WORDS);
        }
        grown = server.resident_kib().saturating_sub(before).max(grown);
    }
    assert!(grown < MUCH, "{grown} KiB for 20 who do not read {MESSAGES} times {WORDS} bytes");
    let alone = async || {
        // A listener counts as slow only while events wait for it, so the test keeps sending messages.
        flood(&mut client, 1).await;
        listener.several(1).await;
        (server.metric("talktrack_event_listeners").await == 1.0).then_some(())
    };
    until_told("those who do not read are gone", alone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_reads_on_too_late_is_told_why_it_is_cut_off() {
    let place = Place::file();
    let server = place.serve(&["--peer-timeout", "16s", "--ping-interval", "8s"]).await;
    let mut client = Client::new(&server).await;
    let mut slow = deaf(&server, 1).await.remove(0);
    flood(&mut client, 60).await;
    // The server disconnects a listener after half of `--peer-timeout`, here 8 s, no matter how many events wait for
    // it.
    tokio::time::sleep(Duration::from_secs(10)).await;
    loop {
        let told = slow.next().await.expect("the reason comes before the end");
        if told.name == "closing" {
            assert_eq!(told.data["code"], "timeout");
            break;
        }
    }
    assert_eq!(slow.next().await, None);
    let mut again = Listener::after(&server, slow.last_id).await;
    client.say("and it goes on").await;
    while again.expect("message").await.data["content"] != "and it goes on" {}
}
