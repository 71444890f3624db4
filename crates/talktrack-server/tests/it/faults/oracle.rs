//! The oracle records, outside the server, what the server has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use uuid::Uuid;

use super::saying::Saying;
use crate::harness::until;

/// The record of all answers to talkers.
#[derive(Default)]
pub(crate) struct Oracle(Mutex<Notes>);

/// The content of the record.
#[derive(Default)]
pub(crate) struct Notes {
    /// Every message that was sent, acknowledged or not. Nothing else may be stored.
    pub(crate) said: BTreeMap<Uuid, Saying>,
    /// The highest acknowledged revision of each message.
    pub(crate) acknowledged: BTreeMap<Uuid, Saying>,
    /// The sessions of which each node has acknowledged something.
    pub(crate) acknowledged_by: BTreeMap<usize, BTreeSet<Uuid>>,
    /// Sessions that have started.
    pub(crate) begun: BTreeSet<Uuid>,
    /// Sessions whose end was acknowledged.
    pub(crate) ended: BTreeSet<Uuid>,
    /// The newest durable update of each session. An ack for a frame that was sent after the update proves that it is
    /// durable.
    pub(crate) updated: BTreeMap<Uuid, usize>,
    /// Messages that the test removed from the store, with their revisions.
    pub(crate) taken_away: BTreeMap<Uuid, i64>,
    /// Sessions that the test removed from the store with all their messages.
    pub(crate) sessions_taken_away: BTreeSet<Uuid>,
    /// The number of refusals by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// The longest wait for an answer on one connection.
    pub(crate) slowest: Duration,
}

impl Oracle {
    /// Locks the record for reading and writing.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap()
    }

    /// Returns the number of acknowledged messages.
    pub(crate) fn count(&self) -> usize {
        self.notes().acknowledged.len()
    }

    /// Waits until `more` messages are acknowledged than at the call.
    pub(crate) async fn hears(&self, more: usize) {
        let enough = self.count() + more;
        until("acknowledgements come", || (self.count() >= enough).then_some(())).await;
    }
}

impl Notes {
    /// Records that a message is being sent.
    pub(crate) fn sent(&mut self, saying: Saying) {
        self.said.entry(saying.id()).or_insert(saying);
    }

    /// Records that this node acknowledged a message after this time, and with it the session's updates up to
    /// `updated`.
    pub(crate) fn heard(&mut self, saying: Saying, node: usize, after: Duration, updated: Option<usize>) {
        let known = self.acknowledged.entry(saying.id()).or_insert(saying);
        *known = saying.max(*known);
        self.acknowledged_by.entry(node).or_default().insert(saying.session);
        self.slowest = self.slowest.max(after);
        if let Some(updated) = updated {
            self.updated.insert(saying.session, updated);
        }
    }
}
