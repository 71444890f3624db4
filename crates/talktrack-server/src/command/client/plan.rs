//! The plan of a replay: what all its connections share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use talktrack::UserId;
use talktrack_client::socket::SocketClient;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::report::ReplayReport;

/// The maximum number of frames in flight on all connections together. The queue of a server takes 10,000 by default;
/// more would only be refused and sent again.
const UNDER_WAY: usize = 8_000;

pub(super) struct Plan {
    pub(super) server: SocketClient,
    /// The user of sessions for which the recording names none.
    pub(super) user_id: Option<UserId>,
    /// The name of the recording, for error messages.
    pub(super) file: String,
    /// The maximum number of frames in flight on each connection.
    pub(super) window: usize,
    /// Holds one permit for each further frame that may be in flight on all connections together.
    pub(super) budget: Semaphore,
    pub(super) pace: Option<SendRate>,
    pub(super) report: ReplayReport,
}

impl Plan {
    /// Returns a budget with all permits free.
    pub(super) fn full_budget() -> Semaphore {
        Semaphore::new(UNDER_WAY)
    }
}

/// Spreads messages evenly over time, across all connections.
pub(super) struct SendRate {
    began: Instant,
    /// Messages per second.
    rate: f64,
    given: AtomicU32,
}

impl SendRate {
    /// Starts a rhythm of `rate` messages per second now.
    pub(super) fn new(rate: u32) -> Self {
        Self { began: Instant::now(), rate: f64::from(rate), given: AtomicU32::new(0) }
    }

    /// Returns when the next message may be sent.
    pub(super) fn ticket(&self) -> Instant {
        let before = self.given.fetch_add(1, Ordering::Relaxed);
        self.began + Duration::from_secs_f64(f64::from(before) / self.rate)
    }
}
