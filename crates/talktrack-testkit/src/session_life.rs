//! The life of sessions: how they start, continue and end.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use serde_json::json;
use talktrack::store::SessionRow;
use talktrack::{Closing, NewSession, Started};
use talktrack_core::clock::Timestamp;
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message::{Message, Role, SESSION_NAMESPACE};
use talktrack_core::record::{Ended, Status};
use talktrack_core::stored::Stored;
use uuid::Uuid;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa4);
const USER: UserId = UserId::from_u128(0xb4);

fn new() -> NewSession {
    NewSession::new(SESSION, USER)
}

fn object(text: &str) -> JsonObject {
    JsonObject::parse(text).expect("an object")
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

async fn end_as(trial: &Trial, status: Status, reason: &str, ended_at: Timestamp) -> Ended {
    let closing = Closing::new(status, reason, ended_at);
    let receipt = trial.tracker().end_session_as(SESSION, closing).expect("the end is accepted");
    receipt.durable().await.expect("the session's end becomes durable")
}

/// The row of a session that has just started, without messages.
fn fresh_row(started_at: Timestamp) -> SessionRow {
    SessionRow {
        session_id: SESSION,
        user_id: Some(USER),
        external_id: None,
        status: Status::Active.into(),
        end_reason: None,
        started_at: started_at.into(),
        ended_at: None,
        duration_seconds: None,
        last_event_at: Some(started_at.into()),
        message_count: 0,
        dimensions: Dimensions::default(),
        metadata: Some(object("{}").into()),
    }
}

pub async fn a_session_starts_and_ends_with_its_figures(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    assert_eq!(trial.start(new()).await, Started::new(false));
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, fresh_row(began));

    for text in ["one", "two", "three"] {
        trial.wait(seconds(5));
        trial.say(SESSION, Role::User, text).await;
    }
    let last_event = trial.now();
    trial.wait(Duration::from_millis(30_200));
    let ended = trial.end(SESSION, "completed").await;
    assert_eq!(ended, Ended { duration_seconds: 45.2, message_count: 3 });
    trial.settled().await;
    let expected = SessionRow {
        status: Status::Ended.into(),
        end_reason: Some("completed".into()),
        ended_at: Some(trial.now().into()),
        duration_seconds: Some(45.2),
        last_event_at: Some(last_event.into()),
        message_count: 3,
        ..fresh_row(began)
    };
    assert_eq!(trial.session(SESSION).await, expected);
}

pub async fn a_session_told_from_a_recording_keeps_its_times(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began: Timestamp = "2019-05-06T07:08:09.123456Z".parse().expect("a time");
    let spoken = began.plus(seconds(3));
    let ended = began.plus(Duration::from_millis(7_500));
    trial.start(new().with_started_at(began)).await;
    let message = Message::new(SESSION, Role::User, "long ago").with_created_at(spoken);
    trial.track(message).await.expect("durable");
    assert_eq!(
        end_as(&trial, Status::Ended, "disconnect", ended).await,
        Ended { duration_seconds: 7.5, message_count: 1 }
    );
    trial.settled().await;
    let expected = SessionRow {
        status: Status::Ended.into(),
        end_reason: Some("disconnect".into()),
        ended_at: Some(ended.into()),
        duration_seconds: Some(7.5),
        last_event_at: Some(spoken.into()),
        message_count: 1,
        ..fresh_row(began)
    };
    assert_eq!(trial.session(SESSION).await, expected);
}

pub async fn a_session_known_by_a_name_keeps_it(setup: Setup) {
    let trial = Trial::open(setup);
    let named = NewSession::named("call \u{1F4DE} 7", USER);
    let session_id = named.session_id;
    assert_eq!(session_id, Uuid::new_v5(&SESSION_NAMESPACE, "call \u{1F4DE} 7".as_bytes()).into());
    trial.start(named.clone()).await;
    trial.settled().await;
    assert_eq!(trial.session(session_id).await.external_id.as_deref(), Some("call \u{1F4DE} 7"));
    assert_eq!(trial.start(named).await, Started::new(true), "the same name is the same session");
    trial.settled().await;
    assert_eq!(trial.audit().await.sessions, 1);
    assert_eq!(trial.session(session_id).await.external_id.as_deref(), Some("call \u{1F4DE} 7"));
}

pub async fn ending_a_session_twice_changes_nothing(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(new()).await;
    trial.say(SESSION, Role::User, "bye").await;
    trial.wait(seconds(10));
    let first = trial.end(SESSION, "completed").await;
    trial.settled().await;
    let before = trial.session(SESSION).await;
    trial.wait(seconds(7));
    let second = trial.end(SESSION, "error").await;
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, before);
    assert_eq!(second, first, "the figures are those of the first end");
}

pub async fn an_end_that_is_told_replaces_the_end_of_an_abandoned_session(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(new()).await;
    trial.wait(seconds(4));
    trial.say(SESSION, Role::User, "hello?").await;
    let last_event = trial.now();
    trial.wait(seconds(4));
    end_as(&trial, Status::Abandoned, "idle_timeout", trial.now()).await;
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!(
        (row.status, row.ended_at, row.duration_seconds),
        (Status::Abandoned.into(), Some(last_event.into()), Some(4.0))
    );
    end_as(&trial, Status::Ended, "completed", trial.now()).await;
    trial.settled().await;
    let told = trial.session(SESSION).await;
    assert_eq!(
        (told.status.clone(), told.ended_at.clone(), told.duration_seconds),
        (Status::Ended.into(), Some(trial.now().into()), Some(8.0))
    );
    assert_eq!(told.end_reason.as_deref(), Some("completed"));
    trial.wait(seconds(4));
    end_as(&trial, Status::Ended, "error", trial.now()).await;
    end_as(&trial, Status::Abandoned, "idle_timeout", trial.now()).await;
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, told, "any other end stands");
}

pub async fn a_session_that_starts_again_goes_on(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    trial.start(new()).await;
    trial.say(SESSION, Role::User, "one").await;
    trial.wait(seconds(10));
    trial.end(SESSION, "disconnect").await;
    trial.settled().await;
    trial.wait(seconds(10));
    assert_eq!(trial.start(new()).await, Started::new(true));
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.status, row.ended_at), (Status::Active.into(), None));
    assert_eq!((row.end_reason, row.duration_seconds), (None, None));
    assert_eq!((row.started_at, row.message_count), (began.into(), 1));

    trial.say(SESSION, Role::User, "two").await;
    trial.wait(seconds(10));
    let ended = trial.end(SESSION, "completed").await;
    assert_eq!(ended, Ended { duration_seconds: 30.0, message_count: 2 });
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.message_count, row.duration_seconds), (2, Some(30.0)));
    assert_eq!(row.end_reason.as_deref(), Some("completed"));
    assert_eq!(trial.contents(SESSION).await, ["one", "two"]);
}

pub async fn a_start_that_does_not_resume_only_fills_in(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    trial.start(new().with_metadata(object(r#"{"a":1}"#))).await;
    trial.say(SESSION, Role::User, "one").await;
    trial.wait(seconds(300));
    trial.end(SESSION, "hangup").await;
    trial.settled().await;
    let ended = trial.session(SESSION).await;
    trial.wait(seconds(10));
    let again = || {
        let started_at = began.plus(seconds(7));
        new().with_resume(false).with_started_at(started_at).with_external_id("call 7")
    };
    for _ in 0..2 {
        let metadata = object(r#"{"a":2,"b":3}"#);
        assert_eq!(trial.start(again().with_metadata(metadata)).await, Started::new(true));
        trial.settled().await;
        let row = trial.session(SESSION).await;
        let metadata = row.metadata.clone().and_then(Stored::into_known).map(|json| json.to_value());
        assert_eq!(metadata, json!({"a": 1, "b": 3}).as_object().cloned(), "only a new key is added");
        let filled = SessionRow {
            metadata: row.metadata.clone(),
            external_id: Some("call 7".into()),
            ..ended.clone()
        };
        assert_eq!(row, filled);
    }
    let late = trial.say(SESSION, Role::User, "late").await;
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["one", "late"], "{late:?}");
    assert_eq!(trial.session(SESSION).await.end_reason.as_deref(), Some("hangup"));
}

pub async fn a_session_goes_on_after_a_restart(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    trial.start(new().with_metadata(object(r#"{"kept":1}"#))).await;
    trial.say(SESSION, Role::User, "before").await;
    trial.wait(seconds(10));
    let mut trial = trial.restart().await;
    trial.wait(seconds(10));
    trial.start(new()).await;
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.status, row.ended_at, row.duration_seconds), (Status::Active.into(), None, None));
    assert_eq!((row.started_at, row.message_count), (began.into(), 1));
    trial.say(SESSION, Role::Assistant, "after").await;
    trial.wait(seconds(10));
    trial.end(SESSION, "completed").await;
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.status, row.message_count, row.duration_seconds), (Status::Ended.into(), 2, Some(30.0)));
    assert_eq!(
        row.metadata.and_then(Stored::into_known).map(|json| json.to_value()),
        json!({"kept": 1}).as_object().cloned()
    );
    assert_eq!(trial.contents(SESSION).await, ["before", "after"]);
}

pub async fn session_metadata_are_merged_key_by_key(setup: Setup) {
    let trial = Trial::open(setup);
    trial.start(new().with_metadata(object(r#"{"a":1,"b":{"x":1},"c":"c"}"#))).await;
    let update = |text| trial.tracker().update_session(SESSION, object(text)).expect("accepted");
    update(r#"{"b":{"y":2},"d":null}"#).await.expect("durable");
    update("{}").await.expect("durable");
    trial.start(new().with_metadata(object(r#"{"c":"C","e":[1]}"#))).await;
    trial.settled().await;
    let found =
        trial.session(SESSION).await.metadata.and_then(Stored::into_known).map(|json| json.to_value());
    let expected = json!({"a": 1, "b": {"y": 2}, "c": "C", "e": [1]});
    assert_eq!(
        found,
        expected.as_object().cloned(),
        "each key is replaced whole by the later one of its name"
    );
}

pub async fn numbers_beyond_a_double_survive_a_merge_of_session_metadata(setup: Setup) {
    let trial = Trial::open(setup);
    let metadata = object(r#"{"big":12345678901234567890123}"#);
    trial.start(new().with_metadata(metadata)).await;
    let update = trial.tracker().update_session(SESSION, object(r#"{"more":98765432109876543210987}"#));
    update.expect("accepted").await.expect("durable");
    trial.settled().await;
    let found = trial.session(SESSION).await.metadata.and_then(Stored::into_known).unwrap_or_default();
    for digits in ["12345678901234567890123", "98765432109876543210987"] {
        assert!(found.as_str().contains(digits), "{digits} became {found:?}");
    }
}

pub async fn session_metadata_do_not_grow_without_bound(setup: Setup) {
    let mut trial = Trial::open(setup);
    let added = |key: &str, bytes: usize| object(&format!(r#"{{"{key}":"{}"}}"#, "x".repeat(bytes)));
    trial.start(new().with_metadata(added("first", 20_000))).await;
    for (key, bytes) in [("second", 20_000), ("third", 20_000), ("second", 10_000), ("fourth", 10_000)] {
        let update = trial.tracker().update_session(SESSION, added(key, bytes));
        update.expect("they fit").await.expect("durable");
    }
    let refused = trial.tracker().update_session(SESSION, added("fifth", 10_000)).expect_err("too long");
    assert_eq!(
        (refused.reason.code().as_str(), refused.returned),
        ("too_large", added("fifth", 10_000).into())
    );
    let resumed = new().with_metadata(added("fifth", 10_000));
    let refused = trial.tracker().start_session(resumed).expect_err("too long");
    assert_eq!(refused.reason.code(), "too_large");
    for round in 0..20 {
        let update = trial.tracker().update_session(SESSION, object(&format!(r#"{{"state":{round}}}"#)));
        update.expect("one key, again and again").await.expect("durable");
    }
    // This process does not remember these metadata, so the store must limit them.
    for round in 0..8 {
        trial = trial.restart().await;
        for key in ["a", "b", "c"] {
            let update = trial.tracker().update_session(SESSION, added(&format!("{key}{round}"), 15_000));
            if let Err(why) = update.expect("accepted").await {
                assert_eq!(why.code(), "too_large");
            }
        }
        trial.settled().await;
    }
    let metadata = trial.session(SESSION).await.metadata.and_then(Stored::into_known).unwrap_or_default();
    let length = metadata.as_str().len();
    assert!((50_000..=128 << 10).contains(&length), "{length} bytes of metadata");
    assert_eq!(metadata.to_value().get("state"), Some(&json!(19)), "what is there stays");
}

pub async fn an_idle_session_is_abandoned_at_its_last_event(setup: Setup) {
    let mut trial = Trial::open(setup);
    let began = trial.now();
    trial.start(new()).await;
    trial.wait(seconds(90));
    trial.say(SESSION, Role::User, "anybody there?").await;
    let last_event = trial.now();
    trial.wait(seconds(29 * 60));
    trial.tracker().sweep();
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.status, Status::Active, "half an hour is not over");
    trial.wait(seconds(60));
    trial.tracker().sweep();
    trial.settled().await;
    let expected = SessionRow {
        status: Status::Abandoned.into(),
        end_reason: Some("idle_timeout".into()),
        ended_at: Some(last_event.into()),
        duration_seconds: Some(90.0),
        last_event_at: Some(last_event.into()),
        message_count: 1,
        ..fresh_row(began)
    };
    assert_eq!(trial.session(SESSION).await, expected);
}

pub async fn shutdown_ends_the_open_sessions(setup: Setup) {
    let trial = Trial::open(setup);
    let began = trial.now();
    trial.start(new()).await;
    trial.wait(seconds(12));
    let stopped = trial.now();
    let trial = trial.restart().await;
    trial.settled().await;
    let expected = SessionRow {
        status: Status::Ended.into(),
        end_reason: Some("shutdown".into()),
        ended_at: Some(stopped.into()),
        duration_seconds: Some(12.0),
        ..fresh_row(began)
    };
    assert_eq!(trial.session(SESSION).await, expected);
}

pub async fn sessions_that_a_stop_left_open_are_abandoned_at_their_last_event(setup: Setup) {
    let mut trial = Trial::open(setup);
    trial.start(new()).await;
    trial.wait(seconds(20));
    trial.say(SESSION, Role::User, "the phone falls into the river").await;
    let last_event = trial.now();
    trial.wait(seconds(1_000));
    let trial = trial.reopen();
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!((row.status, row.ended_at), (Status::Abandoned.into(), Some(last_event.into())));
    assert_eq!((row.duration_seconds, row.message_count), (Some(20.0), 1));
    assert!(row.end_reason.is_some(), "an end has its reason");
}
