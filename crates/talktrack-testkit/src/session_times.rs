//! When a session was: its start, its end and its duration, also if it is recorded after it took place.

#![expect(missing_docs, reason = "each check's name says what it checks")]

use std::time::Duration;

use talktrack::{Closing, NewSession};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::message::{Message, Role};
use talktrack_core::record::{Ended, Status};
use talktrack_core::stored::StoredTime;

use crate::setup::Setup;
use crate::trial::Trial;

const SESSION: SessionId = SessionId::from_u128(0xa4);
const USER: UserId = UserId::from_u128(0xb4);

fn new() -> NewSession {
    NewSession::new(SESSION, USER)
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Returns what the store knows of the times of a session, in seconds from this moment.
async fn times_from(trial: &Trial, session_id: SessionId, moment: Timestamp) -> [Option<f64>; 3] {
    trial.settled().await;
    let row = trial.session(session_id).await;
    let from = |time: Option<Timestamp>| time.map(|time| time.seconds_since(moment));
    let ended_at = row.ended_at.as_ref().and_then(StoredTime::known);
    [from(row.started_at.known()), from(ended_at), row.duration_seconds]
}

async fn end_at(trial: &Trial, session_id: SessionId, ended_at: Timestamp) -> Ended {
    let closing = Closing::new(Status::Ended, "hangup", ended_at);
    let receipt = trial.tracker().end_session_as(session_id, closing).expect("the end is accepted");
    receipt.durable().await.expect("the session's end becomes durable")
}

async fn say_at(trial: &mut Trial, session_id: SessionId, said_at: Timestamp) {
    let message = Message::new(session_id, Role::User, "then").with_created_at(said_at);
    trial.track(message).await.expect("the message becomes durable");
}

pub async fn a_session_that_is_told_after_the_call_has_the_times_of_the_call(setup: Setup) {
    let mut trial = Trial::open(setup);
    let call = trial.now().minus(seconds(9 * 24 * 60 * 60));
    trial.start(new()).await;
    say_at(&mut trial, SESSION, call.plus(seconds(10))).await;
    say_at(&mut trial, SESSION, call).await;
    let ended = end_at(&trial, SESSION, call.plus(seconds(300))).await;
    assert_eq!(ended, Ended { duration_seconds: 300.0, message_count: 2 });
    assert_eq!(times_from(&trial, SESSION, call).await, [Some(0.0), Some(300.0), Some(300.0)]);
    say_at(&mut trial, SESSION, call.minus(seconds(5))).await;
    assert_eq!(times_from(&trial, SESSION, call).await, [Some(-5.0), Some(300.0), Some(305.0)]);
    let mut trial = trial.restart().await;
    say_at(&mut trial, SESSION, call.minus(seconds(10))).await;
    assert_eq!(times_from(&trial, SESSION, call).await, [Some(-10.0), Some(300.0), Some(310.0)]);

    // Without messages, the end tells when the session was.
    let silent = SessionId::from_u128(0xa5);
    trial.start(NewSession::new(silent, USER)).await;
    end_at(&trial, silent, call).await;
    assert_eq!(times_from(&trial, silent, call).await, [Some(0.0), Some(0.0), Some(0.0)]);
}

pub async fn a_start_that_was_given_moves_down_by_a_day_at_most(setup: Setup) {
    let mut trial = Trial::open(setup);
    let given = trial.now().minus(seconds(60));
    trial.start(new().with_started_at(given)).await;
    say_at(&mut trial, SESSION, given.minus(seconds(20))).await;
    assert_eq!(times_from(&trial, SESSION, given).await, [Some(-20.0), None, None]);
    let day = 24 * 60 * 60;
    say_at(&mut trial, SESSION, given.minus(seconds(day + 1))).await;
    assert_eq!(times_from(&trial, SESSION, given).await, [Some(-20.0), None, None]);
    let mut trial = trial.restart().await;
    say_at(&mut trial, SESSION, given.minus(seconds(day))).await;
    assert_eq!(times_from(&trial, SESSION, given).await[0], Some(-86_400.0));
    say_at(&mut trial, SESSION, given.minus(seconds(2 * day))).await;
    assert_eq!(times_from(&trial, SESSION, given).await[0], Some(-86_400.0));
}
