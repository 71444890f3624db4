//! Messages in progress: how they become final, and when they are discarded.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack::store::MessageRow;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::message::{Message, MessageStatus, Role};
use talktrack_core::record::Status;
use talktrack_core::stored::Stored;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xf4);
const USER: UserId = UserId::from_u128(0xf5);
const HEARD: MessageId = MessageId::from_u128(0xf6);
const SPOKEN: MessageId = MessageId::from_u128(0xf7);

async fn begin(setup: Setup) -> Trial {
    let trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial
}

fn part(id: MessageId, role: Role, content: &str, revision: u32, status: MessageStatus) -> Message {
    Message::new(SESSION, role, content).with_id(id).with_revision(revision).with_status(status)
}

fn in_progress(id: MessageId, role: Role, content: &str, revision: u32) -> Message {
    part(id, role, content, revision, MessageStatus::InProgress)
}

/// The status, the text, whether it was interrupted, and the revision.
fn states(rows: &[MessageRow]) -> Vec<(String, String, bool, i64)> {
    let state = |row: &MessageRow| {
        (row.status.as_str().to_owned(), row.content.clone(), row.interrupted, row.revision)
    };
    rows.iter().map(state).collect()
}

fn state(status: &str, content: &str, interrupted: bool, revision: i64) -> (String, String, bool, i64) {
    (status.to_owned(), content.to_owned(), interrupted, revision)
}

async fn count(trial: &Trial) -> i64 {
    trial.settled().await;
    trial.session(SESSION).await.message_count
}

pub async fn a_message_in_progress_counts_when_a_revision_makes_it_final(setup: Setup) {
    let mut trial = begin(setup).await;
    trial.track(in_progress(HEARD, Role::User, "Hel", 0)).await.expect("durable");
    assert_eq!(count(&trial).await, 0);
    trial.track(in_progress(HEARD, Role::User, "Hello the", 1)).await.expect("durable");
    assert_eq!(count(&trial).await, 0);
    assert_eq!(states(&trial.transcript(SESSION).await), [state("in_progress", "Hello the", false, 1)]);
    trial.track(part(HEARD, Role::User, "Hello there", 2, MessageStatus::Final)).await.expect("durable");
    assert_eq!(count(&trial).await, 1);
    trial.track(part(HEARD, Role::User, "Hello there!", 3, MessageStatus::Final)).await.expect("durable");
    assert_eq!(count(&trial).await, 1);
    assert_eq!(states(&trial.transcript(SESSION).await), [state("final", "Hello there!", false, 3)]);
}

pub async fn a_discarded_message_is_kept_and_does_not_count(setup: Setup) {
    let mut trial = begin(setup).await;
    trial.track(in_progress(SPOKEN, Role::Assistant, "I could", 0)).await.expect("durable");
    trial
        .track(part(SPOKEN, Role::Assistant, "I could", 1, MessageStatus::Discarded))
        .await
        .expect("durable");
    trial.say(SESSION, Role::User, "Go on").await;
    assert_eq!(count(&trial).await, 1);
    assert_eq!(
        states(&trial.transcript(SESSION).await),
        [state("discarded", "I could", false, 1), state("final", "Go on", false, 0)]
    );
    trial.track(part(SPOKEN, Role::Assistant, "I could", 2, MessageStatus::Final)).await.expect("durable");
    assert_eq!(count(&trial).await, 2);
    trial.track(part(SPOKEN, Role::Assistant, "", 3, MessageStatus::Discarded)).await.expect("durable");
    assert_eq!(count(&trial).await, 1);
}

pub async fn the_end_of_a_session_makes_final_what_is_in_progress(setup: Setup) {
    let mut trial = begin(setup).await;
    trial.say(SESSION, Role::User, "Tell me").await;
    let half = in_progress(SPOKEN, Role::Assistant, "Once upon", 4);
    trial.track(half.clone()).await.expect("durable");
    trial.track(in_progress(HEARD, Role::User, "Wait", 0)).await.expect("durable");
    trial.wait(Duration::from_secs(5));
    trial.end(SESSION, "hangup").await;
    assert_eq!(count(&trial).await, 3);
    let rows = trial.transcript(SESSION).await;
    assert_eq!(
        states(&rows),
        [
            state("final", "Tell me", false, 0),
            state("final", "Once upon", true, 4),
            state("final", "Wait", false, 0)
        ]
    );
    let closed = |row: &MessageRow| row.clone().into_message().is_some_and(|message| message.is_closed());
    assert_eq!(rows.iter().map(closed).collect::<Vec<_>>(), [false, true, true]);
    // The same again changes nothing, other content under this revision is a conflict, and a later revision replaces.
    assert_eq!(trial.track(half.clone()).await, Ok(SPOKEN));
    let other = trial.track(half.clone().with_content("Other")).await;
    assert!(matches!(other, Ok(_) | Err(NotDurable::IdConflict)), "{other:?}");
    trial
        .track(part(SPOKEN, Role::Assistant, "Once upon a", 5, MessageStatus::Final))
        .await
        .expect("durable");
    assert_eq!(count(&trial).await, 3);
    assert_eq!(states(&trial.transcript(SESSION).await)[1], state("final", "Once upon a", false, 5));
}

pub async fn a_message_in_progress_that_reaches_an_ended_session_is_final_at_once(setup: Setup) {
    let mut trial = begin(setup).await;
    trial.track(in_progress(HEARD, Role::User, "He", 0)).await.expect("durable");
    trial.end(SESSION, "hangup").await;
    trial.track(in_progress(HEARD, Role::User, "Hello", 1)).await.expect("durable");
    trial.track(in_progress(SPOKEN, Role::Assistant, "Hi", 0)).await.expect("durable");
    assert_eq!(count(&trial).await, 2);
    assert_eq!(
        states(&trial.transcript(SESSION).await),
        [state("final", "Hello", false, 1), state("final", "Hi", true, 0)]
    );
}

pub async fn an_abandoned_session_has_nothing_in_progress(setup: Setup) {
    let mut trial = begin(setup).await;
    trial.track(in_progress(SPOKEN, Role::Assistant, "Are you", 0)).await.expect("durable");
    trial.wait(Duration::from_secs(31 * 60));
    trial.tracker().sweep();
    assert_eq!(count(&trial).await, 1);
    let row = trial.session(SESSION).await;
    assert_eq!(row.status, Stored::Known(Status::Abandoned));
    assert_eq!(states(&trial.transcript(SESSION).await), [state("final", "Are you", true, 0)]);
}

pub async fn a_session_that_a_stop_left_open_has_nothing_in_progress(setup: Setup) {
    let mut trial = begin(setup).await;
    trial.track(in_progress(SPOKEN, Role::Assistant, "Are you", 0)).await.expect("durable");
    trial.settled().await;
    let trial = trial.reopen();
    assert_eq!(count(&trial).await, 1);
    assert_eq!(states(&trial.transcript(SESSION).await), [state("final", "Are you", true, 0)]);
}
