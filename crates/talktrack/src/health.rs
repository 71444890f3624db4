//! How the path is doing: written by its stages, read by whoever asks (readiness, the tracker's refusals).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::books::{Books, count_refusal};
use crate::error::Reason;

/// A moment's view of the path. `None` means well; a text says what is wrong, in words for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing becomes durable at present.
    pub journal: Option<String>,
    /// Why nothing reaches the remote store at present. Always `None` where SQLite is the store.
    pub store: Option<String>,
    /// What is wrong for one user alone: everybody else is served.
    pub warning: Option<String>,
    /// The books.
    pub books: Books,
    /// What was refused since the process began, by the codes of the reasons.
    pub refused: BTreeMap<&'static str, u64>,
}

/// The shared cell behind [`Health`].
#[derive(Debug)]
pub(crate) struct Vitals {
    causes: Mutex<Causes>,
    books: watch::Sender<Books>,
    /// Why new work is refused: bits of [`FULL`] and [`LOST`].
    refusing: AtomicU8,
    /// Something was deleted, and may still be in the log of the file.
    unerased: watch::Sender<bool>,
    /// The journal is the outbox of a remote store.
    is_outbox: AtomicBool,
    /// What the dead letters take.
    letter_bytes: AtomicU64,
    /// By the codes of the reasons.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// Who asks after the store while no lane has anything for it.
pub(crate) const WATCH: usize = usize::MAX;

/// Who reads the journal back for the lanes.
pub(crate) const BACKLOG: usize = usize::MAX - 1;

/// The breaker, which is open for the rows of several users.
pub(crate) const BREAKER: usize = usize::MAX - 2;

/// The journal has no room.
const FULL: u8 = 1;

/// A file that the journal has open lost its name.
const LOST: u8 = 2;

/// What is wrong at present.
#[derive(Debug, Default)]
struct Causes {
    journal: Option<String>,
    /// What lost its name of what the journal stands on.
    ground: Option<String>,
    /// By the writer's lanes: one may be stuck while the others are not.
    store: BTreeMap<usize, String>,
    warning: Option<String>,
}

impl Vitals {
    pub(crate) fn new(books: Books) -> Arc<Self> {
        let (causes, refusing, unerased) = (Mutex::default(), AtomicU8::new(0), watch::Sender::new(false));
        let (books, refused, is_outbox) =
            (watch::Sender::new(books), Mutex::default(), AtomicBool::new(false));
        let letter_bytes = AtomicU64::new(0);
        Arc::new(Self { causes, books, refusing, unerased, is_outbox, letter_bytes, refused })
    }

    /// Counts a refusal by the code of its reason: for whoever asks, and in the exported figures.
    pub(crate) fn count_refusal(&self, code: &'static str) {
        *self.refused.lock().entry(code).or_default() += 1;
        count_refusal(code);
    }

    pub(crate) fn becomes_outbox(&self) {
        self.is_outbox.store(true, Ordering::Release);
    }

    pub(crate) fn is_outbox(&self) -> bool {
        self.is_outbox.load(Ordering::Acquire)
    }

    /// What the dead letters take, in bytes.
    pub(crate) fn note_letter_bytes(&self, bytes: u64) {
        self.letter_bytes.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn letter_bytes(&self) -> u64 {
        self.letter_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_unerased(&self, unerased: bool) {
        self.unerased.send_replace(unerased);
    }

    pub(crate) fn watch_unerased(&self) -> watch::Receiver<bool> {
        self.unerased.subscribe()
    }

    pub(crate) fn is_unerased(&self) -> bool {
        *self.unerased.borrow()
    }

    pub(crate) fn journal(&self, cause: Option<String>) {
        self.causes.lock().journal = cause;
    }

    /// A lane cannot write. Says whether that is news: no lane has told it before.
    pub(crate) fn store_fails(&self, lane: usize, cause: &str) -> bool {
        let mut causes = self.causes.lock();
        // What stands in brackets is the operating system's, and changes from attempt to attempt.
        let head = |cause: &str| cause.split(" (").next().map(str::to_owned);
        // The watch tells in words of its own, and does not take the lanes' from them.
        let mut told = causes.store.iter().filter(|(teller, _)| (**teller == WATCH) == (lane == WATCH));
        let news = told.all(|(_, known)| head(known) != head(cause));
        causes.store.insert(lane, cause.to_owned());
        news
    }

    /// A lane can write. Says whether that is news.
    pub(crate) fn store_works(&self, lane: usize) -> bool {
        self.causes.lock().store.remove(&lane).is_some()
    }

    /// Something is wrong for one user alone, or nothing is. Returns true if that is new.
    pub(crate) fn set_warning(&self, warning: Option<String>) -> bool {
        let mut causes = self.causes.lock();
        let is_new = causes.warning != warning;
        causes.warning = warning;
        is_new
    }

    pub(crate) fn is_store_failing(&self) -> bool {
        !self.causes.lock().store.is_empty()
    }

    pub(crate) fn books(&self, books: Books) {
        self.books.send_replace(books);
    }

    pub(crate) fn watch_books(&self) -> watch::Receiver<Books> {
        self.books.subscribe()
    }

    /// The journal has no room: refuse at the door until it has.
    pub(crate) fn set_full(&self, full: bool) {
        self.refuse(FULL, full);
    }

    /// What the journal stands on lost its name, or has it again. Returns true if that is new.
    pub(crate) fn set_ground(&self, problem: Option<String>) -> bool {
        let mut causes = self.causes.lock();
        let is_new = causes.ground != problem;
        self.refuse(LOST, problem.is_some());
        causes.ground = problem;
        is_new
    }

    fn refuse(&self, why: u8, refuse: bool) {
        if refuse {
            self.refusing.fetch_or(why, Ordering::Relaxed);
        } else {
            self.refusing.fetch_and(!why, Ordering::Relaxed);
        }
    }

    /// Why new work has to be refused, if it has.
    pub(crate) fn refusal(&self) -> Option<Reason> {
        match self.refusing.load(Ordering::Relaxed) {
            0 => None,
            why if why & LOST != 0 => Some(Reason::GroundLost),
            _ => Some(Reason::JournalFull),
        }
    }

    fn is_full(&self) -> bool {
        self.refusing.load(Ordering::Relaxed) & FULL != 0
    }

    pub(crate) fn read(&self) -> Health {
        let causes = self.causes.lock();
        let full = || {
            self.is_full()
                .then(|| "the journal has reached journal_max_bytes; messages are refused".to_owned())
        };
        let (journal, store) = (
            causes.ground.clone().or_else(|| causes.journal.clone()).or_else(full),
            causes.store.values().next().cloned(),
        );
        let warning = causes.warning.clone();
        drop(causes);
        Health { journal, store, warning, books: *self.books.borrow(), refused: self.refused.lock().clone() }
    }
}
