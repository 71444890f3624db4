//! The health of the path from the queue to the store. The stages write it. The readiness check and the tracker read
//! it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;
use talktrack_core::error::Reason;
use talktrack_core::error_code::ErrorCode;
use tokio::sync::watch;

use crate::event_log::RefusalLog;
use crate::metric_handles::count_refusal;

/// A snapshot of the health. `None` means that there is no problem. A text describes the problem, in the words of the
/// log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Why nothing becomes durable at present.
    pub journal: Option<String>,
    /// Why nothing reaches the remote store at present. Always `None` if SQLite is the store.
    pub store: Option<String>,
    /// A problem that affects one user only. All other users are served.
    pub warning: Option<String>,
    /// The books.
    pub books: Books,
    /// The number of refusals since the process started, by the code of the reason.
    pub refused: BTreeMap<&'static str, u64>,
}

/// The shared state behind [`Health`].
#[derive(Debug)]
pub(crate) struct HealthState {
    causes: Mutex<Causes>,
    books: watch::Sender<Books>,
    /// No record up to this `seq` waits for the remote store. The journal raises it only while a caller watches.
    store_watermark: watch::Sender<Seq>,
    /// Why new work is refused: the bits [`FULL`] and [`LOST`].
    refusing: AtomicU8,
    /// True if deleted data may still be in the files.
    needs_scrub: watch::Sender<bool>,
    /// True if the journal is the outbox of a remote store.
    is_outbox: AtomicBool,
    /// The size of the dead letters in bytes.
    letter_bytes: AtomicU64,
    /// By the code of the reason.
    refused: Mutex<BTreeMap<&'static str, u64>>,
    refusal_log: RefusalLog,
}

/// Who reports on the store. If several report a problem, [`Health::store`] is that of the one that is listed first
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reporter {
    /// A lane of the writer, by its number.
    Lane(usize),
    /// The circuit breaker, when it is open for the rows of several users.
    Breaker,
    /// The journal, which reads the backlog back for the lanes.
    Backlog,
    /// The health check, which runs in the background.
    HealthCheck,
}

/// The journal has no room.
const FULL: u8 = 1;

/// The path of a file that the journal has open leads elsewhere.
const LOST: u8 = 2;

/// The current problems.
#[derive(Debug, Default)]
struct Causes {
    journal: Option<String>,
    /// The file or directory whose path leads elsewhere.
    files: Option<String>,
    /// By reporter: one lane may be stuck while the others are not.
    store: BTreeMap<Reporter, String>,
    warning: Option<String>,
}

impl HealthState {
    pub(crate) fn new(books: Books) -> Arc<Self> {
        let causes = Mutex::default();
        let refusing = AtomicU8::new(0);
        let needs_scrub = watch::Sender::new(false);
        let books = watch::Sender::new(books);
        let store_watermark = watch::Sender::new(Seq::ZERO);
        let refused = Mutex::default();
        let is_outbox = AtomicBool::new(false);
        let letter_bytes = AtomicU64::new(0);
        Arc::new(Self {
            causes,
            books,
            store_watermark,
            refusing,
            needs_scrub,
            is_outbox,
            letter_bytes,
            refused,
            refusal_log: RefusalLog::default(),
        })
    }

    /// Logs the refusals that were not logged yet. `now` is the time since the start.
    pub(crate) fn log_refusals(&self, now: Duration) {
        self.refusal_log.log_new(&self.refused.lock(), now, "messages, starts, updates or frames");
    }

    /// Counts a refusal by the code of its reason, in [`Health`] and in the exported metrics.
    pub(crate) fn count_refusal(&self, code: ErrorCode) {
        *self.refused.lock().entry(code.as_str()).or_default() += 1;
        count_refusal(code.as_str());
    }

    pub(crate) fn set_outbox(&self) {
        self.is_outbox.store(true, Ordering::Release);
    }

    pub(crate) fn is_outbox(&self) -> bool {
        self.is_outbox.load(Ordering::Acquire)
    }

    /// Sets the size of the dead letters in bytes.
    pub(crate) fn set_letter_bytes(&self, bytes: u64) {
        self.letter_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn letter_bytes(&self) -> u64 {
        self.letter_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_needs_scrub(&self, needs_scrub: bool) {
        self.needs_scrub.send_replace(needs_scrub);
    }

    pub(crate) fn watch_needs_scrub(&self) -> watch::Receiver<bool> {
        self.needs_scrub.subscribe()
    }

    pub(crate) fn needs_scrub(&self) -> bool {
        *self.needs_scrub.borrow()
    }

    pub(crate) fn set_journal_problem(&self, cause: Option<String>) {
        self.causes.lock().journal = cause;
    }

    /// Notes that a lane cannot write. Returns true if no lane has reported this cause before.
    pub(crate) fn report_store_failure(&self, reporter: Reporter, cause: &str) -> bool {
        let mut causes = self.causes.lock();
        // The text in brackets comes from the operating system and may differ between attempts.
        let head = |cause: &str| cause.split(" (").next().map(str::to_owned);
        // The health check uses its own words, and is compared only with itself.
        let is_check = |reporter: Reporter| reporter == Reporter::HealthCheck;
        let mut told = causes.store.iter().filter(|(teller, _)| is_check(**teller) == is_check(reporter));
        let news = told.all(|(_, known)| head(known) != head(cause));
        causes.store.insert(reporter, cause.to_owned());
        news
    }

    /// Notes that a lane can write. Returns true if it could not before.
    pub(crate) fn report_store_success(&self, reporter: Reporter) -> bool {
        self.causes.lock().store.remove(&reporter).is_some()
    }

    /// Sets or clears the problem that affects one user only. Returns true if it changed.
    pub(crate) fn set_warning(&self, warning: Option<String>) -> bool {
        let mut causes = self.causes.lock();
        let is_new = causes.warning != warning;
        causes.warning = warning;
        is_new
    }

    pub(crate) fn is_store_failing(&self) -> bool {
        !self.causes.lock().store.is_empty()
    }

    pub(crate) fn set_books(&self, books: Books) {
        self.books.send_replace(books);
    }

    pub(crate) fn books(&self) -> Books {
        *self.books.borrow()
    }

    pub(crate) fn watch_books(&self) -> watch::Receiver<Books> {
        self.books.subscribe()
    }

    /// Publishes that no record up to this `seq` waits for the remote store.
    pub(crate) fn set_store_watermark(&self, up_to: Seq) {
        self.store_watermark.send_replace(up_to);
    }

    pub(crate) fn store_watermark(&self) -> Seq {
        *self.store_watermark.borrow()
    }

    pub(crate) fn watch_store_watermark(&self) -> watch::Receiver<Seq> {
        self.store_watermark.subscribe()
    }

    /// True if a caller waits for records to reach the store.
    pub(crate) fn is_store_watermark_watched(&self) -> bool {
        self.store_watermark.receiver_count() > 0
    }

    /// Sets or clears the state that the journal is full. While it is full, the tracker refuses new work.
    pub(crate) fn set_full(&self, full: bool) {
        self.set_refusing(FULL, full);
    }

    /// Sets or clears the problem with the files that the journal depends on. Returns true if it changed.
    pub(crate) fn set_files_problem(&self, problem: Option<String>) -> bool {
        let mut causes = self.causes.lock();
        let is_new = causes.files != problem;
        self.set_refusing(LOST, problem.is_some());
        causes.files = problem;
        is_new
    }

    fn set_refusing(&self, why: u8, refuse: bool) {
        if refuse {
            self.refusing.fetch_or(why, Ordering::Relaxed);
        } else {
            self.refusing.fetch_and(!why, Ordering::Relaxed);
        }
    }

    /// Returns the reason to refuse new work, if there is one.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        match self.refusing.load(Ordering::Relaxed) {
            0 => None,
            why if why & LOST != 0 => Some(Reason::FilesReplaced),
            _ => Some(Reason::JournalFull),
        }
    }

    fn is_full(&self) -> bool {
        self.refusing.load(Ordering::Relaxed) & FULL != 0
    }

    pub(crate) fn snapshot(&self) -> Health {
        let causes = self.causes.lock();
        let full = || {
            self.is_full()
                .then(|| "the journal has reached journal_max_bytes; messages are refused".to_owned())
        };
        let journal = causes.files.clone().or_else(|| causes.journal.clone()).or_else(full);
        let store = causes.store.values().next().cloned();
        let warning = causes.warning.clone();
        drop(causes);
        Health { journal, store, warning, books: self.books(), refused: self.refused.lock().clone() }
    }
}
