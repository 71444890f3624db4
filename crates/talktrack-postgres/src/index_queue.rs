//! The messages that this node has stored and that may not be in the search index yet. The writer adds
//! their ids after each commit, and the indexer looks the messages up. A new row may be anywhere in the
//! table, because PostgreSQL reuses space that `VACUUM` has freed.

use std::collections::VecDeque;
use std::sync::Arc;
use talktrack_core::ids::MessageId;

use parking_lot::Mutex;
use talktrack_core::record::{Body, Record, Verdict};

/// The highest number of ids that are kept: 1.6 MB. Beyond it only their number is kept, and a scan of
/// the table finds the messages.
const CAPACITY: usize = 100_000;

/// Shared by the store, which adds ids, and one indexer, which takes them.
#[derive(Clone, Default)]
pub(super) struct IndexQueue(Arc<Mutex<Ids>>);

#[derive(Default)]
struct Ids {
    /// True once an indexer takes the ids.
    is_used: bool,
    waiting: VecDeque<MessageId>,
    /// The number of messages whose ids had no room.
    dropped: u64,
}

impl IndexQueue {
    /// Starts to keep ids.
    pub(super) fn open(&self) {
        self.0.lock().is_used = true;
    }

    /// Adds the messages of these records that are in the store, and those that ends made final.
    pub(super) fn add_stored(&self, records: &[Record], verdicts: &[Verdict], closed: &[MessageId]) {
        let is_stored = |verdict: &Verdict| {
            // Existing messages count too: the answer to an earlier attempt may have been lost.
            matches!(
                verdict,
                Verdict::Inserted | Verdict::Reopened(_) | Verdict::Revised { .. } | Verdict::AlreadyThere
            )
        };
        let stored = records.iter().zip(verdicts).filter(|(_, verdict)| is_stored(verdict));
        let ids = stored.filter_map(|(record, _)| match &record.body {
            Body::Message(stamped) => Some(stamped.id),
            _ => None,
        });
        self.add(ids.chain(closed.iter().copied()));
    }

    /// Adds messages that are in the store.
    pub(super) fn add(&self, ids: impl Iterator<Item = MessageId>) {
        let mut queue = self.0.lock();
        if !queue.is_used {
            return;
        }
        for id in ids {
            if queue.waiting.len() < CAPACITY {
                queue.waiting.push_back(id);
            } else {
                queue.dropped += 1;
            }
        }
    }

    /// Returns the ids that have waited longest. They stay in the queue until [`IndexQueue::remove`].
    pub(super) fn first(&self, count: usize) -> Vec<MessageId> {
        self.0.lock().waiting.iter().take(count).copied().collect()
    }

    /// Removes the ids that have waited longest.
    pub(super) fn remove(&self, count: usize) {
        let mut queue = self.0.lock();
        let count = count.min(queue.waiting.len());
        queue.waiting.drain(..count);
        if queue.waiting.is_empty() {
            queue.waiting.shrink_to(CAPACITY / 100);
        }
    }

    /// Returns the number of messages whose ids were dropped. A scan of the table that starts now finds
    /// all of them.
    pub(super) fn dropped(&self) -> u64 {
        self.0.lock().dropped
    }

    /// Subtracts the dropped messages that a scan has found.
    pub(super) fn forget_dropped(&self, count: u64) {
        let mut queue = self.0.lock();
        queue.dropped = queue.dropped.saturating_sub(count);
    }

    /// Returns the number of messages that may not be indexed yet.
    pub(super) fn len(&self) -> u64 {
        let queue = self.0.lock();
        queue.waiting.len() as u64 + queue.dropped
    }
}

#[cfg(test)]
mod tests {
    use talktrack_core::ids::MessageId;
    use uuid::Uuid;

    use super::{CAPACITY, IndexQueue};

    fn ids(first: usize, count: usize) -> impl Iterator<Item = MessageId> {
        (first..first + count).map(|number| MessageId::new(Uuid::from_u128(number as u128)))
    }

    #[test]
    fn of_messages_without_room_the_number_is_kept_until_a_pass_has_found_them() {
        let queue = IndexQueue::default();
        queue.open();
        queue.add(ids(0, CAPACITY - 1));
        queue.add(ids(CAPACITY - 1, 3));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY as u64 + 2, 2));
        // The oldest ids are taken first. New ids have room again, but the dropped ones stay counted.
        assert_eq!(queue.first(2), ids(0, 2).collect::<Vec<_>>());
        queue.remove(2);
        queue.add(ids(CAPACITY + 2, 3));
        assert_eq!((queue.len(), queue.dropped()), (CAPACITY as u64 + 3, 3));
        queue.forget_dropped(2);
        queue.remove(CAPACITY);
        assert_eq!((queue.len(), queue.dropped()), (1, 1));
    }

    #[test]
    fn without_an_indexer_nothing_is_kept() {
        let queue = IndexQueue::default();
        queue.add(ids(0, 3));
        assert_eq!(queue.len(), 0);
    }
}
