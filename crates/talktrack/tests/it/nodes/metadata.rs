//! Metadata that a record cannot simply be merged into: another program replaced the object by something
//! else, or the result would be too long.

use serde_json::{Value, json};
use talktrack::record::{Attempt, DeadReason, Verdict};

use super::conflicts::{ACTIVE, again, spoken_end, start, update};
use super::{Shared, over_both_stores};
use crate::node::Node;
use crate::support::SESSION;

over_both_stores! {
    keys_are_merged_into_metadata_that_are_no_object_as_into_an_empty_object,
    metadata_of_a_start_that_are_too_long_are_told_and_the_session_goes_on,
    a_start_without_metadata_leaves_them_as_they_are,
    metadata_of_a_start_that_are_too_long_become_a_dead_letter,
}

/// Returns metadata with one member so long that a session can hold only one such member.
fn long(key: &str) -> String {
    json!({ key: "x".repeat(60 << 10) }).to_string()
}

impl Shared {
    /// Writes this into the session's metadata, as another program would. Returns false if the store is
    /// not a database, because then no other program can write.
    fn meddle(&self, metadata: &str) -> bool {
        self.database.as_ref().is_some_and(|database| {
            database.psql(&format!("UPDATE conversation_sessions SET metadata = '{metadata}', agent = NULL"));
            true
        })
    }

    async fn shown(&self) -> Value {
        serde_json::to_value(self.row().await.metadata).unwrap()
    }
}

async fn keys_are_merged_into_metadata_that_are_no_object_as_into_an_empty_object(shared: &Shared) {
    shared.tell(0, &[start(0, "{}")]).await;
    for (second, odd) in (1..).step_by(10).zip(["[1]", "\"x\"", "3", "null", "true"]) {
        shared.meddle(odd);
        assert_eq!(shared.tell(0, &[update(second, r#"{"a":1}"#)]).await, [Verdict::Updated]);
        assert_eq!(shared.metadata().await, json!({"a": 1}), "an update after {odd}");
        shared.meddle(odd);
        shared.tell(0, &[start(second + 1, r#"{"a":2}"#)]).await;
        assert_eq!(shared.metadata().await, json!({"a": 2}), "a start after {odd}");
        shared.meddle(odd);
        let filled_in = again(&update(second + 2, r#"{"a":3}"#), Attempt::Replay);
        assert_eq!(shared.tell(0, &[filled_in]).await, [Verdict::Updated]);
        // Nothing changed the metadata of the in-memory store, so the key already has a value there.
        let expected = if shared.database.is_some() { 3 } else { 2 };
        assert_eq!(shared.metadata().await, json!({ "a": expected }), "a replay after {odd}");
    }
}

async fn a_start_without_metadata_leaves_them_as_they_are(shared: &Shared) {
    shared.tell(0, &[start(0, "{}")]).await;
    let expected = if shared.meddle("[1]") { json!([1]) } else { json!({}) };
    shared.tell(0, &[start(1, "{}"), update(2, "{}"), spoken_end(3)]).await;
    shared.tell(1, &[start(4, "{}")]).await;
    assert_eq!(shared.shown().await, expected);
}

async fn metadata_of_a_start_that_are_too_long_are_told_and_the_session_goes_on(shared: &Shared) {
    let too_long =
        [Verdict::Dead(DeadReason::Data("the session's metadata would be longer than 128 KiB".into()))];
    shared.tell(0, &[start(0, &long("a")), update(1, &long("b")), spoken_end(2)]).await;
    let before = shared.shown().await;
    let third = start(3, &long("c"));
    assert_eq!(shared.tell(1, std::slice::from_ref(&third)).await, too_long);
    assert_eq!((shared.end().await, shared.shown().await), (ACTIVE, before.clone()));
    for attempt in [Attempt::Retry, Attempt::Replay] {
        assert_eq!(shared.tell(1, &[again(&third, attempt)]).await, too_long, "{attempt:?}");
    }
    // Metadata that do not become longer are accepted.
    assert_eq!(shared.tell(1, &[start(4, &long("b"))]).await, [Verdict::Started { resumed: true }]);
    assert_eq!(shared.shown().await, before);
    // The same behind a later record of the same node: the store must not conclude from it that the
    // earlier record was applied.
    let fourth = start(5, &long("d"));
    let end = spoken_end(6);
    shared.tell(1, &[fourth.clone(), end]).await;
    assert_eq!(shared.tell(1, &[again(&fourth, Attempt::Retry)]).await, too_long);
}

async fn metadata_of_a_start_that_are_too_long_become_a_dead_letter(shared: &Shared) {
    let nodes = shared.nodes();
    for (node, key) in nodes.iter().zip(["a", "b"]) {
        start_with(node, &long(key)).await;
        node.settled().await;
    }
    let third = Node::with(&shared.ways[0], shared.options());
    start_with(&third, &long("c")).await;
    third.say(SESSION, "still there").await;
    let books = third.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (1, 0), "a start is no message");
    let letters = third.dead_letters();
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["data"]);
    assert!(letters[0].detail.contains("longer than 128 KiB"), "{letters:?}");
    assert_eq!(third.contents(SESSION).await, ["still there"]);
}

async fn start_with(node: &Node, metadata: &str) {
    use talktrack::{JsonObject, NewSession};
    let metadata = Some(JsonObject::parse(metadata).unwrap());
    let session = NewSession::new(SESSION, crate::support::USER).with_metadata(metadata);
    crate::support::within(node.tracker.start_session(session).unwrap().durable()).await.unwrap();
}
