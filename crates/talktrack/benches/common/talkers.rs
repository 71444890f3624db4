//! Messages of 200 sessions in turn, and what the caller of `track_message` pays for them.

use std::time::Instant;

use hdrhistogram::Histogram;
use talktrack::{Message, NewSession, Role, SessionId, Tracker, UserId};
use talktrack_testbed::bench::{Outcome, TEXT};

use crate::load::{start_session, track_message};

pub(crate) const SESSIONS: u128 = 200;

pub(crate) fn start_sessions(tracker: &Tracker) {
    for session in 0..SESSIONS {
        start_session(tracker, NewSession::new(SessionId::from_u128(session), UserId::from_u128(1)));
    }
}

pub(crate) fn message(n: usize) -> Message {
    Message::new(SessionId::from_u128(n as u128 % SESSIONS), Role::User, TEXT)
}

/// Tracks messages as fast as the tracker accepts them.
pub(crate) fn track_messages(tracker: &Tracker, count: usize) {
    (0..count).for_each(|n| track_message(tracker, message(n)));
}

/// Measures each call, in bursts that fit into the queue, while the journal is always busy. The times
/// include reading the clock.
pub(crate) fn time_bursts(tracker: &Tracker, bursts: usize, burst: usize) -> Outcome<Histogram<u64>> {
    let mut times = Histogram::new(3)?;
    for _ in 0..bursts {
        let messages: Vec<_> = (0..burst).map(message).collect();
        for message in messages {
            let started = Instant::now();
            let tracked = tracker.track_message(message);
            let took = started.elapsed();
            times.record(u64::try_from(took.as_nanos())?)?;
            drop(tracked.map_err(|refused| refused.reason)?);
        }
        // Waits until half of the messages have reached the disk: the disk stays busy, and the queue never fills.
        while tracker.queue_depth() > 2_500 {
            std::thread::yield_now();
        }
    }
    Ok(times)
}
