//! The limits of what waits for sessions that the store does not know.

use std::time::Duration;
use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId};

use talktrack_core::message::{Message, Role};
use talktrack_core::record::StampedMessage;

use super::*;

fn session(number: usize) -> SessionId {
    SessionId::from_u128(0xa000 + number as u128)
}

fn said_in(session_id: SessionId) -> Record {
    let stamped = StampedMessage {
        id: MessageId::from_u128(1),
        owner: None,
        by_user: false,
        session_started_at: None,
        created_at: "2026-02-03T04:05:06Z".parse().unwrap(),
        takes_back: None,
        message: Message::new(session_id, Role::User, "there"),
    };
    Record::new(Seq::new(1), Body::Message(stamped))
}

fn parking() -> Parking {
    Parking::new(Duration::from_secs(600))
}

/// Returns how many of `records` records of this session may wait. The first is parked, and the others wait behind it.
fn wait(parking: &Parking, session: SessionId, records: usize) -> usize {
    let record = said_in(session);
    let waits = |number: &usize| match number {
        0 => parking.park(&record, ParkReason::Unknown),
        _ => parking.hold_back(&record),
    };
    (0..records).filter(waits).count()
}

#[test]
fn ten_thousand_records_wait_for_one_unknown_session() {
    let parking = parking();
    assert_eq!(wait(&parking, session(0), MOST_OF_A_SESSION + 7), MOST_OF_A_SESSION);
    assert_eq!(wait(&parking, session(1), 3), 3, "another session has room of its own");
}

#[test]
fn a_hundred_thousand_records_wait_for_all_unknown_sessions_together() {
    let parking = parking();
    let waiting: usize = (0..11).map(|number| wait(&parking, session(number), MOST_OF_A_SESSION)).sum();
    assert_eq!(waiting, MOST_RECORDS);
    parking.unpark(session(0));
    assert_eq!(
        wait(&parking, session(11), MOST_OF_A_SESSION + 1),
        MOST_OF_A_SESSION,
        "its room is free again"
    );
}

#[test]
fn a_session_whose_rows_were_refused_and_that_proves_unknown_has_the_same_limit_and_waits_as_long() {
    let parking = parking();
    let record = said_in(session(0));
    for is_last in [false, true] {
        parking.put_back(&record, RowKind::Message, is_last);
        (0..MOST_OF_A_SESSION)
            .for_each(|_| assert!(parking.hold_back(&record), "refused rows have no limit"));
        // The lane holds the session's records, and the store says that it does not know the session.
        parking.retry_refused(Instant::now() + PAUSES.1);
        assert_eq!(parking.announce_due(), [session(0)]);
        parking.mark_fed(session(0));
        assert_eq!(wait(&parking, session(0), MOST_OF_A_SESSION + 7), MOST_OF_A_SESSION, "{is_last}");
        assert_eq!(parking.unknown_sessions(), [session(0)]);
        assert!(!parking.is_last_attempt(session(0)), "it has not waited yet");
        parking.unpark(session(0));
        assert_eq!(parking.state.lock().records, 0);
    }
}
