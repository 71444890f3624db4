//! The circuit breaker. Bad rows of one user affect only this user, and a store that accepts no rows of
//! any user creates no dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use talktrack::record::{Body, Record};
use talktrack::store::{ErrorClass, Rows as _};
use talktrack::{Message, NewSession, Role, SessionId, Tracker, UserId};
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{PATIENCE, Setup};

use crate::support::{accept, dir, remote, store_error, within};

/// The user whose rows the store refuses.
const BAD: UserId = UserId::from_u128(0xbad);

fn user(number: u128) -> UserId {
    UserId::from_u128(0x1000 + number)
}

fn session(number: u128) -> SessionId {
    SessionId::from_u128(0x2000 + number)
}

fn is_bad(record: &Record) -> bool {
    record.message().is_some_and(|stamped| stamped.message.content.starts_with("bad"))
}

fn refuse_bad(store: &MemoryStore) {
    store.fail_when(|records| {
        records.iter().any(is_bad).then(|| store_error(ErrorClass::Data, "numeric field overflow"))
    });
}

fn refuse_all_messages(store: &MemoryStore) {
    store.fail_when(|records| {
        let any = records.iter().any(|record| record.message().is_some());
        any.then(|| store_error(ErrorClass::Data, "check \"closed\""))
    });
}

fn start(tracker: &Tracker, session: SessionId, user: UserId) {
    drop(tracker.start_session(NewSession::new(session, user)).unwrap());
}

fn say(tracker: &Tracker, session: SessionId, text: impl Into<String>) {
    drop(accept(tracker, Message::new(session, Role::User, text)));
}

/// Waits until the condition holds, for at most [`PATIENCE`].
async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn open(setup: &Setup) -> Tracker {
    setup.open(setup.options()).unwrap()
}

/// Tracks 60 bad messages in twelve sessions of one user, interleaved with messages of sixteen other users.
async fn flood(tracker: &Tracker) {
    for number in 0..16 {
        start(tracker, session(number), user(number));
    }
    for number in 100..112 {
        start(tracker, session(number), BAD);
    }
    for round in 0..5 {
        for number in 100..112 {
            say(tracker, session(number), format!("bad {round}"));
        }
        for number in 0..16 {
            say(tracker, session(number), format!("good {round}"));
        }
    }
    within(tracker.flush()).await.unwrap();
}

/// Waits until the store has the five good rows of each of the other users, whose sessions are so many numbers apart.
async fn good_ones_are_stored(store: &MemoryStore, step: u128) {
    for number in 0..16 {
        until("the rows of the others are stored", async || {
            store.messages(session(step * number), None, 10).await.unwrap().len() == 5
        })
        .await;
    }
}

#[tokio::test]
async fn the_bad_rows_of_one_user_delay_nobody_else_and_become_dead_letters() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    refuse_bad(&store);
    let tracker = open(&setup);
    flood(&tracker).await;
    good_ones_are_stored(&store, 1).await;
    assert_eq!(tracker.health().store, None);
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered), (80, 60));
    assert_eq!((tracker.health().store, tracker.health().warning), (None, None));
}

#[tokio::test]
async fn the_bad_rows_of_one_user_are_no_outage_after_a_restart() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = open(&setup);
    flood(&tracker).await;
    drop(tracker);
    refuse_bad(&store);
    let tracker = open(&setup);
    good_ones_are_stored(&store, 1).await;
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(tracker.health().books.dead_lettered, 60);
    assert_eq!((tracker.health().store, tracker.health().warning), (None, None));
}

#[tokio::test]
async fn rows_of_the_only_active_user_wait_with_a_warning_until_the_store_takes_another() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    refuse_bad(&store);
    let tracker = open(&setup);
    start(&tracker, session(1), BAD);
    within(tracker.flush_to_store()).await.unwrap();
    (0..30).for_each(|number| say(&tracker, session(1), format!("bad {number}")));
    within(tracker.flush()).await.unwrap();
    until("the breaker opens", async || tracker.health().warning.is_some()).await;
    let health = tracker.health();
    let warning = health.warning.unwrap();
    assert!(
        warning.contains("numeric field overflow") && warning.contains(&BAD.to_string()[..8]),
        "{warning}"
    );
    assert_eq!((health.store, health.books.pending(), health.books.dead_lettered), (None, 30, 0));
    // The rows of another user are sent at once, although the bad rows still wait.
    start(&tracker, session(2), user(2));
    say(&tracker, session(2), "good");
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered, tracker.health().warning), (1, 30, None));
}

#[tokio::test]
async fn a_store_that_takes_no_message_of_anybody_makes_no_dead_letters_and_goes_on_by_itself() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = open(&setup);
    (0..4).for_each(|number| start(&tracker, session(number), user(number)));
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    for round in 0..20 {
        (0..4).for_each(|number| say(&tracker, session(number), format!("{round}")));
    }
    within(tracker.flush()).await.unwrap();
    refuse_all_messages(&store);
    until("the breaker opens", async || tracker.health().store.is_some_and(|said| said.contains("users")))
        .await;
    // The starts of sessions are still stored. They prove nothing about messages, so the breaker must stay open.
    start(&tracker, session(50), user(50));
    until("the start is stored", async || store.session(session(50)).await.unwrap().is_some()).await;
    assert!(tracker.health().store.is_some());
    assert_eq!(tracker.health().books.dead_lettered, 0);
    store.fix();
    for number in 0..4 {
        until("all rows are stored", async || {
            store.messages(session(number), None, 100).await.unwrap().len() == 20
        })
        .await;
    }
    until("the store is well again", async || tracker.health().store.is_none()).await;
    assert_eq!(tracker.health().books.dead_lettered, 0);
}

#[tokio::test]
async fn deleting_the_sessions_whose_rows_are_refused_ends_the_trouble() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    refuse_bad(&store);
    let tracker = open(&setup);
    start(&tracker, session(1), BAD);
    within(tracker.flush_to_store()).await.unwrap();
    (0..30).for_each(|number| say(&tracker, session(1), format!("bad {number}")));
    until("the breaker opens", async || tracker.health().warning.is_some()).await;
    let deletion = tracker.delete_session(session(1), None).unwrap();
    within(deletion.here.durable()).await.unwrap();
    within(deletion.in_store.durable()).await.unwrap();
    until("the warning goes", async || tracker.health().warning.is_none()).await;
    let books = tracker.health().books;
    assert_eq!((books.pending(), books.letters()), (0, 0));
}

#[tokio::test]
async fn the_lanes_let_go_of_a_deleted_session_while_the_store_is_away() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = open(&setup);
    start(&tracker, session(1), BAD);
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    (0..30).for_each(|number| say(&tracker, session(1), format!("secret {number}")));
    within(tracker.flush()).await.unwrap();
    until("the store is away", async || tracker.health().store.is_some()).await;
    within(tracker.delete_session(session(1), None).unwrap().here.durable()).await.unwrap();
    // The write that carries the deletion must not even contain the messages of the deleted session.
    let (shown, seen) = std::sync::mpsc::channel();
    store.fail_when(move |records| {
        if !records.iter().any(|record| matches!(record.body, Body::Delete(_))) {
            return Some(store_error(ErrorClass::Transient, "away"));
        }
        let _ = shown.send(records.iter().filter(|record| record.message().is_some()).count());
        None
    });
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [0]);
    assert_eq!(store.session(session(1)).await.unwrap(), None);
}

/// Makes the store refuse every write that contains a bad message, and returns the number of writes so far.
fn refuse_bad_and_count(store: &MemoryStore) -> Arc<AtomicUsize> {
    let writes = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&writes);
    store.fail_when(move |records| {
        counted.fetch_add(1, Ordering::Relaxed);
        records.iter().any(is_bad).then(|| store_error(ErrorClass::Data, "numeric field overflow"))
    });
    writes
}

/// Opens a tracker whose journal already holds this backlog, in front of a store that refuses bad
/// messages. Also returns the number of writes.
async fn open_with(
    setup: &Setup,
    store: &MemoryStore,
    backlog: impl FnOnce(&Tracker),
) -> (Tracker, Arc<AtomicUsize>) {
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = open(setup);
    backlog(&tracker);
    within(tracker.flush()).await.unwrap();
    let writes = refuse_bad_and_count(store);
    (tracker, writes)
}

#[tokio::test]
async fn five_hundred_bad_rows_of_one_user_cost_the_others_few_writes() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    // All sessions are in the same lane, because their numbers are divisible by the number of lanes (4).
    let (tracker, writes) = open_with(&setup, &store, |tracker| {
        start(tracker, session(100), BAD);
        (0..500).for_each(|number| say(tracker, session(100), format!("bad {number}")));
        for number in 0..16 {
            start(tracker, session(4 * number), user(number));
            (0..5).for_each(|round| say(tracker, session(4 * number), format!("good {round}")));
        }
    })
    .await;
    good_ones_are_stored(&store, 4).await;
    // To bisect all 500 bad rows would take about 1,500 writes.
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes < 300, "{writes} writes");
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered), (80, 500));
    assert_eq!((tracker.health().store, tracker.health().warning), (None, None));
}

#[tokio::test]
async fn five_hundred_bad_rows_of_the_only_user_wait_and_a_good_one_behind_them_decides() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let (tracker, writes) = open_with(&setup, &store, |tracker| {
        start(tracker, session(1), BAD);
        (0..500).for_each(|number| say(tracker, session(1), format!("bad {number}")));
    })
    .await;
    until("the breaker opens", async || tracker.health().warning.is_some()).await;
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes < 300, "{writes} writes");
    let books = tracker.health().books;
    assert_eq!((books.pending(), books.dead_lettered), (500, 0));
    say(&tracker, session(1), "good");
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered, tracker.health().warning), (1, 500, None));
    assert_eq!(store.messages(session(1), None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn bad_rows_of_many_users_and_no_good_one_are_soon_known_and_make_no_dead_letters() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let (tracker, writes) = open_with(&setup, &store, |tracker| {
        for number in 0..40 {
            start(tracker, session(4 * number), user(number));
            (0..20).for_each(|round| say(tracker, session(4 * number), format!("bad {round}")));
        }
    })
    .await;
    until("the breaker opens", async || tracker.health().store.is_some_and(|said| said.contains("users")))
        .await;
    let writes = writes.load(Ordering::Relaxed);
    assert!(writes < 1_000, "{writes} writes");
    assert_eq!(tracker.health().books.dead_lettered, 0);
    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered, tracker.health().store), (800, 0, None));
    for number in 0..40 {
        let messages = store.messages(session(4 * number), None, 100).await.unwrap();
        let contents: Vec<String> = messages.into_iter().map(|row| row.content).collect();
        assert_eq!(contents, (0..20).map(|round| format!("bad {round}")).collect::<Vec<_>>());
    }
}

/// Guards the order of a session: a later row must not overtake the rows that wait, and the end comes last.
#[tokio::test]
async fn a_session_whose_rows_are_set_aside_keeps_its_order() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let (tracker, _) = open_with(&setup, &store, |tracker| {
        start(tracker, session(0), user(0));
        (0..30).for_each(|number| say(tracker, session(0), format!("bad {number}")));
        (0..30).for_each(|number| say(tracker, session(0), format!("good {number}")));
        drop(tracker.end_session(session(0), "hangup").unwrap());
        start(tracker, session(4), user(4));
        say(tracker, session(4), "good");
    })
    .await;
    within(tracker.flush_to_store()).await.unwrap();
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered), (31, 30));
    let contents: Vec<String> =
        store.messages(session(0), None, 100).await.unwrap().into_iter().map(|row| row.content).collect();
    assert_eq!(contents, (0..30).map(|number| format!("good {number}")).collect::<Vec<_>>());
    let row = store.session(session(0)).await.unwrap().unwrap();
    assert_eq!((row.end_reason.as_deref(), row.message_count), (Some("hangup"), 30));
}

/// The journal hands out a deletion only once, so the store must execute it even if all rows before it are bad.
#[tokio::test]
async fn a_deletion_behind_many_bad_rows_is_done_all_the_same() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = open(&setup);
    start(&tracker, session(4), BAD);
    say(&tracker, session(4), "good, and to be deleted");
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    start(&tracker, session(0), BAD);
    (0..100).for_each(|number| say(&tracker, session(0), format!("bad {number}")));
    let deletion = tracker.delete_session(session(4), Some(BAD)).unwrap();
    start(&tracker, session(8), user(8));
    say(&tracker, session(8), "good");
    within(tracker.flush()).await.unwrap();
    refuse_bad(&store);
    within(deletion.in_store.durable()).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(store.session(session(4)).await.unwrap(), None);
    assert_eq!(tracker.health().books.dead_lettered, 100);
}
