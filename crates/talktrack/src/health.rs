//! How the path is doing: written by its stages, read by whoever asks (readiness, the tracker's refusals).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::books::Books;

/// A moment's view of the path. `None` means well; a text says what is wrong, in words for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Why nothing becomes durable at present.
    pub journal: Option<String>,
    /// Why nothing reaches the remote store at present. Always `None` where SQLite is the store.
    pub store: Option<String>,
    /// The books.
    pub books: Books,
}

/// The shared cell behind [`Health`].
#[derive(Debug)]
pub(crate) struct Vitals {
    causes: Mutex<(Option<String>, Option<String>)>,
    books: watch::Sender<Books>,
    full: AtomicBool,
}

impl Vitals {
    pub(crate) fn new(books: Books) -> Arc<Self> {
        let (causes, full) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { causes, books: watch::Sender::new(books), full })
    }

    pub(crate) fn journal(&self, cause: Option<String>) {
        self.causes.lock().0 = cause;
    }

    pub(crate) fn store(&self, cause: Option<String>) {
        self.causes.lock().1 = cause;
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
        let (journal, store) = self.causes.lock().clone();
        Health { journal, store, books: *self.books.borrow() }
    }
}
