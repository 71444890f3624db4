//! A store that forgets what it confirmed: within the re-send window nothing is lost, and nothing is stored twice.

mod postgres;
mod retention;
mod edits;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use talktrack::record::Attempt;
use talktrack::store::{Rows as _, Store};
use talktrack::{Books, Deletion, NotDurable, Options, SessionId};
use talktrack_testkit::eventually;
use talktrack_testkit::memory::MemoryStore;

use crate::node::Node;
use crate::support::{SESSION, accept, dir, image_of, message, sqlite, value, within};

fn node_on(store: &MemoryStore) -> Node {
    Node::on(&(Arc::new(store.clone()) as Arc<dyn Store>))
}

fn texts(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}

/// Waits until the store has exactly these messages of the session, in this order, and no record waits.
async fn has_all(node: &Node, session: SessionId, expected: &[String]) -> Books {
    let deadline = std::time::Instant::now() + talktrack_testkit::PATIENCE;
    while node.contents(session).await != expected {
        assert!(std::time::Instant::now() < deadline, "{:?}", node.contents(session).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let books = node.settled().await;
    assert!(node.dead_letters().is_empty());
    books
}

#[tokio::test]
async fn what_a_store_forgot_is_delivered_again_in_its_order_and_the_books_follow() {
    let store = MemoryStore::new();
    let node = node_on(&store);
    node.start(SESSION).await;
    node.say_all(SESSION, texts(0..20).into_iter()).await;
    node.settled().await;
    let earlier = store.snapshot();
    for part in [20..30, 30..600, 600..610] {
        node.say_all(SESSION, texts(part).into_iter()).await;
        node.settled().await;
    }
    store.restore(&earlier);
    assert_eq!(node.contents(SESSION).await, texts(0..20));
    node.say_all(SESSION, texts(610..620).into_iter()).await;
    let books = has_all(&node, SESSION, &texts(0..620)).await;
    assert_eq!((books.durable, books.stored, books.pending()), (620, 620, 0));
}

#[tokio::test]
async fn a_node_with_nothing_new_to_say_notices_by_itself_that_the_store_forgot() {
    let store = MemoryStore::new();
    let empty = store.snapshot();
    let node = node_on(&store);
    node.start(SESSION).await;
    node.say_all(SESSION, texts(0..50).into_iter()).await;
    within(node.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    node.settled().await;
    let ended = node.session(SESSION).await;
    store.restore(&empty);
    assert_eq!(store.session(SESSION).await.unwrap(), None);
    has_all(&node, SESSION, &texts(0..50)).await;
    assert_eq!(node.session(SESSION).await, ended, "an ended session stays ended");
}

#[tokio::test]
async fn what_is_delivered_again_says_so_and_what_is_new_does_not() {
    let store = MemoryStore::new();
    let node = node_on(&store);
    let empty = store.snapshot();
    node.start(SESSION).await;
    node.say_all(SESSION, texts(0..3).into_iter()).await;
    node.settled().await;
    store.restore(&empty);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&seen);
    store.fail_when(move |records| {
        notes.lock().extend(records.iter().map(|record| (record.seq, record.attempt)));
        None
    });
    node.say(SESSION, "message 3").await;
    has_all(&node, SESSION, &texts(0..4)).await;
    let mut seen = seen.lock().clone();
    seen.sort_by_key(|(seq, _)| *seq);
    seen.dedup();
    let again: Vec<_> = seen.iter().filter(|(_, attempt)| *attempt == Attempt::Retry).collect();
    assert_eq!(again.len(), 4, "the start and three messages: {seen:?}");
    let newest = seen.last().unwrap();
    assert!(!again.iter().any(|(seq, _)| *seq == newest.0), "{seen:?}");
}

#[tokio::test]
async fn a_start_finds_what_the_store_forgot_while_the_server_was_away() {
    let store = MemoryStore::new();
    let earlier = store.snapshot();
    let node = node_on(&store);
    node.start(SESSION).await;
    node.say_all(SESSION, texts(0..100).into_iter()).await;
    node.settled().await;
    let dir = node.dies();
    store.restore(&earlier);
    let node = Node::back(dir, &(Arc::new(store.clone()) as Arc<dyn Store>), |options| options);
    has_all(&node, SESSION, &texts(0..100)).await;
}

#[tokio::test]
async fn a_deletion_that_the_store_forgot_is_done_again_and_nothing_of_the_session_comes_back() {
    let store = MemoryStore::new();
    let node = node_on(&store);
    let other = SessionId::from_u128(0xa4);
    for session in [SESSION, other] {
        node.start(session).await;
        node.say_all(session, texts(0..10).into_iter()).await;
    }
    node.settled().await;
    let with_both = store.snapshot();
    let Deletion { here, in_store, .. } = node.tracker.delete_session(SESSION, None).unwrap();
    within(here.durable()).await.unwrap();
    within(in_store.durable()).await.unwrap();
    node.settled().await;
    store.restore(&with_both);
    assert_eq!(node.contents(SESSION).await.len(), 10, "the store has it again");
    eventually("it is deleted again", || {
        let session = futures_util::FutureExt::now_or_never(store.session(SESSION));
        matches!(session, Some(Ok(None)))
    })
    .await;
    node.settled().await;
    has_all(&node, other, &texts(0..10)).await;
    assert_eq!(within(accept(&node.tracker, message("late"))).await, Err(NotDurable::Deleted));
}

#[tokio::test]
async fn a_store_that_forgets_again_and_again_loses_and_doubles_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let store = MemoryStore::new();
    let node = node_on(&store);
    let sessions: Vec<SessionId> = (0..8).map(|number| SessionId::from_u128(0x5e55 + number)).collect();
    for session in &sessions {
        node.start(*session).await;
    }
    let mut said = 0;
    let mut snapshots = vec![store.snapshot()];
    for _ in 0..40 {
        let more = random.usize(1..40);
        for session in &sessions {
            for text in texts(said..said + more) {
                drop(accept(&node.tracker, talktrack::Message::new(*session, talktrack::Role::User, text)));
            }
        }
        said += more;
        if random.bool() {
            within(node.tracker.flush_to_store()).await.unwrap();
        }
        match random.u8(..3) {
            0 => snapshots.push(store.snapshot()),
            1 => store.restore(random.choice(&snapshots).unwrap()),
            _ => {}
        }
    }
    for session in sessions {
        has_all(&node, session, &texts(0..said)).await;
    }
    let books = node.tracker.health().books;
    assert_eq!((books.durable, books.stored), (said as u64 * 8, said as u64 * 8));
}

#[tokio::test]
async fn records_leave_the_window_when_their_time_is_over_and_deletions_stay() {
    let dir = dir();
    let store = MemoryStore::new();
    let options = Options::new(dir.path()).with_resend_window(Duration::from_millis(1));
    let tracker = talktrack::Tracker::open_with_store(options, Arc::new(store.clone())).unwrap();
    drop(tracker.start_session(crate::support::new_session()).unwrap());
    for text in texts(0..3_000) {
        drop(accept(&tracker, message(text)));
    }
    let gone = SessionId::from_u128(0xdead);
    let Deletion { in_store, .. } = tracker.delete_session(gone, None).unwrap();
    within(in_store.durable()).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    eventually("the rows are gone", || value::<u64>(dir.path(), "SELECT count(*) FROM journal") == 1).await;
    let kept = "SELECT body ->> '$.body.delete.session_id' FROM journal";
    assert_eq!(value::<String>(dir.path(), kept), gone.to_string());
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM resend_window"), 1);
}

#[tokio::test]
async fn the_window_keeps_no_more_bytes_than_it_may() {
    let dir = dir();
    let store = MemoryStore::new();
    let options = Options::new(dir.path()).with_resend_window_max_bytes(1_000_000);
    let tracker = talktrack::Tracker::open_with_store(options, Arc::new(store.clone())).unwrap();
    drop(tracker.start_session(crate::support::new_session()).unwrap());
    for text in texts(0..5_000) {
        drop(accept(&tracker, message(text)));
    }
    within(tracker.flush_to_store()).await.unwrap();
    let kept = || value::<u64>(dir.path(), "SELECT coalesce(sum(octet_length(body)), 0) FROM journal");
    eventually("the oldest are gone", || kept() <= 1_000_000).await;
    assert!(kept() > 0, "the newest stay");
    let newest = "SELECT body ->> '$.body.message.message.content' FROM journal ORDER BY seq DESC LIMIT 1";
    assert_eq!(value::<String>(dir.path(), newest), "message 4999");
}

#[tokio::test]
async fn a_copy_of_a_data_directory_gets_a_node_id_of_its_own_and_the_original_keeps_its() {
    let (dir, copy, store) = (dir(), dir(), MemoryStore::new());
    let store = Arc::new(store) as Arc<dyn Store>;
    let node = "SELECT node FROM directory";
    let open = |dir: &tempfile::TempDir| {
        talktrack::Tracker::open_with_store(Options::new(dir.path()), Arc::clone(&store))
    };
    drop(open(&dir).unwrap());
    let original: String = value(dir.path(), node);
    let tracker = open(&dir).unwrap();
    image_of(dir.path(), copy.path());
    drop(tracker);
    drop(open(&copy).unwrap());
    let other: String = value(copy.path(), node);
    assert_ne!(other, original);
    for (dir, expected) in [(&dir, &original), (&copy, &other)] {
        drop(open(dir).unwrap());
        assert_eq!(&value::<String>(dir.path(), node), expected);
    }
}

#[tokio::test]
async fn two_servers_under_one_node_id_are_told_and_neither_loses_anything() {
    let copy = dir();
    let store = MemoryStore::new();
    let node = node_on(&store);
    node.start(SESSION).await;
    node.say_all(SESSION, texts(0..5).into_iter()).await;
    node.settled().await;
    let dir = node.dies();
    // As if the disk had been cloned below the running system: the copy cannot be told from the original.
    let file = talktrack::DATABASE_FILE;
    std::fs::copy(dir.path().join(file), copy.path().join(file)).unwrap();
    sqlite(copy.path()).execute("UPDATE directory SET file = NULL", []).unwrap();
    let way = Arc::new(store.clone()) as Arc<dyn Store>;
    let one = Node::back(dir, &way, |o| o);
    let two = Node::back(copy, &way, |o| o);
    let parked = |node: &Node| {
        node.tracker
            .health()
            .store
            .is_some_and(|cause| cause.contains("another server delivers under the node id"))
    };
    let mut said = 0;
    while !parked(&one) && !parked(&two) {
        one.say(SESSION, format!("by the one {said}")).await;
        two.say(SESSION, format!("by the other {said}")).await;
        said += 1;
    }
    let (parked, other) = if parked(&one) { (one, two) } else { (two, one) };
    other.say(SESSION, "goes on").await;
    other.settled().await;
    // Health tells this node to restart, and at the restart it gets a new node id.
    let dir = parked.dies();
    let original: String = value(dir.path(), "SELECT node FROM directory");
    let back = Node::back(dir, &way, |o| o);
    back.settled().await;
    other.settled().await;
    let mut contents = back.contents(SESSION).await;
    contents.sort();
    let mut expected: Vec<_> = texts(0..5);
    expected
        .extend((0..said).flat_map(|said| [format!("by the one {said}"), format!("by the other {said}")]));
    expected.push("goes on".into());
    expected.sort();
    assert_eq!(contents, expected);
    let dir = back.dies();
    assert_ne!(value::<String>(dir.path(), "SELECT node FROM directory"), original);
}
