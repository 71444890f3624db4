//! Sessions in memory: connections, heartbeats, owners.

use std::time::Duration;

use talktrack::clock::Clock as _;
use talktrack::{
    Closing, JsonObject, Message, NewSession, NotDurable, Role, SessionId, Started, Status, StoredTime,
    Timestamp, UserId,
};
use talktrack_testkit::{Setup, Trial};

use crate::support::{SESSION, USER, dir, new_session, within};

const MINUTE: Duration = Duration::from_secs(60);

fn trial(dir: &tempfile::TempDir) -> Trial {
    Trial::open(Setup::sqlite(dir.path()))
}

#[tokio::test]
async fn a_session_with_two_connections_ends_with_the_last_of_them() {
    let dir = dir();
    let mut trial = trial(&dir);
    assert_eq!(trial.start(new_session()).await, Started::new(false));
    assert_eq!(trial.start(new_session()).await, Started::new(true));
    trial.say(SESSION, Role::User, "hello").await;
    assert!(trial.tracker().disconnect(SESSION).unwrap().is_none(), "one connection is left");
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.status, Status::Active);
    trial.wait(MINUTE);
    let ended = trial.tracker().disconnect(SESSION).unwrap().expect("that was the last connection");
    assert_eq!(within(ended.durable()).await.unwrap().message_count, 1);
    let row = trial.session(SESSION).await;
    assert_eq!((row.status, row.end_reason.as_deref()), (Status::Ended.into(), Some("disconnect")));
    assert_eq!(row.ended_at, Some(trial.now().into()));
    assert!(trial.tracker().disconnect(SESSION).unwrap().is_none(), "there is nothing left to end");
}

/// Regression test: a client reconnects at the moment when its old connection is found to be closed. In
/// either order the client is connected afterwards. But the end could overtake the start on the way to
/// the disk, and then the session stayed ended.
#[tokio::test]
async fn whoever_connects_again_as_the_last_connection_goes_is_connected() {
    let dir = dir();
    let trial = trial(&dir);
    trial.start(new_session()).await;
    for round in 0..300 {
        let tracker = trial.tracker();
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                both.wait();
                drop(tracker.disconnect(SESSION).unwrap());
            });
            both.wait();
            drop(tracker.start_session(new_session()).unwrap());
        });
        within(tracker.flush()).await.unwrap();
        assert_eq!(trial.session(SESSION).await.status, Status::Active, "in round {round}");
    }
}

#[tokio::test]
async fn a_disconnect_after_the_end_changes_nothing() {
    let dir = dir();
    let trial = trial(&dir);
    trial.start(new_session()).await;
    trial.end(SESSION, "completed").await;
    let before = trial.session(SESSION).await;
    trial.wait(MINUTE / 2);
    assert!(trial.tracker().disconnect(SESSION).unwrap().is_none());
    assert!(
        trial.tracker().disconnect(SessionId::from_u128(77)).unwrap().is_none(),
        "nor does one of an unknown session"
    );
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await, before);
}

#[tokio::test]
async fn a_connection_left_over_from_before_the_end_does_not_end_the_resumed_session() {
    let dir = dir();
    let trial = trial(&dir);
    trial.start(new_session()).await;
    trial.start(new_session()).await;
    trial.end(SESSION, "completed").await;
    trial.start(new_session()).await;
    for _ in 0..2 {
        let ended = trial.tracker().disconnect(SESSION).unwrap();
        assert!(ended.is_none(), "the connection that resumed it is still there");
    }
    let ended = trial.tracker().disconnect(SESSION).unwrap().expect("now the last one is gone");
    within(ended.durable()).await.unwrap();
    assert_eq!(trial.session(SESSION).await.end_reason.as_deref(), Some("disconnect"));
}

#[tokio::test]
async fn a_connection_that_lives_keeps_its_silent_session_from_being_abandoned() {
    let dir = dir();
    let trial = trial(&dir);
    trial.start(new_session()).await;
    for _ in 0..5 {
        trial.wait(29 * MINUTE);
        trial.tracker().keep_alive(SESSION);
        trial.tracker().sweep();
    }
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.status, Status::Active);
    trial.wait(30 * MINUTE);
    trial.tracker().sweep();
    trial.settled().await;
    let row = trial.session(SESSION).await;
    assert_eq!(row.status, Status::Abandoned);
    assert_eq!(row.ended_at, Some(row.started_at), "a connection's life is no event of the conversation");
}

#[tokio::test]
async fn a_calendar_that_leaps_ahead_or_steps_back_changes_no_sessions_time() {
    let dir = dir();
    let trial = trial(&dir);
    let noon = trial.now();
    let gone = SessionId::from_u128(77);
    trial.start(NewSession::new(gone, USER)).await;
    trial.start(new_session()).await;
    trial.end(gone, "completed").await;
    for moment in [noon.plus(MINUTE * 60 * 24), noon.minus(MINUTE * 60 * 24)] {
        trial.clock().set(moment);
        trial.tracker().sweep();
        trial.settled().await;
        assert_eq!(trial.session(SESSION).await.status, Status::Active);
        assert_eq!(trial.tracker().sessions_in_memory(), 2, "the grace period is not over");
    }
    trial.wait(MINUTE * 2);
    trial.tracker().sweep();
    assert_eq!(trial.tracker().sessions_in_memory(), 1, "now it is");
    trial.wait(MINUTE * 30);
    trial.tracker().sweep();
    trial.settled().await;
    assert_eq!(trial.session(SESSION).await.status, Status::Abandoned);
}

#[tokio::test]
async fn what_is_said_after_the_calendar_stepped_back_comes_after_what_was_said_before() {
    let dir = dir();
    let mut trial = trial(&dir);
    trial.start(new_session()).await;
    let noon = trial.now();
    trial.say(SESSION, Role::User, "one").await;
    trial.clock().set(noon.minus(MINUTE * 60));
    trial.say(SESSION, Role::User, "two").await;
    let earlier = Message::new(SESSION, Role::User, "said earlier").with_created_at(noon.minus(MINUTE));
    trial.track(earlier).await.unwrap();
    trial.clock().set(noon.plus(MINUTE));
    trial.say(SESSION, Role::User, "three").await;
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["said earlier", "one", "two", "three"]);
}

#[tokio::test]
async fn a_moment_that_the_data_directory_has_seen_is_no_future_however_far_the_calendar_stepped_back() {
    let dir = dir();
    let mut trial = trial(&dir);
    trial.start(new_session()).await;
    let noon = trial.now();
    trial.clock().set(noon.minus(MINUTE * 60 * 24 * 7));
    let at = |created_at| Message::new(SESSION, Role::User, "when?").with_created_at(created_at);
    trial.track(at(noon.plus(MINUTE))).await.unwrap();
    trial.track(at(noon.plus(MINUTE * 60 * 25))).await.unwrap();
    trial.settled().await;
    let extras = trial.transcript(SESSION).await.into_iter().map(|row| row.extra);
    let notes: Vec<_> = extras.map(|extra| extra.map(|extra| extra.to_string())).collect();
    let claimed = noon.plus(MINUTE * 60 * 25).to_string();
    // By the calendar it was accepted a week before noon, so it comes first.
    assert_eq!(notes, [Some(format!(r#"{{"talktrack":{{"created_at":"{claimed}"}}}}"#)), None]);
}

#[tokio::test]
async fn sessions_are_swept_without_being_asked() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let grace_period = Duration::from_millis(80);
    let idle_timeout = 10 * MINUTE;
    let options = setup.options().with_grace_period(grace_period).with_idle_timeout(idle_timeout);
    let trial = Trial::open_with(setup, options);
    trial.start(new_session()).await;
    trial.wait(10 * MINUTE);
    let in_memory = || trial.tracker().sessions_in_memory();
    // One sweep abandons the session. Another removes it from memory, as soon as the clock is past the grace period.
    let mut status = Status::Active.into();
    let deadline = std::time::Instant::now() + talktrack_testkit::PATIENCE;
    while status == Status::Active {
        assert!(std::time::Instant::now() < deadline, "the sweep comes by itself");
        status = trial.session(SESSION).await.status;
    }
    assert_eq!((status, in_memory()), (Status::Abandoned.into(), 1));
    trial.wait(Duration::from_secs(1));
    talktrack_testkit::eventually("the session leaves memory", || in_memory() == 0).await;
}

#[tokio::test]
async fn a_session_can_be_had_by_another_user_only_when_nobody_has_it() {
    let dir = dir();
    let mut trial = trial(&dir);
    let other = UserId::from_u128(0xb9);
    trial.start(new_session()).await;
    let thief = NewSession::new(SESSION, other.clone());
    let refused = within(trial.tracker().start_session(thief.clone()).unwrap().durable()).await;
    assert_eq!(refused, Err(NotDurable::OtherUser));
    assert!(trial.tracker().is_proven(SESSION, &USER) && !trial.tracker().is_proven(SESSION, &other));
    let mut trial = {
        trial.say(SESSION, Role::User, "mine").await;
        trial.restart().await
    };
    let refused = within(trial.tracker().start_session(thief).unwrap().durable()).await;
    assert_eq!(refused, Err(NotDurable::OtherUser), "the journal's file knows it too");
    trial.tracker().forget_claim(SESSION, &other);
    trial.start(new_session()).await;
    trial.say(SESSION, Role::User, "still mine").await;
    trial.settled().await;
    assert_eq!(trial.contents(SESSION).await, ["mine", "still mine"]);
    assert_eq!(trial.session(SESSION).await.user_id, Some(USER));
}

#[tokio::test]
async fn a_session_of_an_earlier_run_is_resumed_and_says_so() {
    let dir = dir();
    let mut trial = trial(&dir);
    trial.start(new_session()).await;
    trial.say(SESSION, Role::User, "one").await;
    let mut trial = trial.restart().await;
    assert_eq!(trial.start(new_session()).await, Started::new(true));
    trial.say(SESSION, Role::User, "two").await;
    assert_eq!(trial.end(SESSION, "completed").await.message_count, 2, "the count goes on");
    trial.wait(2 * MINUTE);
    trial.tracker().sweep();
    assert_eq!(trial.tracker().sessions_in_memory(), 0);
    assert_eq!(trial.start(new_session()).await, Started::new(true), "and when memory has forgotten it");
}

#[tokio::test]
async fn u0000_in_what_is_told_of_a_session_is_replaced() {
    let dir = dir();
    let trial = trial(&dir);
    let object = |text| JsonObject::parse(text).unwrap();
    let session = NewSession::named("n\0n", USER).with_metadata(object(r#"{"a":"x\u0000y"}"#));
    let session_id = session.session_id;
    trial.start(session).await;
    within(trial.tracker().update_session(session_id, object(r#"{"b":["\u0000"]}"#)).unwrap()).await.unwrap();
    trial.end(session_id, "gone\0").await;
    let row = trial.session(session_id).await;
    assert_eq!(row.external_id.as_deref(), Some("n\u{fffd}n"));
    assert_eq!(row.end_reason.as_deref(), Some("gone\u{fffd}"));
    let metadata = row.metadata.unwrap().into_known().unwrap().to_value();
    assert_eq!((&metadata["a"], &metadata["b"]), (&"x\u{fffd}y".into(), &vec!["\u{fffd}"].into()));
}

/// The clock of the caller or of this server is wrong. The event is accepted anyway.
#[tokio::test]
async fn times_of_a_session_that_lie_ahead_are_replaced_by_the_moment_of_acceptance() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    let now = setup.clock().now();
    let ahead = |seconds| Some(now.plus(Duration::from_secs(seconds)));
    let day = 24 * 60 * 60;
    for (claimed, stored) in [(ahead(60), ahead(60)), (ahead(61), Some(now)), (ahead(day), Some(now))] {
        let session = SessionId::new(uuid::Uuid::new_v4());
        let new = NewSession::new(session, USER).with_started_at(claimed);
        within(tracker.start_session(new).unwrap().durable()).await.unwrap();
        let closing = Closing::new(Status::Ended, "over", claimed.unwrap());
        within(tracker.end_session_as(session, closing).unwrap().durable()).await.unwrap();
        let row = within(tracker.reader().session(session)).await.unwrap().unwrap();
        assert_eq!(Some(row.started_at), stored.map(StoredTime::Known), "{claimed:?}");
        assert_eq!(row.ended_at, stored.map(StoredTime::Known), "{claimed:?}");
    }
    for far in [ahead(day + 1), Some("9999-12-31T23:59:59.999999Z".parse().unwrap())] {
        let session = SessionId::new(uuid::Uuid::new_v4());
        let new = NewSession::new(session, USER).with_started_at(far);
        within(tracker.start_session(new).unwrap().durable()).await.unwrap();
        let closing = Closing::new(Status::Ended, "over", far.unwrap());
        let refused = tracker.end_session_as(session, closing).unwrap_err();
        assert_eq!(refused.to_string(), "ended_at: must not be more than a day in the future");
        let row = within(tracker.reader().session(session)).await.unwrap().unwrap();
        assert_eq!((row.started_at, row.ended_at), (now.into(), None), "{far:?}");
    }
}

#[tokio::test]
async fn times_of_a_session_before_1970_are_refused_by_name() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    let long_ago: Timestamp = "0001-01-01T00:00:00Z".parse().unwrap();
    let new = NewSession::new(SESSION, USER).with_started_at(long_ago);
    let refused = tracker.start_session(new.clone()).unwrap_err();
    assert_eq!(refused.reason.to_string(), "started_at: must not be before 1970-01-01T00:00:00Z");
    assert_eq!(refused.returned, new);
    drop(tracker.start_session(NewSession::new(SESSION, USER)).unwrap());
    let closing = Closing::new(Status::Ended, "over", long_ago);
    let refused = tracker.end_session_as(SESSION, closing).unwrap_err();
    assert_eq!(refused.to_string(), "ended_at: must not be before 1970-01-01T00:00:00Z");
}
