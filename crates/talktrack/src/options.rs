//! The options of a tracker. The defaults are those of the server's settings.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use talktrack_core::clock::{Clock, SystemClock};

/// What happens to an outbox whose noted store differs from the store that the tracker is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redirect {
    /// The outbox keeps its noted store. Records wait until the tracker is opened with that store again.
    Never,
    /// If the outbox is empty, it becomes the outbox of the other store. Otherwise it keeps its noted store.
    IfEmpty,
    /// The outbox becomes the outbox of the other store, which receives the backlog. If there is no remote store, the
    /// backlog is written to the SQLite file's own tables.
    Always,
}

/// The configuration of a tracker. Make one with [`Options::new`], and change the defaults with the methods that begin with
/// `with_`.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Contains `talktrack.db` and `LOCK`. Created if it does not exist.
    pub data_dir: PathBuf,
    /// The SQLite file, if it is not `talktrack.db` in `data_dir`.
    pub database_file: Option<PathBuf>,
    /// The maximum number of messages in the queue. Further ones are refused with `queue_full`. Default 10,000.
    pub queue_capacity: usize,
    /// The maximum number of bytes of text in the queue. Default 64 MiB.
    pub queue_bytes: usize,
    /// The maximum number of bytes in the journal that wait for a remote store. Further messages are refused with
    /// `journal_full`. Default 10 GiB.
    pub journal_max_bytes: u64,
    /// How long records stay in the journal after a remote store has confirmed them. If the store loses them within
    /// that time, the journal delivers them again. Default 15 min.
    pub resend_window: Duration,
    /// The maximum number of bytes of confirmed records in the journal. Default 256 MiB.
    pub resend_window_max_bytes: u64,
    /// How long an ended session stays in memory. Default 60 s.
    pub grace_period: Duration,
    /// A session without an event for this long is abandoned. Default 30 min.
    pub idle_timeout: Duration,
    /// How long a record waits for its session if a remote store does not know that session. Only time in which the
    /// store is reachable counts. After that the record becomes a dead letter. Default 10 min.
    pub unknown_session_wait: Duration,
    /// How often the writer asks a remote store for deletions by SQL or by another node, while the journal holds
    /// records of any session. Default 3 s.
    pub deletions_interval: Duration,
    /// The maximum size of a message in bytes, all text fields together. Default 1 MiB.
    pub max_message_bytes: usize,
    /// If true, the tracker maintains a full-text search index of the messages. Default true.
    pub search: bool,
    /// If true, the tracker maintains statistics over time. Default true.
    pub stats: bool,
    /// What happens if the outbox notes a store other than the one the tracker is opened with. Default
    /// [`Redirect::IfEmpty`].
    pub redirect: Redirect,
    /// The source of the time.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// Returns the path of the SQLite file: the store, or the outbox of a remote store.
    pub fn database_file(&self) -> PathBuf {
        self.database_file.clone().unwrap_or_else(|| self.data_dir.join(crate::local::database::FILE_NAME))
    }

    /// Returns the default options for this data directory.
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

    /// Sets the SQLite file, if it is not `talktrack.db` in `data_dir`.
    #[must_use]
    pub fn with_database_file(self, database_file: impl Into<Option<PathBuf>>) -> Self {
        Self { database_file: database_file.into(), ..self }
    }

    /// Sets the maximum number of messages in the queue.
    #[must_use]
    pub fn with_queue_capacity(self, queue_capacity: usize) -> Self {
        Self { queue_capacity, ..self }
    }

    /// Sets the maximum number of bytes of text in the queue.
    #[must_use]
    pub fn with_queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// Sets the maximum number of bytes in the journal that wait for a remote store.
    #[must_use]
    pub fn with_journal_max_bytes(self, journal_max_bytes: u64) -> Self {
        Self { journal_max_bytes, ..self }
    }

    /// Sets how long records stay in the journal after a remote store has confirmed them.
    #[must_use]
    pub fn with_resend_window(self, resend_window: Duration) -> Self {
        Self { resend_window, ..self }
    }

    /// Sets the maximum number of bytes of confirmed records in the journal.
    #[must_use]
    pub fn with_resend_window_max_bytes(self, resend_window_max_bytes: u64) -> Self {
        Self { resend_window_max_bytes, ..self }
    }

    /// Sets how long an ended session stays in memory.
    #[must_use]
    pub fn with_grace_period(self, grace_period: Duration) -> Self {
        Self { grace_period, ..self }
    }

    /// Sets after how long without an event a session is abandoned.
    #[must_use]
    pub fn with_idle_timeout(self, idle_timeout: Duration) -> Self {
        Self { idle_timeout, ..self }
    }

    /// Sets how long a record waits for its session if a remote store does not know that session.
    #[must_use]
    pub fn with_unknown_session_wait(self, unknown_session_wait: Duration) -> Self {
        Self { unknown_session_wait, ..self }
    }

    /// Sets how often the writer asks a remote store for deletions.
    #[must_use]
    pub fn with_deletions_interval(self, deletions_interval: Duration) -> Self {
        Self { deletions_interval, ..self }
    }

    /// Sets the maximum size of a message in bytes.
    #[must_use]
    pub fn with_max_message_bytes(self, max_message_bytes: usize) -> Self {
        Self { max_message_bytes, ..self }
    }

    /// Sets whether the tracker maintains a full-text search index.
    #[must_use]
    pub fn with_search(self, search: bool) -> Self {
        Self { search, ..self }
    }

    /// Sets whether the tracker maintains statistics over time.
    #[must_use]
    pub fn with_stats(self, stats: bool) -> Self {
        Self { stats, ..self }
    }

    /// Sets what happens if the outbox notes another store.
    #[must_use]
    pub fn with_redirect(self, redirect: Redirect) -> Self {
        Self { redirect, ..self }
    }

    /// Sets the source of the time.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }
}
