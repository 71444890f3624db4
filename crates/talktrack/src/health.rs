//! How the path is doing: written by its stages, read by whoever asks (readiness, the tracker's refusals).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::books::{Books, count_refusal};

/// A moment's view of the path. `None` means well; a text says what is wrong, in words for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing becomes durable at present.
    pub journal: Option<String>,
    /// Why nothing reaches the remote store at present. Always `None` where SQLite is the store.
    pub store: Option<String>,
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
    full: AtomicBool,
    /// Something was deleted, and may still be in the log of the file.
    unerased: AtomicBool,
    /// By the codes of the reasons.
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// Who asks after the store while no lane has anything for it.
pub(crate) const WATCH: usize = usize::MAX;

/// Who reads the journal back for the lanes.
pub(crate) const BACKLOG: usize = usize::MAX - 1;

/// What is wrong at present.
#[derive(Debug, Default)]
struct Causes {
    journal: Option<String>,
    /// By the writer's lanes: one may be stuck while the others are not.
    store: BTreeMap<usize, String>,
}

impl Vitals {
    pub(crate) fn new(books: Books) -> Arc<Self> {
        let (causes, full, unerased) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        let (books, refused) = (watch::Sender::new(books), Mutex::default());
        Arc::new(Self { causes, books, full, unerased, refused })
    }

    /// Counts a refusal by the code of its reason: for whoever asks, and in the exported figures.
    pub(crate) fn count_refusal(&self, code: &'static str) {
        *self.refused.lock().entry(code).or_default() += 1;
        count_refusal(code);
    }

    pub(crate) fn set_unerased(&self, unerased: bool) {
        self.unerased.store(unerased, Ordering::Release);
    }

    pub(crate) fn is_unerased(&self) -> bool {
        self.unerased.load(Ordering::Acquire)
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
        self.full.store(full, Ordering::Relaxed);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    pub(crate) fn read(&self) -> Health {
        let causes = self.causes.lock();
        let full = || {
            self.is_full()
                .then(|| "the journal has reached journal_max_bytes; messages are refused".to_owned())
        };
        let (journal, store) = (causes.journal.clone().or_else(full), causes.store.values().next().cloned());
        drop(causes);
        Health { journal, store, books: *self.books.borrow(), refused: self.refused.lock().clone() }
    }
}
