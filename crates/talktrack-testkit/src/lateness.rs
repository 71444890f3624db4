//! Messages of sessions that have ended, have left memory, or never existed.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, Role};
use talktrack_core::record::Status;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa6);
const UNKNOWN: SessionId = SessionId::from_u128(0xa7);
const USER: UserId = UserId::from_u128(0xb6);

/// An ended session with one message.
async fn ended_session(setup: Setup) -> Trial {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.say(SESSION, Role::User, "bye").await;
    trial.wait(Duration::from_secs(5));
    trial.end(SESSION, "disconnect").await;
    trial.settled().await;
    trial
}

/// Tracks two late messages, and checks that they are in their places and the session is still closed.
async fn assert_taken(trial: &mut Trial) {
    let before = trial.session(SESSION).await;
    trial.say(SESSION, Role::Assistant, "goodbye").await;
    trial.say(SESSION, Role::System, "call ended").await;
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, 0, "a late message is no dead letter");
    let rows = trial.transcript(SESSION).await;
    let said: Vec<_> = rows.iter().map(|row| (row.content.as_str(), row.user_id.clone())).collect();
    assert_eq!(said, [("bye", Some(USER)), ("goodbye", Some(USER)), ("call ended", None)]);
    let after = trial.session(SESSION).await;
    assert_eq!((after.message_count, after.last_event_at), (3, Some(trial.now().into())));
    assert_eq!(
        (after.status, after.ended_at),
        (Status::Ended.into(), before.ended_at),
        "a late message reopens nothing"
    );
    assert_eq!(after.duration_seconds, before.duration_seconds);
}

pub async fn a_late_message_within_the_grace_period_gets_the_sessions_user(setup: Setup) {
    let mut trial = ended_session(setup).await;
    trial.wait(Duration::from_secs(59));
    trial.tracker().sweep();
    assert_eq!(trial.tracker().sessions_in_memory(), 1, "the session stays in memory for its grace period");
    assert_taken(&mut trial).await;
}

pub async fn a_late_message_after_the_grace_period_gets_the_sessions_user(setup: Setup) {
    let mut trial = ended_session(setup).await;
    trial.wait(Duration::from_secs(60));
    trial.tracker().sweep();
    assert_eq!(trial.tracker().sessions_in_memory(), 0, "the session leaves memory after its grace period");
    assert_taken(&mut trial).await;
    assert_eq!(trial.tracker().sessions_in_memory(), 0, "a late message brings no session back into memory");
}

pub async fn a_late_message_after_a_restart_gets_the_sessions_user(setup: Setup) {
    let trial = ended_session(setup).await;
    trial.wait(Duration::from_secs(3_600));
    let mut trial = trial.restart().await;
    assert_taken(&mut trial).await;
}

pub async fn a_message_long_after_an_end_that_nobody_spoke_takes_it_back(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.say(SESSION, Role::User, "one moment").await;
    trial
        .tracker()
        .disconnect(SESSION)
        .expect("accepted")
        .expect("the last connection")
        .durable()
        .await
        .expect("durable");
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.status, Status::Ended);
    trial.wait(Duration::from_secs(61));
    trial.tracker().sweep();
    assert_eq!(trial.tracker().sessions_in_memory(), 0);
    trial.say(SESSION, Role::User, "here I am again").await;
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!(
        (row.status, row.ended_at, row.end_reason, row.message_count),
        (Status::Active.into(), None, None, 2)
    );
    let said_at = trial.now();

    // The session is in memory again, and becomes idle like any other.
    trial.tracker().sweep();
    assert_eq!(trial.tracker().owner_of(SESSION), Some(USER));
    trial.wait(Duration::from_secs(30 * 60));
    trial.tracker().sweep();
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.status, row.ended_at), (Status::Abandoned.into(), Some(said_at.into())));
}

fn lost(content: &str) -> Message {
    Message::new(UNKNOWN, Role::User, content).with_external_id("lost")
}

pub async fn a_message_of_an_unknown_session_is_laid_aside_and_its_neighbours_are_stored(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let known = |text| Message::new(SESSION, Role::User, text);
    let messages =
        vec![known("before"), lost("nobody's"), known("between"), lost("nobody's"), known("after")];
    let outcomes = trial.track_all(messages).await;
    assert!(outcomes.iter().all(Result::is_ok), "each is acknowledged, for each is kept: {outcomes:?}");
    let books = trial.settled().await;
    assert!(books.dead_lettered >= 1, "the message without a session is a dead letter: {books:?}");
    assert_eq!(books.stored + books.dead_lettered, 5, "{books:?}");
    assert_eq!(trial.contents(SESSION).await, ["before", "between", "after"]);
    assert_eq!(trial.session(SESSION).await.message_count, 3);
    assert_eq!(trial.find_session(UNKNOWN).await, None, "no session is made up");
    assert_eq!(trial.transcript(UNKNOWN).await, []);
    assert_eq!(trial.audit().await.messages, 3, "rows");
}

pub async fn a_message_laid_aside_can_come_again_once_its_session_is_there(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.track(lost("nobody's yet")).await.expect("durable");
    assert_eq!(trial.settled().await.dead_lettered, 1);
    trial.start(NewSession::new(UNKNOWN, USER)).await;
    trial.track(lost("nobody's yet")).await.expect("durable");
    let books = trial.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (1, 1));
    assert_eq!(trial.contents(UNKNOWN).await, ["nobody's yet"]);
    assert_eq!(trial.session(UNKNOWN).await.message_count, 1);
}

pub async fn updating_or_ending_an_unknown_session_makes_none(setup: Setup) {
    let trial = Trial::open(setup);
    let metadata = JsonObject::parse(r#"{"a":1}"#).expect("an object");
    let update = trial.tracker().update_session(UNKNOWN, metadata).expect("accepted");
    let end = trial.tracker().end_session(UNKNOWN, "completed").expect("accepted");
    // A remote store has not been asked yet when the update is durable. The store reports later that there
    // is no such session.
    let update = update.durable().await;
    assert!(matches!(update, Ok(()) | Err(NotDurable::UnknownSession)), "{update:?}");
    assert_eq!(end.durable().await, Err(NotDurable::UnknownSession));
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, 0, "the books count messages");
    assert_eq!(trial.find_session(UNKNOWN).await, None);
    assert_eq!(trial.audit().await.sessions, 0);
}
