//! Bit rot in the journal: the damaged row becomes a dead letter, the other rows are delivered, and the books balance.

use std::time::Duration;

use talktrack::store::sqlite::SqliteReader;
use talktrack::store::{ErrorClass, Read as _, Rows as _};
use talktrack::{DATABASE_FILE, Message, MessageId, NotDurable, Reason, Tracker};
use talktrack_testkit::Setup;
use talktrack_testkit::memory::MemoryStore;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::{
    SESSION, accept, dir, message, new_session, remote, sqlite, store_error, value, within,
};

fn numbered(number: u128) -> Message {
    message(format!("message {number}")).with_id(MessageId::from_u128(number))
}

/// Fills a journal with `count` messages that wait for the store, and closes the data directory.
async fn full_outbox(dir: &TempDir, count: u128) -> (Setup, MemoryStore) {
    let (setup, store) = remote(dir);
    let tracker = setup.open(setup.options()).unwrap();
    // The session itself is already in the store, so that only the messages wait.
    drop(tracker.start_session(new_session()).unwrap());
    drop(tracker.end_session(SESSION, "completed").unwrap());
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    for number in 1..=count {
        drop(accept(&tracker, numbered(number)));
    }
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM pending"), u64::try_from(count).unwrap());
    (setup, store)
}

/// Flips the bits in `mask` in the message's text. Depending on the mask, the row is still JSON, or is no longer UTF-8.
fn rot(dir: &TempDir, number: u128, mask: u8) {
    let connection = sqlite(dir.path());
    let id = MessageId::from_u128(number).to_string();
    let read = "SELECT cast(body AS blob) FROM journal WHERE message_id = ?1";
    let mut body: Vec<u8> = connection.query_row(read, [&id], |row| row.get(0)).unwrap();
    let said = format!("message {number}");
    let place = body.windows(said.len()).position(|bytes| bytes == said.as_bytes()).expect("what was said");
    body[place] ^= mask;
    let write = "UPDATE journal SET body = cast(?2 AS text) WHERE message_id = ?1";
    assert_eq!(connection.execute(write, rusqlite::params![id, body]).unwrap(), 1);
}

/// Opens the directory again, and checks that the damaged rows are dead letters and all others are in the store.
async fn rest_is_delivered(
    dir: &TempDir,
    setup: &Setup,
    store: &MemoryStore,
    count: u128,
    rotten: &[u128],
) -> Tracker {
    store.fix();
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    let rows = store.messages(SESSION, None, 1_000).await.unwrap();
    let stored: Vec<_> = rows.into_iter().map(|row| row.content).collect();
    let intact = (1..=count).filter(|number| !rotten.contains(number));
    assert_eq!(stored, intact.map(|number| format!("message {number}")).collect::<Vec<_>>());
    let laid_aside = "SELECT group_concat(message_id || ' ' || reason, ', ') FROM (SELECT * FROM dead_letters ORDER BY seq)";
    let expected = rotten.iter().map(|number| format!("{} corrupt", Uuid::from_u128(*number)));
    assert_eq!(value::<String>(dir.path(), laid_aside), expected.collect::<Vec<_>>().join(", "));
    let books = tracker.health().books;
    let all = u64::try_from(count).unwrap();
    let dead = rotten.len() as u64;
    assert_eq!((books.durable, books.stored, books.dead_lettered), (all, all - dead, dead));
    let audit = SqliteReader::open(&dir.path().join(DATABASE_FILE)).unwrap().audit().await.unwrap();
    assert_eq!((audit.journal, audit.dead_letters, audit.problems), (0, dead, vec![]));
    tracker
}

#[tokio::test]
async fn a_row_with_a_flipped_bit_is_laid_aside_and_the_rest_delivered() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 50).await;
    rot(&dir, 17, 1);
    rest_is_delivered(&dir, &setup, &store, 50, &[17]).await;
}

#[tokio::test]
async fn a_row_that_is_no_longer_utf8_is_laid_aside_and_the_rest_delivered() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 50).await;
    rot(&dir, 1, 0x80);
    rot(&dir, 50, 0x80);
    rest_is_delivered(&dir, &setup, &store, 50, &[1, 50]).await;
}

#[tokio::test]
async fn the_only_row_being_corrupt_is_laid_aside_although_nothing_else_arrives() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 1).await;
    rot(&dir, 1, 0x80);
    rest_is_delivered(&dir, &setup, &store, 1, &[1]).await;
}

#[tokio::test]
async fn a_row_of_the_wrong_type_is_laid_aside() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 3).await;
    let id = MessageId::from_u128(2).to_string();
    sqlite(dir.path())
        .execute("UPDATE journal SET body = cast(body AS blob), checksum = 0 WHERE message_id = ?1", [id])
        .unwrap();
    rest_is_delivered(&dir, &setup, &store, 3, &[2]).await;
}

#[tokio::test]
async fn a_message_whose_row_rotted_can_be_handed_over_again() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 5).await;
    rot(&dir, 3, 0x80);
    let tracker = rest_is_delivered(&dir, &setup, &store, 5, &[3]).await;
    within(accept(&tracker, numbered(3))).await.expect("durable");
    within(tracker.flush_to_store()).await.unwrap();
    let rows = store.messages(SESSION, None, 10).await.unwrap();
    assert_eq!(rows.len(), 5, "now it is there");
    assert_eq!(tracker.health().books.stored, 5);
}

#[tokio::test]
async fn a_repetition_of_a_message_whose_row_has_just_rotted_is_kept_or_refused_never_swallowed() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 2).await;
    rot(&dir, 1, 1);
    let tracker = setup.open(setup.options()).unwrap();
    // The damaged row blocks a repetition of its message until it has become a dead letter.
    let outcome = match tracker.track_message(numbered(1)) {
        Ok(receipt) => within(receipt).await,
        Err(refused) => panic!("{}", Reason::to_string(&refused.reason)),
    };
    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    let rows = store.messages(SESSION, None, 10).await.unwrap();
    let there = rows.iter().any(|row| row.id == MessageId::from_u128(1));
    assert!(matches!(outcome, Ok(()) | Err(NotDurable::IdConflict)), "{outcome:?}");
    assert_eq!(there, outcome.is_ok(), "acknowledged means kept; there are {} rows", rows.len());
}

#[tokio::test]
async fn a_row_whose_checksum_has_rotted_beyond_reading_holds_up_nothing() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 5).await;
    let rot = "UPDATE journal SET checksum = checksum + (1 << 40) WHERE message_id = ?1";
    assert_eq!(sqlite(dir.path()).execute(rot, [Uuid::from_u128(2).to_string()]).unwrap(), 1);
    rest_is_delivered(&dir, &setup, &store, 5, &[2]).await;
}

/// Regression test, found by flipping bytes: the writer matched the store's answer by the `seq` inside
/// the record, so a row of the journal with a different `seq` was never removed.
#[tokio::test]
async fn a_row_whose_own_number_has_rotted_is_laid_aside_and_holds_up_nothing() {
    let dir = dir();
    let (setup, store) = full_outbox(&dir, 5).await;
    let rot = "UPDATE journal SET seq = seq + 1000 WHERE message_id = ?1";
    assert_eq!(sqlite(dir.path()).execute(rot, [Uuid::from_u128(2).to_string()]).unwrap(), 1);
    rest_is_delivered(&dir, &setup, &store, 5, &[2]).await;
}
