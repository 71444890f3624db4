//! How a recording is to be replayed: what all its connections share.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use super::connection::Server;
use super::report::Report;

/// Messages on the way over all connections together. A server's queue takes 10,000 by default; more would only be
/// refused and sent again.
const UNDER_WAY: usize = 8_000;

pub(super) struct Plan {
    pub(super) server: Server,
    /// Whose the sessions are where the recording does not say.
    pub(super) user_id: Option<Uuid>,
    /// The recording's name, for complaints.
    pub(super) file: String,
    /// Frames under way on each connection.
    pub(super) window: usize,
    /// A permit for each further frame that may be under way on all connections together.
    pub(super) budget: Semaphore,
    pub(super) pace: Option<Rhythm>,
    pub(super) report: Report,
}

impl Plan {
    /// A budget nobody has drawn on.
    pub(super) fn full_budget() -> Semaphore {
        Semaphore::new(UNDER_WAY)
    }
}

/// Spreads messages evenly over time, whichever connection sends them.
pub(super) struct Rhythm {
    began: Instant,
    /// Messages a second.
    rate: f64,
    given: AtomicU32,
}

impl Rhythm {
    /// So many messages a second, from now on.
    pub(super) fn new(rate: u32) -> Self {
        Self { began: Instant::now(), rate: f64::from(rate), given: AtomicU32::new(0) }
    }

    /// When the next message may be sent.
    pub(super) fn ticket(&self) -> Instant {
        let before = self.given.fetch_add(1, Ordering::Relaxed);
        self.began + Duration::from_secs_f64(f64::from(before) / self.rate)
    }
}
