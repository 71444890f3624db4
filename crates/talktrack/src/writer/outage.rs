//! What the lanes tell each other, and report, about a store that does not accept records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::event_log;
use crate::health::{HealthState, Reporter};
use crate::metric_handles::{MetricHandles, count_retry};
use crate::store::StoreError;

/// The state of the store as all lanes together see it.
pub(super) struct Outage {
    health: Arc<HealthState>,
    metrics: MetricHandles,
    /// Wakes the waiting lanes when one of them has succeeded.
    over: Notify,
    /// The time of the latest failure, or of the start.
    last_failure: Mutex<Instant>,
}

impl Outage {
    pub(super) fn new(health: &Arc<HealthState>, metrics: &MetricHandles) -> Arc<Self> {
        metrics.store_up.set(1.0);
        let last_failure = Mutex::new(Instant::now());
        Arc::new(Self {
            health: Arc::clone(health),
            metrics: metrics.clone(),
            over: Notify::new(),
            last_failure,
        })
    }

    /// Reports that a lane's write failed. Resolves when a later write of another lane succeeds.
    pub(super) fn report_failure(&self, lane: usize, error: &StoreError) -> impl Future<Output = ()> {
        let over = self.over.notified();
        count_retry(error.class.as_str());
        self.report_outage(Reporter::Lane(lane), &error.message);
        over
    }

    /// Reports that a lane can deliver nothing, with the cause.
    pub(super) fn report_outage(&self, reporter: Reporter, cause: &str) {
        // The cause is logged once, because every lane meets the same one.
        if self.note_failure(reporter, cause) {
            event_log::log_failure(cause);
        }
    }

    /// Reports that the store would accept nothing now, with the cause. No record waits for it, so this is not logged
    /// as a failure to save.
    pub(super) fn report_failed_check(&self, cause: &str) {
        if self.note_failure(Reporter::HealthCheck, cause) {
            tracing::warn!("the store is not accepting writes: {cause}");
        }
    }

    /// Notes a failure. Returns true if it is new.
    fn note_failure(&self, reporter: Reporter, cause: &str) -> bool {
        self.metrics.store_up.set(0.0);
        *self.last_failure.lock() = Instant::now();
        self.health.report_store_failure(reporter, cause)
    }

    /// Reports that the store would accept records now.
    pub(super) fn report_passed_check(&self) {
        self.report_success(Reporter::HealthCheck);
    }

    /// Reports that a lane's write succeeded.
    pub(super) fn report_success(&self, reporter: Reporter) {
        // A successful write overrules the background check.
        let foreseen = self.health.report_store_success(Reporter::HealthCheck);
        if !self.health.report_store_success(reporter) && !foreseen {
            return;
        }
        self.over.notify_waiters();
        self.update_health();
    }

    /// Reports that the breaker is open for the rows of several users, with the cause, or that it has closed.
    pub(super) fn report_breaker(&self, cause: Option<&str>) {
        match cause {
            Some(cause) => self.report_outage(Reporter::Breaker, cause),
            None => self.report_success(Reporter::Breaker),
        }
    }

    /// Sets or clears the warning about a problem that affects one user only.
    pub(super) fn set_warning(&self, warning: Option<String>) {
        let words = warning.clone();
        if self.health.set_warning(warning)
            && let Some(words) = words
        {
            tracing::warn!("{words}");
        }
    }

    /// Reports that the store has answered this lane, although it accepted nothing: the store can be reached.
    pub(super) fn report_answer(&self, lane: usize) {
        if self.health.report_store_success(Reporter::Lane(lane)) {
            self.over.notify_waiters();
            self.update_health();
        }
    }

    fn update_health(&self) {
        if self.health.snapshot().store.is_none() {
            self.metrics.store_up.set(1.0);
            tracing::info!("the store accepts messages again");
        }
    }

    /// Returns the time since the last failure.
    pub(super) fn time_since_failure(&self) -> Duration {
        self.last_failure.lock().elapsed()
    }
}
