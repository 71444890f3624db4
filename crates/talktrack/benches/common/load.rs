//! Writes as fast as a tracker accepts. While the queue is full, the tracker returns what it refuses, and the caller tries again.

use std::time::Duration;

use talktrack::{Message, NewSession, Tracker};

const PAUSE: Duration = Duration::from_micros(500);

pub(crate) fn start_session(tracker: &Tracker, mut session: NewSession) {
    while let Err(refused) = tracker.start_session(session) {
        session = refused.returned;
        std::thread::sleep(PAUSE);
    }
}

pub(crate) fn track_message(tracker: &Tracker, mut message: Message) {
    while let Err(refused) = tracker.track_message(message) {
        message = refused.returned;
        std::thread::sleep(PAUSE);
    }
}
