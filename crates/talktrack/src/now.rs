//! A moment on both clocks.

use std::time::Duration;

use talktrack_core::clock::{Clock, Timestamp};

/// A moment as calendar time and as elapsed time. The calendar time is what records store, and durations are measured
/// in elapsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) at: Timestamp,
    pub(crate) elapsed: Duration,
}

impl Now {
    pub(crate) fn read(clock: &dyn Clock) -> Self {
        Self { at: clock.now(), elapsed: clock.elapsed() }
    }
}
