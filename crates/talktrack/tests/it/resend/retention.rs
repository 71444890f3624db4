//! A store that forgets what retention removed: the same rows are removed again, and newer rows stay.

use std::sync::Arc;
use std::time::Duration;

use talktrack::clock::Clock as _;
use talktrack::store::Store;
use talktrack::{Closing, Deletion, NewSession, SessionId, Status, Timestamp};
use talktrack_testkit::ManualClock;
use talktrack_testkit::Setup;
use talktrack_testkit::memory::MemoryStore;

use super::postgres::{dump, restore};
use super::{has_all, texts};
use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER, message, within};

/// A session in the same lane as [`SESSION`].
const NEIGHBOUR: SessionId = SessionId::from_u128(0xa4);

const LONG: Duration = Duration::from_secs(60 * 60);

/// Imports an old recording, with the same ids and times every time.
async fn import(node: &Node, texts: &[String], at: Timestamp) {
    let session = NewSession::new(SESSION, USER).with_started_at(at);
    within(node.tracker.start_session(session).unwrap().durable()).await.unwrap();
    for text in texts {
        let created_at = Some(at);
        node.track(message(text.clone()).with_external_id(text.clone()).with_created_at(created_at)).await;
    }
    let closing = Closing::new(Status::Ended, "completed", at);
    within(node.tracker.end_session_as(SESSION, closing).unwrap().durable()).await.unwrap();
    node.settled().await;
}

async fn retention_is_repeated_as_it_was(store: Arc<dyn Store>, forget: impl AsyncFn(bool)) {
    let clock: ManualClock = Setup::sqlite("").clock().clone();
    let shared = Arc::new(clock.clone());
    let node = Node::with(&store, |options| options.with_clock(shared));
    let long_ago = clock.now();
    import(&node, &texts(0..10), long_ago).await;
    node.start(NEIGHBOUR).await;
    node.settled().await;
    clock.advance(LONG);
    node.tracker.sweep();
    forget(false).await;
    let since = clock.now().minus(LONG / 2);
    let deletion = node.tracker.delete_inactive_session(SESSION, None, since).unwrap();
    let Deletion { here, in_store, .. } = deletion.expect("it is not in memory");
    within(here.durable()).await.unwrap();
    let removed = within(in_store.durable()).await.unwrap();
    assert_eq!((removed.sessions, removed.messages), (1, 10));
    clock.advance(LONG);
    // By its times, the new import is as old as the first one.
    import(&node, &texts(0..5), long_ago).await;
    for round in 0..2 {
        forget(true).await;
        assert_eq!(node.contents(SESSION).await.len(), 10, "the store has it again");
        for text in ["first", "last"] {
            // New records go out after the forgotten ones, the last of which is the deletion.
            node.say(NEIGHBOUR, format!("{text} {round}")).await;
            has_all(&node, SESSION, &texts(0..5)).await;
        }
        assert_eq!(node.session(SESSION).await.message_count, 5);
    }
}

#[tokio::test]
async fn what_retention_removed_is_removed_again_and_what_was_imported_since_stays_in_memory() {
    let store = MemoryStore::new();
    let snapshot = parking_lot::Mutex::new(None);
    let way = Arc::new(store.clone()) as Arc<dyn Store>;
    let forget = async |forgets: bool| {
        let mut snapshot = snapshot.lock();
        if forgets { store.restore(snapshot.as_ref().unwrap()) } else { *snapshot = Some(store.snapshot()) }
    };
    retention_is_repeated_as_it_was(way, forget).await;
}

#[tokio::test]
async fn what_retention_removed_is_removed_again_and_what_was_imported_since_stays_in_postgresql() {
    let database = migrated().await;
    let way = Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    let forget = async |forgets: bool| if forgets { restore(&database) } else { dump(&database) };
    retention_is_repeated_as_it_was(way, forget).await;
}
