//! Deleted sessions: what is deleted with them, what stays, and which records come too late.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack::store::SessionFilter;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, Role};
use talktrack_core::record::{DeletionCounts, Status};

use crate::setup::Setup;
use crate::trial::Trial;
use crate::trial::within;

const GOES: SessionId = SessionId::from_u128(0xa8);
const STAYS: SessionId = SessionId::from_u128(0xa9);
const USER: UserId = UserId::from_u128(0xb8);
const OTHER: UserId = UserId::from_u128(0xb9);

/// Two sessions of one user, with two messages each, all stored.
async fn two_sessions(setup: Setup) -> Trial {
    let mut trial = Trial::open(setup);
    for session in [GOES, STAYS] {
        trial.start(NewSession::new(session, USER)).await;
        trial.say(session, Role::User, "hello").await;
        trial.say(session, Role::System, "be kind").await;
    }
    trial.settled().await;
    trial
}

pub async fn a_deleted_session_is_gone_with_its_messages_and_the_others_stay(setup: Setup) {
    let trial = two_sessions(setup).await;
    let removed = trial.delete(GOES).await;
    assert_eq!(removed, DeletionCounts { sessions: 1, messages: 2, ..DeletionCounts::default() });
    assert_eq!(trial.find_session(GOES).await, None);
    assert_eq!(trial.contents(GOES).await, [""; 0]);
    assert_eq!(trial.contents(STAYS).await, ["hello", "be kind"]);
    assert_eq!(trial.sessions(SessionFilter::default()).await.len(), 1);
    trial.settled().await;
    let trial = trial.restart().await;
    assert_eq!((trial.find_session(GOES).await, trial.contents(STAYS).await.len()), (None, 2));
}

pub async fn deleting_a_session_again_removes_nothing(setup: Setup) {
    let trial = two_sessions(setup).await;
    trial.delete(GOES).await;
    assert_eq!(trial.delete(GOES).await, DeletionCounts::default());
    trial.settled().await;
}

pub async fn whatever_comes_of_a_deleted_session_is_refused_after_a_restart_too(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    trial.delete(GOES).await;
    for _ in 0..2 {
        assert_eq!(trial.track(Message::new(GOES, Role::User, "late")).await, Err(NotDurable::Deleted));
        let start = trial.tracker().start_session(NewSession::new(GOES, USER)).expect("accepted");
        assert_eq!(within("a start", start.durable()).await, Err(NotDurable::Deleted));
        trial.tracker().forget_claim(GOES, &USER);
        let update = trial.tracker().update_session(GOES, JsonObject::default()).expect("accepted");
        assert_eq!(within("an update", update.durable()).await, Err(NotDurable::Deleted));
        let end = trial.tracker().end_session(GOES, "completed").expect("accepted");
        assert_eq!(within("an end", end.durable()).await, Err(NotDurable::Deleted));
        trial.settled().await;
        trial = trial.restart().await;
    }
    assert_eq!(trial.find_session(GOES).await, None);
    assert_eq!(trial.audit().await.dead_letters, 0, "nothing of it was laid aside");
}

pub async fn what_was_accepted_before_a_deletion_goes_with_it(setup: Setup) {
    let trial = Trial::open(setup);
    let tracker = trial.tracker();
    drop(tracker.start_session(NewSession::new(GOES, USER)).expect("accepted"));
    let said = |number: u32| Message::new(GOES, Role::User, number.to_string());
    let receipts: Vec<_> =
        (0..50).map(|number| tracker.track_message(said(number)).expect("accepted")).collect();
    let removed = trial.delete(GOES).await;
    for receipt in receipts {
        assert_eq!(within("a receipt", receipt.durable()).await, Ok(()));
    }
    within("flushing to the store", tracker.flush_to_store()).await.expect("everything is flushed");
    // Messages in flight to a remote store may already have been stored without an answer: these count
    // twice.
    assert!((50..=100).contains(&(removed.messages + removed.journal)), "{removed:?}");
    assert_eq!((trial.find_session(GOES).await, trial.contents(GOES).await.len()), (None, 0));
    let books = tracker.health().books;
    let audit = trial.audit().await;
    assert_eq!((books.durable, books.pending(), books.letters()), (50, 0, 0));
    assert!(audit.problems.is_empty(), "{audit:?}");
}

pub async fn dead_letters_go_with_their_session(setup: Setup) {
    let mut trial = Trial::open(setup);
    for session in [GOES, STAYS] {
        trial.say(session, Role::User, "is anybody there?").await;
    }
    trial.settled().await;
    assert_eq!(trial.tracker().health().books.letters(), 2);
    assert_eq!(trial.delete(GOES).await, DeletionCounts { dead_letters: 1, ..DeletionCounts::default() });
    trial.settled().await;
    assert_eq!(trial.tracker().health().books.letters(), 1);
}

pub async fn another_users_session_is_not_deleted_and_goes_on(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    let deletion = trial.tracker().delete_session(GOES, Some(OTHER)).expect("accepted");
    let here = within("the deletion", deletion.here.durable()).await;
    let in_store = within("the deletion in the store", deletion.in_store.durable()).await;
    assert!([here, in_store].contains(&Err(NotDurable::OtherUser)), "{here:?} {in_store:?}");
    trial.say(GOES, Role::User, "still here").await;
    trial.settled().await;
    assert_eq!(trial.contents(GOES).await, ["hello", "be kind", "still here"]);
    assert_eq!(trial.session(GOES).await.message_count, 3);
}

pub async fn a_user_who_deletes_a_session_that_is_not_there_is_refused_it_and_nobody_else_is(setup: Setup) {
    let trial = Trial::open(setup);
    let deletion = trial.tracker().delete_session(GOES, Some(USER)).expect("accepted");
    assert_eq!(within("the deletion", deletion.here.durable()).await, Ok(DeletionCounts::default()));
    assert_eq!(within("in the store", deletion.in_store.durable()).await, Ok(DeletionCounts::default()));
    let mut trial = trial.restart().await;
    for _ in 0..2 {
        let start = trial.tracker().start_session(NewSession::new(GOES, USER)).expect("accepted");
        assert_eq!(within("a start", start.durable()).await, Err(NotDurable::Deleted));
        trial.start(NewSession::new(GOES, OTHER)).await;
        trial.say(GOES, Role::User, "not yours").await;
    }
    trial.settled().await;
    assert_eq!(trial.contents(GOES).await.len(), 2);
    assert_eq!(trial.session(GOES).await.user_id, Some(OTHER));
}

pub async fn a_session_that_is_too_old_goes_and_may_begin_again(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(GOES, USER)).await;
    trial.say(GOES, Role::User, "long ago").await;
    trial.end(GOES, "completed").await;
    trial.wait(Duration::from_secs(3_600));
    trial.start(NewSession::new(STAYS, USER)).await;
    let since = trial.now();
    trial.say(STAYS, Role::User, "just now").await;
    trial.tracker().sweep();
    trial.settled().await;
    let silent = async |trial: &Trial| {
        let rows = within("silent sessions", trial.tracker().reader().inactive_since(since, None, 10)).await;
        rows.expect("the store can be read").into_iter().map(|row| row.session_id).collect::<Vec<_>>()
    };
    assert_eq!(silent(&trial).await, [GOES]);
    let mut removed = DeletionCounts::default();
    for session in [GOES, STAYS] {
        let Some(deletion) = trial.tracker().delete_inactive_session(session, None, since).expect("accepted")
        else {
            continue;
        };
        removed += within("here", deletion.here.durable()).await.expect("durable");
        removed += within("in the store", deletion.in_store.durable()).await.expect("done");
    }
    assert_eq!(removed, DeletionCounts { sessions: 1, messages: 1, ..DeletionCounts::default() });
    trial.settled().await;
    assert!(silent(&trial).await.is_empty());
    assert_eq!(trial.contents(STAYS).await, ["just now"]);
    assert!(!trial.start(NewSession::new(GOES, USER)).await.resumed);
    trial.say(GOES, Role::User, "again").await;
    trial.settled().await;
    assert_eq!(trial.contents(GOES).await, ["again"]);
    assert_eq!(trial.session(GOES).await.status, Status::Active);
}

pub async fn a_session_that_was_heard_of_since_is_spared(setup: Setup) {
    let mut trial = two_sessions(setup).await;
    let since = trial.now();
    trial.wait(Duration::from_secs(1));
    trial.say(GOES, Role::User, "I am back").await;
    trial.settled().await;
    // Another process, without the session in memory, considers it old.
    let trial = trial.restart().await;
    let deletion = trial.tracker().delete_inactive_session(GOES, None, since).expect("accepted");
    let deletion = deletion.expect("it is not in memory");
    assert_eq!(within("here", deletion.here.durable()).await, Ok(DeletionCounts::default()));
    assert_eq!(within("in the store", deletion.in_store.durable()).await, Ok(DeletionCounts::default()));
    trial.settled().await;
    assert_eq!(trial.contents(GOES).await.len(), 3);
}
