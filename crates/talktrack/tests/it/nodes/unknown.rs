//! Records of sessions that the store does not know wait for their session, and hold up no other session.

use std::time::{Duration, Instant};

use talktrack::{JsonObject, SessionId, Status};
use talktrack_testkit::PATIENCE;

use super::{Shared, over_both_stores};
use crate::node::Node;
use crate::support::{SESSION, within};

over_both_stores! {
    a_message_waits_for_a_session_that_another_node_has_started_and_not_yet_delivered,
    updates_and_ends_wait_for_their_session_and_keep_their_order,
    what_waits_for_a_session_holds_up_no_other_session,
    what_waits_for_a_session_waits_again_after_a_restart,
    a_start_on_the_same_node_ends_the_wait,
    a_session_that_does_not_appear_in_time_makes_dead_letters,
    a_session_that_was_deleted_meanwhile_makes_none,
    deleting_a_session_ends_the_wait_for_it,
}

/// Returns a session in the same lane as [`SESSION`].
fn neighbour() -> SessionId {
    SessionId::from_u128(SESSION.as_uuid().as_u128() + 400)
}

/// Waits until the books of this node show this many pending messages.
async fn pending(node: &Node, messages: u64) {
    let deadline = Instant::now() + PATIENCE;
    while node.tracker.health().books.pending() != messages {
        assert!(Instant::now() < deadline, "{:?}", node.tracker.health().books);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Waits until the store has answered for all records that the node accepted before this call.
async fn tried(node: &Node) {
    let waiting = node.tracker.health().books.pending();
    node.start(neighbour()).await;
    node.say(neighbour(), "and you?").await;
    pending(node, waiting).await;
}

async fn a_message_waits_for_a_session_that_another_node_has_started_and_not_yet_delivered(shared: &Shared) {
    let [one, other] = shared.nodes();
    other.say(SESSION, "there").await;
    tried(&other).await;
    other.say(SESSION, "still there").await;
    tried(&other).await;
    assert_eq!((other.tracker.health().books.pending(), other.dead_letters().len()), (2, 0));
    assert_eq!(other.tracker.health().store, None, "nothing is wrong with the store");
    one.start(SESSION).await;
    let books = other.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (4, 0));
    assert_eq!(one.contents(SESSION).await, ["there", "still there"]);
    other.say(SESSION, "and on").await;
    assert_eq!(other.settled().await.stored, 5);
}

async fn updates_and_ends_wait_for_their_session_and_keep_their_order(shared: &Shared) {
    let [one, other] = shared.nodes();
    one.start(SESSION).await;
    shared.clock.advance(Duration::from_secs(1));
    for metadata in [r#"{"a":1}"#, r#"{"a":2}"#] {
        let metadata = JsonObject::parse(metadata).unwrap();
        within(other.tracker.update_session(SessionId::from_u128(0xf0), metadata).unwrap()).await.unwrap();
    }
    other.say(SessionId::from_u128(0xf0), "a word").await;
    drop(other.tracker.end_session(SessionId::from_u128(0xf0), "completed").unwrap());
    tried(&other).await;
    assert_eq!(other.dead_letters().len(), 0);
    one.start(SessionId::from_u128(0xf0)).await;
    other.settled().await;
    let row = one.session(SessionId::from_u128(0xf0)).await;
    assert_eq!((row.message_count, row.metadata.unwrap().as_str().contains('2')), (1, true));
    assert_eq!(other.dead_letters().len(), 0);
}

async fn what_waits_for_a_session_holds_up_no_other_session(shared: &Shared) {
    let [_, other] = shared.nodes();
    other.start(neighbour()).await;
    // More messages than the window of a lane can hold.
    other.say_all(SESSION, (0..3_000).map(|number| format!("message {number}"))).await;
    other.say(neighbour(), "here").await;
    pending(&other, 3_000).await;
    assert_eq!(other.contents(neighbour()).await, ["here"]);
    other.start(SESSION).await;
    let books = other.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (3_001, 0));
    let expected: Vec<_> = (0..3_000).map(|number| format!("message {number}")).collect();
    assert_eq!(other.contents(SESSION).await, expected);
}

async fn what_waits_for_a_session_waits_again_after_a_restart(shared: &Shared) {
    let [one, other] = shared.nodes();
    one.say(SESSION, "before").await;
    tried(&one).await;
    let one = shared.back(one.dies());
    tried(&one).await;
    assert_eq!((one.tracker.health().books.pending(), one.dead_letters().len()), (1, 0));
    other.start(SESSION).await;
    one.settled().await;
    assert_eq!(other.contents(SESSION).await, ["before"]);
}

async fn a_start_on_the_same_node_ends_the_wait(shared: &Shared) {
    let [one, _] = shared.nodes();
    one.say(SESSION, "early").await;
    tried(&one).await;
    one.start(SESSION).await;
    one.say(SESSION, "late").await;
    assert_eq!(one.settled().await.dead_lettered, 0);
    assert_eq!(one.contents(SESSION).await, ["early", "late"]);
}

/// Starts a node that waits only 600 ms for an unknown session.
fn hasty(shared: &Shared) -> Node {
    let options = shared.options();
    let unknown_session_wait = Duration::from_millis(600);
    Node::with(&shared.ways[0], |defaults| options(defaults).with_unknown_session_wait(unknown_session_wait))
}

async fn a_session_that_does_not_appear_in_time_makes_dead_letters(shared: &Shared) {
    let node = hasty(shared);
    node.say(SESSION, "whose?").await;
    let metadata = JsonObject::parse("{}").unwrap();
    within(node.tracker.update_session(SESSION, metadata).unwrap()).await.unwrap();
    assert_eq!(node.settled().await.dead_lettered, 1);
    let letters = node.dead_letters();
    assert!(
        letters.len() == 2 && letters.iter().all(|letter| letter.reason == "unknown_session"),
        "{letters:?}"
    );
    // When the session exists, its earlier absence has no effect any more.
    node.start(SESSION).await;
    node.say(SESSION, "mine").await;
    assert_eq!(node.settled().await.stored, 1);
}

async fn a_session_that_was_deleted_meanwhile_makes_none(shared: &Shared) {
    let node = hasty(shared);
    let [_, other] = shared.nodes();
    node.say(SESSION, "there").await;
    other.start(SESSION).await;
    within(other.tracker.delete_session(SESSION, None).unwrap().in_store.durable()).await.unwrap();
    within(node.tracker.flush_to_store()).await.unwrap();
    assert_eq!(node.dead_letters().len(), 0);
}

async fn deleting_a_session_ends_the_wait_for_it(shared: &Shared) {
    let [one, _] = shared.nodes();
    one.say(SESSION, "forget it").await;
    tried(&one).await;
    within(one.tracker.delete_session(SESSION, None).unwrap().in_store.durable()).await.unwrap();
    within(one.tracker.flush_to_store()).await.unwrap();
    assert_eq!((one.tracker.health().books.pending(), one.dead_letters().len()), (0, 0));
    assert_eq!(one.session(neighbour()).await.status, Status::Active);
}

/// Runs with one store only, because the bound is in the node, not in the store.
#[tokio::test]
async fn what_waits_for_a_session_is_bounded() {
    let shared = Shared::memory();
    let [one, other] = shared.nodes();
    for some in [0..5_000, 5_000..10_030] {
        other.say_all(SESSION, some.map(|number| format!("message {number}"))).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while other.tracker.health().books.dead_lettered < 30 {
        assert!(Instant::now() < deadline, "{:?}", other.tracker.health().books);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    other.start(neighbour()).await;
    other.say(neighbour(), "there is room for others").await;
    pending(&other, 10_000).await;
    one.start(SESSION).await;
    let books = other.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (10_001, 30));
    assert!(other.dead_letters().iter().all(|letter| letter.reason == "unknown_session"));
    assert_eq!(one.contents(SESSION).await.len(), 10_000);
}
