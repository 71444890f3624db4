//! The oracle: outside the server, and sure of what it was told. It notes a message only after its acknowledgement.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use uuid::Uuid;

use super::saying::Saying;
use crate::harness::until;

/// What talkers were told.
#[derive(Default)]
pub(crate) struct Oracle(Mutex<Notes>);

/// All of it.
#[derive(Default)]
pub(crate) struct Notes {
    /// What was sent, acknowledged or not: nothing else may be stored.
    pub(crate) said: BTreeMap<Uuid, Saying>,
    /// The highest revision of each message that was acknowledged.
    pub(crate) acknowledged: BTreeMap<Uuid, Saying>,
    /// The sessions of which each node has acknowledged something.
    pub(crate) acknowledged_by: BTreeMap<usize, BTreeSet<Uuid>>,
    /// Sessions that have begun.
    pub(crate) begun: BTreeSet<Uuid>,
    /// Sessions whose end was answered.
    pub(crate) ended: BTreeSet<Uuid>,
    /// The newest update of each session that is durable, by an ack that came for something sent after it.
    pub(crate) updated: BTreeMap<Uuid, usize>,
    /// Rows of messages that somebody took out of the store again, with their revisions.
    pub(crate) taken_away: BTreeMap<Uuid, i64>,
    /// Rows of sessions that somebody took out of the store again, with all that was in them.
    pub(crate) sessions_taken_away: BTreeSet<Uuid>,
    /// Refusals that talkers were given, by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// The longest that an answer was waited for on one connection.
    pub(crate) slowest: Duration,
}

impl Oracle {
    /// Looks at the notes, or adds to them.
    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap()
    }

    /// How many messages were acknowledged.
    pub(crate) fn count(&self) -> usize {
        self.notes().acknowledged.len()
    }

    /// Waits until so many more messages are acknowledged than now.
    pub(crate) async fn hears(&self, more: usize) {
        let enough = self.count() + more;
        until("acknowledgements come", || (self.count() >= enough).then_some(())).await;
    }
}

impl Notes {
    /// It goes on its way now.
    pub(crate) fn sent(&mut self, saying: Saying) {
        self.said.entry(saying.id()).or_insert(saying);
    }

    /// This node acknowledged it, after so long, and the session's updates up to `updated` with it.
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
