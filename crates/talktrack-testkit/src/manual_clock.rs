//! A clock under the test's control.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use talktrack_core::clock::{Clock, Timestamp};

/// A clock that moves only when it is told to.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<ManualTime>);

#[derive(Debug)]
struct ManualTime {
    micros: AtomicI64,
    elapsed_micros: AtomicU64,
}

impl ManualClock {
    /// Creates a clock that shows `start`.
    pub fn at(start: Timestamp) -> Self {
        Self(Arc::new(ManualTime {
            micros: AtomicI64::new(start.as_micros()),
            elapsed_micros: AtomicU64::new(0),
        }))
    }

    /// Advances both the calendar time and the elapsed time.
    pub fn advance(&self, by: Duration) {
        let micros = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        self.0.elapsed_micros.fetch_add(micros, Ordering::SeqCst);
        self.set(self.now().plus(by));
    }

    /// Sets the calendar time to any moment, even an earlier one. The elapsed time does not change.
    pub fn set(&self, moment: Timestamp) {
        self.0.micros.store(moment.as_micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.micros.load(Ordering::SeqCst)).expect("it was a timestamp")
    }

    fn elapsed(&self) -> Duration {
        Duration::from_micros(self.0.elapsed_micros.load(Ordering::SeqCst))
    }
}
