//! The journal as the outbox of a remote store that comes and goes. Callers notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use talktrack::store::{ErrorClass, Rows as _};
use talktrack::{
    JsonObject, Message, MessageId, NewSession, NotDurable, Reason, Redirect, Role, SessionId, Status,
    Tracker,
};
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{Setup, eventually};
use tempfile::TempDir;

use crate::support::{
    SESSION, USER, accept, assert_pending, dir, message, new_session, remote, sqlite, store_error, value,
    within,
};

/// Returns a tracker whose store answers every write with this error until the test calls `fix`.
async fn with_store_away(dir: &TempDir, class: ErrorClass) -> (Setup, Tracker, MemoryStore) {
    let (setup, store) = remote(dir);
    let tracker = setup.open(setup.options()).unwrap();
    store.fail_when(move |_| Some(store_error(class, "the store is away")));
    within(tracker.start_session(new_session()).unwrap().durable()).await.expect("durable without the store");
    (setup, tracker, store)
}

async fn contents(store: &MemoryStore, session: SessionId) -> Vec<String> {
    store.messages(session, None, 100_000).await.unwrap().into_iter().map(|row| row.content).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("message {number}")).collect()
}

async fn nobody_notices_a_store_that_is_away(class: ErrorClass) {
    let dir = dir();
    let (_, tracker, store) = with_store_away(&dir, class).await;
    for text in numbers(0..50) {
        within(accept(&tracker, message(text))).await.expect("durable without the store");
    }
    let end = within(tracker.end_session(SESSION, "completed").unwrap().durable()).await;
    assert_eq!(end.expect("durable without the store").message_count, 50);
    eventually("health says why", || tracker.health().store.is_some()).await;
    let health = tracker.health();
    assert_eq!((health.store.as_deref(), health.journal), (Some("the store is away"), None));
    assert_eq!((health.books.durable, health.books.stored, health.books.pending()), (50, 0, 50));
    assert_pending(tracker.flush_to_store(), "nothing has reached the store").await;
    assert_eq!(store.session(SESSION).await.unwrap(), None);

    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(contents(&store, SESSION).await, numbers(0..50));
    let row = store.session(SESSION).await.unwrap().unwrap();
    assert_eq!((row.status, row.message_count), (Status::Ended.into(), 50));
    let health = tracker.health();
    assert_eq!((health.store, health.books.stored, health.books.dead_lettered), (None, 50, 0));
    assert_eq!(health.books.journal_bytes, 0);
}

#[tokio::test]
async fn nobody_notices_a_store_that_cannot_be_reached_for_a_while() {
    nobody_notices_a_store_that_is_away(ErrorClass::Transient).await;
}

#[tokio::test]
async fn nobody_notices_a_store_that_takes_no_row_until_it_is_mended() {
    nobody_notices_a_store_that_is_away(ErrorClass::Systemic).await;
}

#[tokio::test]
async fn a_store_that_fails_now_and_then_gets_everything_once_and_in_order() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let mut writes = 0;
    store.fail_when(move |_| {
        writes += 1;
        (writes % 3 != 0).then(|| store_error(ErrorClass::Transient, "try again"))
    });
    let tracker = setup.open(setup.options()).unwrap();
    let sessions: Vec<_> = (1..=8).map(SessionId::from_u128).collect();
    for &session in &sessions {
        drop(tracker.start_session(NewSession::new(session, USER)).unwrap());
    }
    for text in numbers(0..200) {
        for &session in &sessions {
            drop(accept(&tracker, Message::new(session, Role::User, &text)));
        }
    }
    within(tracker.flush_to_store()).await.unwrap();
    for &session in &sessions {
        assert_eq!(contents(&store, session).await, numbers(0..200));
    }
    assert_eq!(tracker.health().books.stored, 1_600);
}

/// A lane that cannot deliver fills only its own part of the writer's window, not that of the other lanes.
#[tokio::test]
async fn a_session_that_the_store_does_not_take_holds_up_no_other_lane_however_much_it_says() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let [stuck, others @ ..] = [1, 2, 3, 4].map(SessionId::from_u128);
    store.fail_when(move |records| {
        let is_stuck = records.iter().any(|record| record.session_id() == stuck);
        is_stuck.then(|| store_error(ErrorClass::Systemic, "not this session"))
    });
    let tracker = setup.open(setup.options()).unwrap();
    for session in others.into_iter().chain([stuck]) {
        drop(tracker.start_session(NewSession::new(session, USER)).unwrap());
    }
    for (number, text) in numbers(0..12_000).into_iter().enumerate() {
        drop(accept(&tracker, Message::new(stuck, Role::User, text)));
        // These messages lie between those that wait, so the journal must remove rows from the middle of the backlog.
        if number % 100 == 0 {
            for session in others {
                drop(accept(
                    &tracker,
                    Message::new(session, Role::User, format!("message {}", number / 100)),
                ));
            }
        }
        if number % 2_000 == 0 {
            within(tracker.flush()).await.unwrap();
        }
    }
    eventually("the others are stored", || tracker.health().books.stored == 360).await;
    assert_eq!(tracker.health().store.as_deref(), Some("not this session"));
    for session in others {
        assert_eq!(contents(&store, session).await, numbers(0..120));
    }
    let waiting = "SELECT count(*) FROM pending WHERE message_id IS NOT NULL";
    assert_eq!(value::<u64>(dir.path(), waiting), 12_000, "nothing has left that the store does not have");

    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(contents(&store, stuck).await, numbers(0..12_000));
    let books = tracker.health().books;
    assert_eq!((books.stored, books.dead_lettered, books.journal_bytes), (12_360, 0, 0));
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM pending"), 0);
}

/// Waiting for an empty journal would never end while callers keep talking.
#[tokio::test]
async fn flushing_to_the_store_waits_for_what_was_accepted_before_and_not_for_what_came_after() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let [early, late] = [1, 2].map(SessionId::from_u128);
    let tracker = setup.open(setup.options()).unwrap();
    for session in [early, late] {
        within(tracker.start_session(NewSession::new(session, USER)).unwrap().durable()).await.unwrap();
    }
    within(tracker.flush_to_store()).await.unwrap();
    // More records than the journal looks at in one round.
    let texts = numbers(0..2_500);
    for text in &texts {
        drop(accept(&tracker, Message::new(early, Role::User, text)));
    }
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "the store is away")));
    drop(accept(&tracker, Message::new(early, Role::User, "last words")));
    let mut flushing = std::pin::pin!(tracker.flush_to_store());
    assert_pending(flushing.as_mut(), "the store is away").await;
    within(accept(&tracker, Message::new(late, Role::User, "later"))).await.unwrap();
    assert_pending(flushing.as_mut(), "the store is still away").await;

    store.fail_when(move |records| {
        let is_late = records.iter().any(|record| record.session_id() == late);
        is_late.then(|| store_error(ErrorClass::Systemic, "not this session"))
    });
    within(flushing).await.unwrap();
    assert_eq!(contents(&store, early).await.last().map(String::as_str), Some("last words"));
    assert!(tracker.health().books.journal_bytes > 0, "what came after still waits");
    assert_pending(tracker.flush_to_store(), "a new call waits for it").await;
    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(contents(&store, late).await, ["later"]);
}

#[tokio::test]
async fn a_full_outbox_survives_a_restart_and_drains_in_order() {
    let dir = dir();
    let (setup, tracker, store) = with_store_away(&dir, ErrorClass::Transient).await;
    for text in numbers(0..1_200) {
        drop(accept(&tracker, message(text)));
    }
    within(tracker.shutdown(Duration::from_secs(120))).await.expect("a shutdown does not wait for the store");
    drop(tracker);
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM pending WHERE message_id IS NOT NULL"), 1_200);
    assert_eq!(store.session(SESSION).await.unwrap(), None);

    // The store is still down at the start. The tracker must start nevertheless, and new messages
    // come after those that wait.
    let tracker = setup.open(setup.options()).unwrap();
    assert_eq!(tracker.health().books.pending(), 1_200);
    let others = "SELECT count(*) FROM pending WHERE message_id IS NULL";
    assert_eq!(
        value::<u64>(dir.path(), others),
        2,
        "the session's start and its end: nobody abandons what has ended"
    );
    for text in numbers(1_200..1_500) {
        drop(accept(&tracker, message(text)));
    }
    within(tracker.flush()).await.unwrap();
    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(contents(&store, SESSION).await, numbers(0..1_500));
    let row = store.session(SESSION).await.unwrap().unwrap();
    assert_eq!((row.message_count, row.end_reason.as_deref()), (1_500, Some("shutdown")));
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM pending"), 0);
}

#[tokio::test]
async fn a_full_outbox_drains_after_a_restart_although_nothing_new_arrives() {
    let dir = dir();
    let (setup, tracker, store) = with_store_away(&dir, ErrorClass::Systemic).await;
    for text in numbers(0..10) {
        within(accept(&tracker, message(text))).await.unwrap();
    }
    drop(tracker);
    store.fix();
    let tracker = setup.open(setup.options()).unwrap();
    eventually("the outbox is empty", || tracker.health().books.pending() == 0).await;
    assert_eq!(contents(&store, SESSION).await, numbers(0..10));
}

#[tokio::test]
async fn more_than_the_writer_takes_at_once_drains_in_order() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let away = Arc::new(AtomicBool::new(true));
    let written = Arc::new(AtomicUsize::new(0));
    let switch = Arc::clone(&away);
    let count = Arc::clone(&written);
    store.fail_when(move |records| {
        let away = switch.load(Ordering::Relaxed).then(|| store_error(ErrorClass::Transient, "away"));
        count.fetch_add(if away.is_none() { records.len() } else { 0 }, Ordering::Relaxed);
        away
    });
    let tracker = setup.open(setup.options()).unwrap();
    let sessions = [1, 2, 3].map(SessionId::from_u128);
    for session in sessions {
        drop(tracker.start_session(NewSession::new(session, USER)).unwrap());
    }
    // These are 15,000 records, while the writer keeps 10,000 in memory.
    for text in numbers(0..5_000) {
        for session in sessions {
            let mut said = Message::new(session, Role::User, &text);
            while let Err(refused) = tracker.track_message(said) {
                assert_eq!(refused.reason, Reason::QueueFull);
                said = refused.returned;
                within(tracker.flush()).await.unwrap();
            }
        }
    }
    within(tracker.flush()).await.unwrap();
    assert_eq!(tracker.health().books.pending(), 15_000);
    away.store(false, Ordering::Relaxed);
    within(tracker.flush_to_store()).await.unwrap();
    for session in sessions {
        assert_eq!(contents(&store, session).await, numbers(0..5_000));
    }
    assert_eq!(tracker.health().books.stored, 15_000);
    assert_eq!(
        written.load(Ordering::Relaxed),
        15_003,
        "each record goes to the store once, the three starts included"
    );
}

#[tokio::test]
async fn an_outbox_that_has_grown_to_its_limit_refuses_until_there_is_room() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let options = setup.options().with_journal_max_bytes(20_000);
    let tracker = setup.open(options).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let text = |number: usize| format!("message {number} {}", "x".repeat(1_000));
    let mut taken = 0;
    let refused = loop {
        match tracker.track_message(message(text(taken))) {
            Ok(receipt) => within(receipt).await.unwrap(),
            Err(refused) => break refused,
        }
        taken += 1;
        assert!(taken < 30, "20,000 bytes are full after 30,000");
    };
    assert_eq!((&refused.reason, refused.reason.code().as_str()), (&Reason::JournalFull, "journal_full"));
    assert_eq!(refused.returned, message(text(taken)), "the very message comes back");
    assert!(taken >= 10, "20,000 bytes hold more than {taken} messages of 1,000");
    let keys = JsonObject::parse(r#"{"a":1}"#).unwrap();
    let updated = tracker.update_session(SESSION, keys.clone()).expect_err("metadata fill it as messages do");
    assert_eq!((updated.reason, updated.returned), (Reason::JournalFull, keys.into()));
    within(tracker.end_session(SESSION, "completed").unwrap().durable())
        .await
        .expect("an end is never turned away");

    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    let mut last = Some(refused.returned);
    eventually("there is room again", || match tracker.track_message(last.take().unwrap()) {
        Ok(_) => true,
        Err(refused) => {
            last = Some(refused.returned);
            false
        }
    })
    .await;
    within(tracker.flush_to_store()).await.unwrap();
    assert_eq!(contents(&store, SESSION).await, (0..=taken).map(text).collect::<Vec<_>>());
}

#[tokio::test]
async fn ids_are_kept_apart_while_their_messages_still_wait() {
    let dir = dir();
    let (setup, tracker, store) = with_store_away(&dir, ErrorClass::Transient).await;
    let draft = |revision, text| message(text).with_id(MessageId::from_u128(1)).with_revision(revision);
    let track = async |tracker: &Tracker, said| within(accept(tracker, said)).await;
    assert_eq!(track(&tracker, draft(0, "first")).await, Ok(()));
    assert_eq!(track(&tracker, draft(0, "first")).await, Ok(()), "a repetition");
    assert_eq!(track(&tracker, draft(0, "not the first")).await, Err(NotDurable::IdConflict));
    assert_eq!(track(&tracker, draft(1, "second")).await, Ok(()), "a revision");
    assert_eq!(track(&tracker, draft(1, "not the second")).await, Err(NotDurable::IdConflict));
    drop(tracker);
    let tracker = setup.open(setup.options()).unwrap();
    assert_eq!(track(&tracker, draft(0, "first")).await, Ok(()), "a repetition after a restart");
    assert_eq!(track(&tracker, draft(1, "not the second")).await, Err(NotDurable::IdConflict));
    assert_eq!(tracker.health().books.durable, 4);
    store.fix();
    within(tracker.flush_to_store()).await.unwrap();
    let rows = store.messages(SESSION, None, 10).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.content.as_str(), row.revision)).collect::<Vec<_>>(),
        [("second", 1)]
    );
    let books = tracker.health().books;
    assert_eq!((books.durable, books.stored, books.dead_lettered), (4, 4, 0));
    assert_eq!(store.session(SESSION).await.unwrap().unwrap().message_count, 1);
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_repeated_without_doubling_anything() {
    let dir = dir();
    let (setup, tracker, store) = with_store_away(&dir, ErrorClass::Transient).await;
    for text in numbers(0..20) {
        within(accept(&tracker, message(text))).await.unwrap();
    }
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    drop(tracker);
    // Keeps the journal from before the first delivery. Every record that the store gets from it now, it
    // gets a second time later.
    let image = talktrack_file(&dir);
    store.fix();
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    drop(tracker);
    let before = (store.session(SESSION).await.unwrap(), store.messages(SESSION, None, 100).await.unwrap());
    assert_eq!(before.1.len(), 20);
    std::fs::write(dir.path().join(talktrack::DATABASE_FILE), image).unwrap();
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    let after = (store.session(SESSION).await.unwrap(), store.messages(SESSION, None, 100).await.unwrap());
    assert_eq!(after.1, before.1);
    let figures = |row: Option<talktrack::store::SessionRow>| row.map(|row| (row.message_count, row.status));
    assert_eq!(figures(after.0), figures(before.0));
    assert_eq!((tracker.health().books.stored, tracker.health().books.dead_lettered), (20, 0));
}

/// Returns the content of the database file of a closed data directory, which has no WAL.
fn talktrack_file(dir: &TempDir) -> Vec<u8> {
    let log = dir.path().join(format!("{}-wal", talktrack::DATABASE_FILE));
    assert!(!log.exists(), "a file that was closed has no log");
    std::fs::read(dir.path().join(talktrack::DATABASE_FILE)).unwrap()
}

#[tokio::test]
async fn flushing_to_a_store_that_is_away_says_stopped_when_the_tracker_stops() {
    let dir = dir();
    let (_, tracker, _) = with_store_away(&dir, ErrorClass::Transient).await;
    within(accept(&tracker, message("waits"))).await.unwrap();
    let flushing = tracker.clone();
    let flushing = tokio::spawn(async move { flushing.flush_to_store().await });
    within(tracker.shutdown(Duration::from_secs(120))).await.unwrap();
    assert_eq!(within(flushing).await.unwrap(), Err(NotDurable::Stopped));
    assert_eq!(within(tracker.flush_to_store()).await, Err(NotDurable::Stopped));
}

#[tokio::test]
async fn what_waits_for_a_remote_store_goes_into_the_file_where_the_file_becomes_the_store() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    within(accept(&tracker, message("in the remote store"))).await.unwrap();
    within(tracker.flush_to_store()).await.unwrap();
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "the store is away")));
    // One session exists only in the remote store, the other only in the journal. Together they need
    // more than one transaction.
    let other = SessionId::from_u128(0xc0);
    let named = NewSession::new(other, USER).with_external_id("call-7");
    within(tracker.start_session(named).unwrap().durable()).await.unwrap();
    let id = Some(MessageId::from_u128(1));
    for text in numbers(0..1_100) {
        drop(accept(&tracker, message(&text)));
        drop(accept(&tracker, Message::new(other, Role::User, text)));
    }
    drop(accept(&tracker, message("as first said").with_id(id)));
    drop(accept(&tracker, message("as revised").with_id(id).with_revision(1)));
    drop(accept(&tracker, Message::new(SessionId::from_u128(99), Role::User, "nobody's")));
    drop(accept(&tracker, message("damaged on the disk")));
    within(tracker.end_session(other, "completed").unwrap().durable()).await.unwrap();
    drop(tracker);
    let damage = "UPDATE journal SET body = replace(body, 'damaged', 'changed') WHERE body LIKE '%damaged%'";
    assert_eq!(sqlite(dir.path()).execute(damage, []).unwrap(), 1);

    let local = Setup::sqlite(dir.path());
    let tracker = local.open(local.options().with_redirect(Redirect::Always)).unwrap();
    let said = async |session| {
        let rows = tracker.reader().messages(session, None, 100_000).await.unwrap();
        rows.into_iter().map(|row| row.content).collect::<Vec<_>>()
    };
    let mut expected = numbers(0..1_100);
    assert_eq!(said(other).await, expected);
    expected.push("as revised".into());
    assert_eq!(said(SESSION).await, expected);
    let session = async |id| tracker.reader().session(id).await.unwrap().unwrap();
    let row = session(other).await;
    assert_eq!(
        (row.status, row.message_count, row.external_id.as_deref()),
        (Status::Ended.into(), 1_100, Some("call-7"))
    );
    let row = session(SESSION).await;
    assert_eq!(
        (row.status, row.message_count, row.user_id),
        (Status::Abandoned.into(), 1_101, Some(USER)),
        "nobody ended it"
    );
    let books = tracker.health().books;
    assert_eq!((books.durable, books.stored, books.dead_lettered, books.pending()), (2_205, 2_203, 2, 0));
    assert_eq!((books.inserted, books.journal_bytes), (2_201, 0));
    assert_eq!(value::<u64>(dir.path(), "SELECT count(*) FROM pending"), 0);
    let reasons = "SELECT group_concat(reason, ', ' ORDER BY seq) FROM dead_letters";
    assert_eq!(value::<String>(dir.path(), reasons), "unknown_session, corrupt");
    assert_eq!(tracker.reader().audit().await.unwrap().problems, [] as [String; 0]);
    within(accept(&tracker, message("and it goes on"))).await.unwrap();
    expected.push("and it goes on".into());
    assert_eq!(said(SESSION).await, expected);
}
