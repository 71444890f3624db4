//! A session is deleted while a write with its messages is in flight, and other messages of the same
//! lane wait for their session.

use std::sync::{Arc, mpsc};

use talktrack::SessionId;
use talktrack::record::Record;
use talktrack::store::{ErrorClass, Store};
use talktrack_testkit::memory::MemoryStore;

use crate::node::Node;
use crate::support::{SESSION, store_error, within};

/// Returns a session in the same lane as [`SESSION`].
fn neighbour(number: u128) -> SessionId {
    SessionId::from_u128(SESSION.as_uuid().as_u128() + 400 * number)
}

/// True if these records of a write include all four messages.
fn are_all_in(records: &[Record]) -> bool {
    let says =
        |record: &Record, text: &str| record.message().is_some_and(|stamped| stamped.message.content == text);
    ["one", "waits", "two", "three"].iter().all(|text| records.iter().any(|record| says(record, text)))
}

/// Regression test: the writer counted the rows between the first and the last of a delivery. One row that waited
/// and one that was deleted meanwhile made the count match, so the waiting row was taken for stored and was dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_waits_for_its_session_is_kept_if_a_deletion_removes_another_one_of_the_write() {
    let store = MemoryStore::new();
    let first = neighbour(1);
    let deleted = neighbour(2);
    let last = neighbour(3);
    let unknown = SESSION;
    let node = Node::on(&(Arc::new(store.clone()) as Arc<dyn Store>));
    for session in [first, deleted, last] {
        node.start(session).await;
    }
    node.settled().await;
    let (tried, is_tried) = mpsc::channel();
    store.fail_when(move |records| {
        if are_all_in(records) {
            // Only the first of these attempts is waited for.
            let _ = tried.send(());
        }
        Some(store_error(ErrorClass::Transient, "away"))
    });
    for (session, text) in [(first, "one"), (unknown, "waits"), (deleted, "two"), (last, "three")] {
        node.say(session, text).await;
    }
    // An earlier attempt has fewer of them, and must not be the one that succeeds.
    let is_tried = tokio::task::spawn_blocking(move || is_tried.recv());
    within(is_tried).await.expect("the thread ends").expect("all four are tried in one write");

    // The write is complete, but its answer is held back until the session is deleted.
    let (written, is_written) = mpsc::channel();
    let (release, is_released) = mpsc::channel::<()>();
    store.lose_answers_when(move |records| {
        if are_all_in(records) {
            written.send(()).expect("the test waits for it");
            is_released.recv().expect("the test releases it");
        }
        None
    });
    store.fail_when(|_| None);
    let is_written = tokio::task::spawn_blocking(move || is_written.recv());
    within(is_written).await.expect("the thread ends").expect("all four are in one write");
    let deletion = node.tracker.delete_session(deleted, None).expect("accepted");
    within(deletion.here.durable()).await.expect("the messages have left the journal");
    release.send(()).expect("the write waits");
    within(deletion.in_store.durable()).await.expect("the store deletes it");

    // Restarts the node, because the content of the journal counts, not the state in memory.
    let node = Node::back(node.dies(), &(Arc::new(store.clone()) as Arc<dyn Store>), |options| options);
    assert_eq!(node.tracker.health().books.pending(), 1, "{:?}", node.tracker.health().books);
    node.start(unknown).await;
    node.settled().await;
    assert_eq!(node.contents(unknown).await, ["waits"]);
    assert_eq!(node.contents(deleted).await, Vec::<String>::new());
}
