//! Counts that must agree: the rows, the sessions' figures, the books.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::NewSession;
use talktrack::store::MessageRow;
use talktrack_core::books::Books;
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, Role};
use talktrack_core::record::Status;
use talktrack_core::stored::Stored;
use uuid::Uuid;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xaa);
const UNKNOWN: SessionId = SessionId::from_u128(0xab);
const USER: UserId = UserId::from_u128(0xba);

pub async fn what_was_flushed_to_the_store_is_there(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.settled().await;
    // Sessions without a message, so that the flush can only wait for their starts and updates.
    for number in 0..20 {
        let session = SessionId::from_u128(0x300 + number);
        trial.start(NewSession::new(session, USER)).await;
        trial.settled().await;
        assert_eq!(trial.session(session).await.status, Status::Active, "session {number}, started");
        let metadata = JsonObject::parse(r#"{"seen":true}"#).expect("an object");
        trial.tracker().update_session(session, metadata.clone()).expect("accepted").await.expect("durable");
        trial.settled().await;
        assert_eq!(trial.session(session).await.metadata, Some(metadata.into()), "session {number}, updated");
        trial.say(session, Role::User, "hello").await;
        trial.settled().await;
        assert_eq!(trial.contents(session).await, ["hello"], "session {number}, spoken in");
        trial.end(session, "completed").await;
        trial.settled().await;
        assert_eq!(trial.session(session).await.status, Status::Ended, "session {number}, ended");
    }
}

pub async fn counts_and_last_events_are_those_of_the_rows(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let began = trial.now();
    for count in 1..=5 {
        trial.wait(Duration::from_secs(10));
        trial.say(SESSION, Role::User, "again").await;
        trial.settled().await;
        let row = trial.session(SESSION).await;
        assert_eq!((row.message_count, row.last_event_at), (count, Some(trial.now().into())));
    }
    let last = trial.now();
    // Said earlier but delivered later: one more message, but no later event.
    let earlier = Message::new(SESSION, Role::User, "x").with_created_at(began.plus(Duration::from_secs(1)));
    trial.track(earlier).await.expect("durable");
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.message_count, row.last_event_at), (6, Some(last.into())));
    // Said in the future, by a clock that is ahead: the event is now.
    trial.wait(Duration::from_secs(10));
    let ahead =
        Message::new(SESSION, Role::User, "y").with_created_at(trial.now().plus(Duration::from_secs(900)));
    trial.track(ahead).await.expect("durable");
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.message_count, row.last_event_at), (7, Some(trial.now().into())));
}

/// A wrong clock of the caller or the server is no reason to refuse a message.
pub async fn what_was_said_in_the_future_stands_where_it_was_accepted(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(NewSession::new(SESSION, USER)).await;
    let said = |text: &str, created_at: Timestamp| {
        Message::new(SESSION, Role::User, text)
            .with_id(MessageId::from(Uuid::new_v5(&SESSION.as_uuid(), text.as_bytes())))
            .with_created_at(created_at)
            .with_extra(JsonObject::parse(r#"{"talktrack":{"created_at":"forged"},"mood":"good"}"#).ok())
    };
    let begun = trial.now();
    let day = Duration::from_secs(24 * 60 * 60);
    let far = [begun.plus(day * 2), begun.plus(day * 365 * 50)];
    trial.track(said("question", far[0])).await.expect("durable");
    trial.wait(Duration::from_secs(1));
    trial.track(Message::new(SESSION, Role::Assistant, "answer")).await.expect("durable");
    trial.track(said("a little ahead", trial.now().plus(Duration::from_secs(60)))).await.expect("durable");
    trial.track(said("far ahead", far[1])).await.expect("durable");
    // The same message again.
    trial.track(said("question", far[0])).await.expect("durable");
    let books = trial.settled().await;
    assert_eq!(books.dead_lettered, 0);
    assert_eq!(trial.contents(SESSION).await, ["question", "answer", "far ahead", "a little ahead"]);
    let note = |row: MessageRow| {
        let extra = row.extra.and_then(Stored::into_known)?.to_value();
        Some(extra.get("talktrack")?["created_at"].clone())
    };
    let notes: Vec<_> = trial.transcript(SESSION).await.into_iter().map(note).collect();
    let claimed = |at: Timestamp| Some(serde_json::Value::from(at.to_string()));
    assert_eq!(notes, [claimed(far[0]), None, claimed(far[1]), None]);
}

/// Writes records of every kind. Returns the books and the number of rows.
async fn everything(trial: &mut Trial) -> (Books, u64) {
    let id = MessageId::from_u128(0xca);
    let said = |content: &str, revision| {
        Message::new(SESSION, Role::User, content).with_id(id).with_revision(revision)
    };
    trial.start(NewSession::new(SESSION, USER)).await;
    let unknown = Message::new(UNKNOWN, Role::User, "nobody's");
    let one = Message::new(SESSION, Role::Assistant, "one row");
    trial.track_all(vec![said("a", 0), one, unknown, said("a", 0)]).await;
    trial.settled().await;
    trial.track_all(vec![said("b", 1), said("a", 0), said("b", 1)]).await;
    trial.settled().await;
    let conflict = trial.track(said("conflict", 1)).await.is_ok();
    trial.end(SESSION, "completed").await;
    let books = trial.settled().await;
    assert_eq!(books.stored, 6, "{books:?}");
    assert_eq!(books.dead_lettered, 1 + u64::from(conflict), "{books:?}");
    (books, trial.audit().await.messages)
}

pub async fn the_books_balance_after_everything(setup: Setup) {
    let mut trial = Trial::open(setup);
    let (books, rows) = everything(&mut trial).await;
    assert_eq!((rows, books.pending()), (2, 0));
    assert_eq!(books.journal_bytes, 0, "nothing waits in the journal");
    assert_eq!(trial.contents(SESSION).await, ["b", "one row"]);
    let health = trial.tracker().health();
    assert_eq!((health.journal, health.store), (None, None));
}

pub async fn the_books_go_on_after_a_restart(setup: Setup) {
    let mut trial = Trial::open(setup);
    let (before, _) = everything(&mut trial).await;
    let mut trial = trial.restart().await;
    assert_eq!(trial.settled().await, before);
    trial.start(NewSession::new(SESSION, USER)).await;
    trial.say(SESSION, Role::User, "one more").await;
    let after = trial.settled().await;
    assert_eq!((after.stored, after.dead_lettered), (before.stored + 1, before.dead_lettered));
    assert_eq!(trial.session(SESSION).await.message_count, 3);
}
