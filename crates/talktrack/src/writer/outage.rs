//! What the lanes tell each other, and the world, about a store that does not take what it is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::books::{Figures, count_retry};
use crate::health::{BREAKER, Vitals, WATCH};
use crate::lines;
use crate::store::StoreError;

/// The state of the store, as all lanes together see it.
pub(super) struct Outage {
    vitals: Arc<Vitals>,
    figures: Figures,
    /// Wakes the lanes that wait, when one of them got through.
    over: Notify,
    /// The latest failure, or the start.
    last_failure: Mutex<Instant>,
}

impl Outage {
    pub(super) fn new(vitals: &Arc<Vitals>, figures: &Figures) -> Arc<Self> {
        figures.store_up.set(1.0);
        let last_failure = Mutex::new(Instant::now());
        Arc::new(Self {
            vitals: Arc::clone(vitals),
            figures: figures.clone(),
            over: Notify::new(),
            last_failure,
        })
    }

    /// A lane's write failed. Resolves when another lane's succeeds after it.
    pub(super) fn begin(&self, lane: usize, error: &StoreError) -> impl Future<Output = ()> {
        let over = self.over.notified();
        count_retry(error.class.as_str());
        self.tell(lane, &error.message);
        over
    }

    /// A lane gets nothing through, and this is why.
    pub(super) fn tell(&self, lane: usize, cause: &str) {
        // Once for all lanes: each of them meets the same.
        if self.note(lane, cause) {
            lines::failed(cause);
        }
    }

    /// The store would not take anything now, and this is why. Nobody has anything for it: it is no failure to save.
    pub(super) fn foresee(&self, cause: &str) {
        if self.note(WATCH, cause) {
            tracing::warn!("the store takes nothing at present: {cause}");
        }
    }

    /// Says whether the trouble is news.
    fn note(&self, teller: usize, cause: &str) -> bool {
        self.figures.store_up.set(0.0);
        *self.last_failure.lock() = Instant::now();
        self.vitals.store_fails(teller, cause)
    }

    /// It would take something now.
    pub(super) fn clears_up(&self) {
        self.is_over(WATCH);
    }

    /// A lane's write succeeded.
    pub(super) fn is_over(&self, lane: usize) {
        // Whatever was foreseen, a write that succeeded knows better.
        let foreseen = self.vitals.store_works(WATCH);
        if !self.vitals.store_works(lane) && !foreseen {
            return;
        }
        self.over.notify_waiters();
        self.show_up();
    }

    /// The breaker is open for the rows of several users, and this is why; or it is open for them no longer.
    pub(super) fn breaker(&self, cause: Option<&str>) {
        match cause {
            Some(cause) => self.tell(BREAKER, cause),
            None => self.is_over(BREAKER),
        }
    }

    /// Something is wrong that holds up one user alone; or nothing is.
    pub(super) fn warn(&self, warning: Option<String>) {
        let words = warning.clone();
        if self.vitals.set_warning(warning)
            && let Some(words) = words
        {
            tracing::warn!("{words}");
        }
    }

    /// The store has answered this lane, though it took nothing: it can be reached.
    pub(super) fn answers(&self, lane: usize) {
        if self.vitals.store_works(lane) {
            self.over.notify_waiters();
            self.show_up();
        }
    }

    fn show_up(&self) {
        if self.vitals.read().store.is_none() {
            self.figures.store_up.set(1.0);
            tracing::info!("the store takes messages again");
        }
    }

    /// How long nothing has failed.
    pub(super) fn calm(&self) -> Duration {
        self.last_failure.lock().elapsed()
    }
}
