//! What can be chosen when a tracker is opened. The defaults are those of the server's settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};

/// What happens to an outbox that notes another store than the one the tracker is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redirect {
    /// It stays the outbox of the noted store: what comes waits until that is the store again.
    Never,
    /// The same, unless nothing waits in it: then it becomes the outbox of the other store.
    IfEmpty,
    /// It becomes the outbox of the other store, which gets what waits. Without a remote store what waits goes into the
    /// file's own tables.
    Always,
}

/// How a tracker behaves.
#[derive(Clone)]
pub struct Options {
    /// Holds `talktrack.db` and `LOCK`; made where it is missing.
    pub data_dir: PathBuf,
    /// The SQLite file, where it is not `talktrack.db` in `data_dir`.
    pub database_file: Option<PathBuf>,
    /// Messages that may wait in memory; one more is refused with `queue_full`. Default 10,000.
    pub queue_capacity: usize,
    /// Bytes of text that may wait in memory. Default 64 MiB.
    pub queue_bytes: usize,
    /// Bytes that may wait in the journal for a remote store; more is refused with `journal_full`. Default 10 GiB.
    pub journal_max_bytes: u64,
    /// How long records stay in the journal after a remote store has confirmed them. If the store forgets them in that time, they
    /// are delivered again. Default 15 min.
    pub resend_window: Duration,
    /// The most bytes of such records. Default 256 MiB.
    pub resend_window_max_bytes: u64,
    /// How long an ended session stays in memory. Default 60 s.
    pub grace_period: Duration,
    /// A session without an event for this long is abandoned. Default 30 min.
    pub idle_timeout: Duration,
    /// How long a record of a session that a remote store does not know waits for the session, counted while the store can be
    /// reached; then it becomes a dead letter. Default 10 min.
    pub unknown_session_wait: Duration,
    /// How often a remote store is asked what was deleted in it by SQL or on another node, while the journal has something of a
    /// session. Default 3 s.
    pub deletions_interval: Duration,
    /// The largest message, all its text fields together, in bytes. Default 1 MiB.
    pub max_message_bytes: usize,
    /// Keep an index by which messages are found by their words. Default true.
    pub search: bool,
    /// Count what happens over time, for statistics. Default true.
    pub stats: bool,
    /// Whether an outbox may be given to another store than the one it notes. Default [`Redirect::IfEmpty`].
    pub redirect: Redirect,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// The SQLite file: the store, or the outbox of a remote one.
    pub fn database_file(&self) -> PathBuf {
        self.database_file.clone().unwrap_or_else(|| self.data_dir.join(crate::database::FILE_NAME))
    }

    /// The defaults, on this data directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            database_file: None,
            queue_capacity: 10_000,
            queue_bytes: 64 << 20,
            journal_max_bytes: 10 << 30,
            resend_window: Duration::from_secs(15 * 60),
            resend_window_max_bytes: 256 << 20,
            grace_period: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(30 * 60),
            unknown_session_wait: Duration::from_secs(10 * 60),
            deletions_interval: Duration::from_secs(3),
            max_message_bytes: 1 << 20,
            search: true,
            stats: true,
            redirect: Redirect::IfEmpty,
            clock: Arc::new(SystemClock),
        }
    }
}
