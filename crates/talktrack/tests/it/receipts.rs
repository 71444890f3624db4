//! A receipt says durable as soon as its message is durable, and never before.

use std::sync::Arc;
use std::time::Duration;
use talktrack::clock::Seq;

use talktrack::{MessageId, NotDurable, Options, SessionId, Tracker};
use talktrack_testkit::eventually;

use crate::support::{SESSION, StuckDisk, accept, assert_pending, dir, message, new_session, value, within};

async fn open(dir: &tempfile::TempDir) -> Tracker {
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    tracker
}

#[tokio::test]
async fn a_receipt_resolves_when_the_message_is_durable_and_not_before() {
    let dir = dir();
    let tracker = open(&dir).await;
    let mut durability = tracker.durability();
    let stuck = StuckDisk::of(dir.path());
    let receipt = accept(&tracker, message("hello"));
    assert_pending(receipt.clone().durable(), "the disk has not answered").await;
    assert_eq!(durability.outcome(receipt.seq()), None);
    assert_pending(tracker.flush(), "a flush waits for the same").await;
    drop(stuck);
    within(receipt.clone()).await.unwrap();
    // Another connection sees the row, so it was committed and not only written.
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM conversation_messages"), 1);
    assert_eq!(value::<String>(dir.path(), "SELECT id FROM conversation_messages"), receipt.id().to_string());
    assert_eq!(durability.outcome(receipt.seq()), Some(Ok(())));
    assert_eq!(within(durability.wait(receipt.seq())).await, Ok(()));
    assert_eq!(within(receipt).await, Ok(()), "a receipt may be asked as often as one likes");
}

#[tokio::test]
async fn every_receipt_resolves_with_its_row_already_there() {
    let dir = dir();
    let tracker = open(&dir).await;
    for number in 0..40 {
        let receipt = accept(&tracker, message(format!("message {number}")));
        let id = receipt.id();
        within(receipt).await.unwrap();
        let query = format!("SELECT count(*) FROM conversation_messages WHERE id = '{id}'");
        assert_eq!(value::<u64>(dir.path(), &query), 1, "message {number}");
    }
}

#[tokio::test]
async fn receipts_that_nobody_asks_change_nothing() {
    let dir = dir();
    let tracker = open(&dir).await;
    for number in 0..3_000 {
        drop(accept(&tracker, message(format!("message {number}"))));
    }
    drop(tracker.end_session(SESSION, "completed").unwrap());
    within(tracker.flush()).await.unwrap();
    let session = within(tracker.reader().session(SESSION)).await.unwrap().unwrap();
    assert_eq!((session.message_count, session.end_reason.as_deref()), (3_000, Some("completed")));
}

#[tokio::test]
async fn a_receipt_says_which_message_was_refused_and_why() {
    let dir = dir();
    let tracker = open(&dir).await;
    let with_id = |number, content: &str| message(content).with_id(MessageId::from_u128(number));
    // The disk is stuck until the last message is accepted, so that all four are in one batch.
    let stuck = StuckDisk::of(dir.path());
    let receipts = [
        accept(&tracker, with_id(1, "one")),
        accept(&tracker, with_id(1, "not one")),
        accept(&tracker, with_id(2, "two")),
        accept(&tracker, with_id(1, "one")),
    ];
    drop(stuck);
    let durability = tracker.durability();
    let expected = [Ok(()), Err(NotDurable::IdConflict), Ok(()), Ok(())];
    for (receipt, expected) in receipts.into_iter().zip(expected) {
        let seq = receipt.seq();
        assert_eq!(within(receipt.clone()).await, expected);
        assert_eq!(within(receipt).await, expected, "asked a second time");
        assert_eq!(durability.outcome(seq), Some(expected));
    }
    within(tracker.flush()).await.expect("a flush that ends with a refusal is a flush");
    let books = tracker.health().books;
    assert_eq!((books.durable, books.stored), (3, 3), "what was refused is not in the books");
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM conversation_messages"), 2);
}

#[tokio::test]
async fn a_receipt_says_no_such_session_to_an_update_or_an_end_of_one() {
    let dir = dir();
    let tracker = open(&dir).await;
    let unknown = SessionId::from_u128(0xdead);
    let metadata = talktrack::JsonObject::parse("{}").unwrap();
    let update = tracker.update_session(unknown, metadata).unwrap();
    assert_eq!(within(update).await, Err(NotDurable::UnknownSession));
    let end = tracker.end_session(unknown, "completed").unwrap();
    assert_eq!(within(end.durable()).await, Err(NotDurable::UnknownSession));
}

#[tokio::test]
async fn after_a_shutdown_receipts_say_what_became_of_their_messages() {
    let dir = dir();
    let tracker = open(&dir).await;
    let mut durability = tracker.durability();
    let receipts: Vec<_> = (0..1_500).map(|n| accept(&tracker, message(format!("{n}")))).collect();
    let end = tracker.end_session(SESSION, "completed").unwrap();
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    let last = receipts.last().unwrap().seq();
    for receipt in receipts {
        assert_eq!(within(receipt).await, Ok(()), "a shutdown writes what was accepted");
    }
    assert_eq!(within(end.durable()).await.unwrap().message_count, 1_500);
    assert_eq!(within(durability.wait(last)).await, Ok(()));
    assert_eq!(within(tracker.flush()).await, Ok(()), "everything accepted is durable");
    drop(tracker);
    assert_eq!(
        within(durability.wait(Seq::MAX)).await,
        Err(NotDurable::Stopped),
        "what never was never will be"
    );
}

#[tokio::test]
async fn a_follower_sees_each_step_of_durability() {
    let dir = dir();
    let tracker = open(&dir).await;
    let mut durability = tracker.durability();
    let stuck = StuckDisk::of(dir.path());
    let receipts: Vec<_> = (0..100).map(|n| accept(&tracker, message(format!("{n}")))).collect();
    let follower = tokio::spawn(async move {
        let mut open: Vec<_> = receipts.iter().map(talktrack::Receipt::seq).collect();
        while !open.is_empty() {
            durability.changed().await;
            open.retain(|seq| durability.outcome(*seq).is_none());
        }
    });
    tokio::task::yield_now().await;
    assert!(!follower.is_finished());
    drop(stuck);
    within(follower).await.unwrap();
}

#[tokio::test]
async fn a_receipt_keeps_no_tracker_alive() {
    let dir = dir();
    let tracker = open(&dir).await;
    let receipt = accept(&tracker, message("hello"));
    let durability = Arc::new(tracker.durability());
    drop(tracker);
    // The directory can be opened again, although the receipt and the `Durability` still exist.
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    assert_eq!(within(receipt).await, Ok(()));
    eventually("the session is abandoned", || {
        value::<String>(dir.path(), "SELECT status FROM conversation_sessions") == "abandoned"
    })
    .await;
    drop((tracker, durability));
}
