//! The data directory as the outbox of a remote store: whether it is one, and giving it to another store.

use std::sync::Arc;

use crate::tracker::Tracker;
use crate::writer::StoreClaim;

/// What a tracker knows of the store whose outbox its data directory is.
pub(super) struct OutboxStore {
    pub(super) claim: Arc<StoreClaim>,
    /// The tracker was opened without the store: nothing can be brought to it.
    pub(super) is_absent: bool,
}

impl Tracker {
    /// True if what is acknowledged waits here for a remote store, also if the tracker was opened without that store.
    pub fn is_outbox(&self) -> bool {
        self.door.outbox.is_some()
    }

    /// Gives the outbox to the store that the tracker was opened with, whatever store the data directory notes: what waits
    /// goes there. Returns the address of that store, or `None` if there is none: the tracker was opened without a remote
    /// store.
    pub fn redirect_outbox(&self) -> Option<String> {
        let outbox = self.door.outbox.as_ref().filter(|outbox| !outbox.is_absent)?;
        outbox.claim.forget();
        Some(outbox.claim.store().address())
    }
}
