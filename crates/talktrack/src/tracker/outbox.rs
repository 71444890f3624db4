//! The data directory as the outbox of a remote store.

use std::sync::Arc;

use crate::store::sqlite::OutboxReader;
use crate::tracker::Tracker;
use crate::writer::StoreClaim;

/// The store whose outbox the data directory is.
pub(super) struct OutboxStore {
    pub(super) claim: Arc<StoreClaim>,
    /// Reads the records that wait.
    pub(super) journal: OutboxReader,
    /// True if the tracker was opened without the store, so that nothing can be delivered to it.
    pub(super) is_absent: bool,
}

impl Tracker {
    /// True if acknowledged records wait in the data directory for a remote store, even if the tracker was opened
    /// without that store.
    pub fn is_outbox(&self) -> bool {
        self.inner.outbox.is_some()
    }

    /// Assigns the outbox to the store that the tracker was opened with, even if the data directory notes another
    /// store. The backlog is delivered to the new store. Returns the address of that store, or `None` if the tracker
    /// was opened without a remote store.
    pub fn redirect_outbox(&self) -> Option<String> {
        let outbox = self.inner.outbox.as_ref().filter(|outbox| !outbox.is_absent)?;
        outbox.claim.reassign();
        Some(outbox.claim.store().address())
    }
}
