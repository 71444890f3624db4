//! Shutdown: everything that was accepted is there afterwards, or its receipt says that it is not.

use std::collections::HashSet;
use std::time::Duration;

use talktrack::store::ErrorClass;
use talktrack::{
    JsonObject, MessageId, NewSession, NotDurable, Options, Reason, Receipt, Role, SessionId, Status, Tracker,
};
use talktrack_testkit::{Setup, eventually};

use crate::support::{
    SESSION, StuckDisk, USER, accept, dir, message, new_session, remote, store_error, value, within,
};

const AMPLE: Duration = Duration::from_secs(120);

async fn contents(tracker: &Tracker) -> Vec<String> {
    let rows = within(tracker.reader().messages(SESSION, None, 100_000)).await.unwrap();
    rows.into_iter().map(|row| row.content).collect()
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn a_shutdown_writes_what_was_accepted_and_ends_what_is_open() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    let ended = SessionId::from_u128(2);
    drop(tracker.start_session(NewSession::new(ended, USER)).unwrap());
    drop(tracker.end_session(ended, "completed").unwrap());
    for text in numbers(5_000) {
        drop(accept(&tracker, message(text)));
    }
    within(tracker.shutdown(AMPLE)).await.unwrap();
    drop(tracker);

    let tracker = setup.open(setup.options()).unwrap();
    assert_eq!(contents(&tracker).await, numbers(5_000));
    let session = within(tracker.reader().session(SESSION)).await.unwrap().unwrap();
    assert_eq!((session.status, session.end_reason.as_deref()), (Status::Ended.into(), Some("shutdown")));
    assert_eq!(session.message_count, 5_000);
    let other = within(tracker.reader().session(ended)).await.unwrap().unwrap();
    assert_eq!(other.end_reason.as_deref(), Some("completed"));
    assert_eq!(within(tracker.reader().audit()).await.unwrap().problems, [""; 0]);
}

/// Users copy the file whose name they know. They miss the two files next to it, in which SQLite may
/// still hold the newest rows.
#[tokio::test]
async fn after_a_shutdown_the_one_file_is_everything_although_somebody_still_has_it_open() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    drop(tracker.start_session(new_session()).unwrap());
    for text in numbers(500) {
        drop(accept(&tracker, message(text)));
    }
    tracker.flush().await.unwrap();
    assert_eq!(contents(&tracker).await.len(), 500);
    within(tracker.shutdown(AMPLE)).await.unwrap();

    let copy = crate::support::dir();
    std::fs::copy(dir.path().join("talktrack.db"), copy.path().join("talktrack.db")).unwrap();
    let setup = Setup::sqlite(copy.path());
    let copied = setup.open(setup.options()).unwrap();
    assert_eq!(contents(&copied).await, numbers(500));
    assert_eq!(within(copied.reader().audit()).await.unwrap().problems, [""; 0]);
    drop(tracker);
}

fn assert_refuses_everything(tracker: &Tracker) {
    let metadata = JsonObject::parse("{}").unwrap();
    let refused = tracker.track_message(message("too late")).expect_err("refused");
    assert_eq!((refused.reason, refused.returned), (Reason::ShuttingDown, message("too late")));
    let session = NewSession::new(SessionId::from_u128(3), USER);
    let refused = tracker.start_session(session.clone()).expect_err("refused");
    assert_eq!((refused.reason, refused.returned), (Reason::ShuttingDown, session));
    let refused = tracker.update_session(SESSION, metadata.clone()).expect_err("refused");
    assert_eq!((refused.reason, refused.returned), (Reason::ShuttingDown, metadata.into()));
}

#[tokio::test]
async fn a_tracker_that_shuts_down_refuses_new_work_and_hands_it_back() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let accepted = accept(&tracker, message("in time"));
    tracker.refuse_new_work();
    assert_refuses_everything(&tracker);
    within(accepted).await.expect("what was accepted before is still written");
    let end = tracker.end_session(SESSION, "completed").expect("what is open may still be ended");
    within(end.durable()).await.unwrap();

    within(tracker.shutdown(AMPLE)).await.unwrap();
    assert_refuses_everything(&tracker);
    assert!(matches!(tracker.end_session(SESSION, "late"), Err(Reason::ShuttingDown)));
    within(tracker.shutdown(AMPLE)).await.expect("a second shutdown finds nothing to do");
    assert_eq!(contents(&tracker).await, ["in time"], "reading goes on");
}

#[tokio::test]
async fn a_shutdown_releases_the_directory_although_clones_live() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    let clone = tracker.clone();
    within(tracker.shutdown(AMPLE)).await.unwrap();
    let next = Tracker::open(Options::new(dir.path())).unwrap();
    drop((clone, tracker));
    within(next.start_session(new_session()).unwrap().durable()).await.unwrap();
}

#[tokio::test]
async fn dropping_the_last_clone_writes_what_was_accepted() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    let clone = tracker.clone();
    drop(tracker.start_session(new_session()).unwrap());
    drop(tracker);
    for text in numbers(3_000) {
        drop(accept(&clone, message(text)));
    }
    drop(clone);
    let tracker = setup.open(setup.options()).unwrap();
    assert_eq!(contents(&tracker).await, numbers(3_000));
}

#[tokio::test]
async fn a_shutdown_that_takes_too_long_says_so_and_so_does_every_receipt() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    within(accept(&tracker, message("in time"))).await.unwrap();
    let stuck = StuckDisk::of(dir.path());
    let receipts: Vec<_> = (0..20).map(|n| accept(&tracker, message(format!("late {n}")))).collect();
    let end = tracker.end_session(SESSION, "completed").unwrap();
    assert_eq!(within(tracker.shutdown(Duration::from_millis(50))).await, Err(NotDurable::Stopped));
    for receipt in receipts {
        assert_eq!(within(receipt).await, Err(NotDurable::Stopped));
    }
    assert_eq!(within(end.durable()).await, Err(NotDurable::Stopped));
    assert_eq!(within(tracker.flush()).await, Err(NotDurable::Stopped));
    assert_eq!(within(tracker.flush_to_store()).await, Err(NotDurable::Stopped));
    drop(stuck);
    drop(tracker);
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    assert_eq!(contents(&tracker).await, ["in time"]);
    assert_eq!(within(tracker.reader().audit()).await.unwrap().problems, [""; 0]);
}

async fn outcomes(receipts: Vec<Receipt>) -> Vec<(MessageId, Result<(), NotDurable>)> {
    let mut outcomes = Vec::new();
    for receipt in receipts {
        outcomes.push((receipt.id(), within(receipt).await));
    }
    outcomes
}

/// Regression test: the journal gave up the first batch at the deadline, the disk came back, and the second
/// batch was written. That moved the watermark past the first batch, so that its receipts said durable.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_never_says_durable_for_what_a_hard_stop_gave_up() {
    let dir = dir();
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    within(tracker.start_session(new_session()).unwrap().durable()).await.unwrap();
    let stuck = StuckDisk::of(dir.path());
    let receipts: Vec<_> = (0..3_500).map(|n| accept(&tracker, message(format!("{n}")))).collect();
    let stopping = tracker.clone();
    let stopping = tokio::spawn(async move { stopping.shutdown(Duration::from_millis(1)).await });
    eventually("the journal has failed to write a batch", || tracker.health().journal.is_some()).await;
    drop(stuck);
    assert_eq!(within(stopping).await.unwrap(), Err(NotDurable::Stopped));
    let outcomes = outcomes(receipts).await;
    drop(tracker);
    let tracker = Tracker::open(Options::new(dir.path())).unwrap();
    let rows = within(tracker.reader().messages(SESSION, None, 100_000)).await.unwrap();
    let there: HashSet<MessageId> = rows.into_iter().map(|row| row.id).collect();
    let mut wrong = outcomes;
    wrong.retain(|(id, outcome)| outcome.is_ok() != there.contains(id));
    assert_eq!(wrong.first(), None, "{} receipts say what is not so", wrong.len());
}

#[tokio::test]
async fn sessions_open_at_a_shutdown_keep_what_was_said_in_them_last() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    let sessions: Vec<_> = (1..=30).map(SessionId::from_u128).collect();
    for &session in &sessions {
        drop(tracker.start_session(NewSession::new(session, USER)).unwrap());
        drop(accept(&tracker, talktrack::Message::new(session, Role::User, "hello")));
    }
    within(tracker.shutdown(AMPLE)).await.unwrap();
    drop(tracker);
    let query = "SELECT count(*) FROM conversation_sessions WHERE status = 'ended' AND end_reason = 'shutdown' AND message_count = 1";
    assert_eq!(value::<u64>(dir.path(), query), 30);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_backlog_to_reach_the_store() {
    let dir = dir();
    let (setup, store) = remote(&dir);
    store.fail_when(|_| Some(store_error(ErrorClass::Transient, "away")));
    let tracker = setup.open(setup.options()).unwrap();
    for round in 0..4 {
        numbers(5_000)
            .into_iter()
            .for_each(|text| drop(accept(&tracker, message(format!("{round} {text}")))));
        within(tracker.flush()).await.unwrap();
    }
    within(tracker.shutdown(AMPLE)).await.unwrap();
    store.fix();
    let tracker = setup.open(setup.options()).unwrap();
    within(tracker.shutdown(AMPLE)).await.unwrap();
    assert!(tracker.health().books.pending() > 0, "the rest is for the next start");
}
