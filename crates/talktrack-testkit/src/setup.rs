//! The environment of a check, and how a test waits.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::store::Store;
use talktrack::{OpenError, Options, Timestamp, Tracker};

use crate::manual_clock::ManualClock;

/// The longest time that a test waits for an expected event. Only a failing test waits that long.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The start of a trial's clock: 2026-01-01T00:00:00Z, in microseconds since 1970.
const BEGINNING: i64 = 1_767_225_600_000_000;

/// The environment of a check: an empty data directory and, for a remote store, the empty store. Both
/// outlive the trackers that the check opens on them one after the other.
pub struct Setup {
    data_dir: PathBuf,
    store: Option<Arc<dyn Store>>,
    clock: ManualClock,
}

impl Setup {
    /// Uses the SQLite file in this directory as the store.
    pub fn sqlite(data_dir: impl Into<PathBuf>) -> Self {
        let clock = ManualClock::at(Timestamp::from_micros(BEGINNING).expect("2026 can be written"));
        Self { data_dir: data_dir.into(), store: None, clock }
    }

    /// Uses this store, with an outbox in this directory.
    pub fn remote(data_dir: impl Into<PathBuf>, store: Arc<dyn Store>) -> Self {
        Self { store: Some(store), ..Self::sqlite(data_dir) }
    }

    /// Returns the data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Returns the clock of its trackers. It stands still until a test moves it.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// Returns the default options with its directory and its clock, except that a record of an unknown
    /// session does not wait for the session.
    pub fn options(&self) -> Options {
        let clock = Arc::new(self.clock.clone());
        let unknown_session_wait = Duration::ZERO;
        Options::new(&self.data_dir).with_clock(clock).with_unknown_session_wait(unknown_session_wait)
    }

    /// Opens a tracker on it.
    ///
    /// # Errors
    /// As [`Tracker::open`].
    pub fn open(&self, options: Options) -> Result<Tracker, OpenError> {
        match &self.store {
            Some(store) => Tracker::open_with_store(options, Arc::clone(store)),
            None => Tracker::open(options),
        }
    }
}

/// Waits until `holds` returns true.
///
/// # Panics
/// If `holds` does not return true within [`PATIENCE`].
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
