//! What a lane holds: records that were handed over and are not settled yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use talktrack_core::clock::Seq;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Body, Record};
use tokio::sync::Notify;

/// Counts the records that were handed over and are not settled yet.
#[derive(Debug, Default)]
pub(super) struct Load {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// True if the journal has more records for the lane.
    has_more: AtomicBool,
    /// Sessions that were deleted while the lane may hold records of them, each for one user or as a whole, with the
    /// `seq` of the deletion.
    deleted: Mutex<HashMap<(SessionId, Option<UserId>), Seq>>,
    any_deleted: AtomicBool,
    /// Woken when a session is deleted.
    deletes: Notify,
}

impl Load {
    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn has_more(&self) -> bool {
        self.has_more.load(Ordering::Relaxed)
    }

    pub(super) fn set_has_more(&self, has_more: bool) {
        self.has_more.store(has_more, Ordering::Relaxed);
    }

    pub(super) fn add(&self, record: &Record) {
        if let Body::Delete(delete) = &record.body
            && delete.is_permanent()
        {
            self.deleted.lock().insert((delete.session_id, delete.owner.clone()), record.seq);
            self.any_deleted.store(true, Ordering::Release);
            self.deletes.notify_one();
        }
        self.records.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(record.heap_bytes(), Ordering::AcqRel);
    }

    /// Resets the counts, because the lane has dropped all records.
    pub(super) fn clear(&self) {
        self.records.store(0, Ordering::Release);
        self.bytes.store(0, Ordering::Release);
        self.deleted.lock().clear();
        self.any_deleted.store(false, Ordering::Release);
    }

    pub(super) fn remove(&self, record: &Record) {
        let less = |load: &AtomicUsize, by: usize| {
            let _ =
                load.fetch_update(Ordering::AcqRel, Ordering::Acquire, |load| Some(load.saturating_sub(by)));
        };
        less(&self.records, 1);
        less(&self.bytes, record.heap_bytes());
        self.forget_deletion(record);
    }

    /// Resolves when a session is deleted.
    pub(super) async fn wait_for_deletion(&self) {
        self.deletes.notified().await;
    }

    /// Returns these records without those of deleted sessions, or `None` if there are none of those.
    pub(super) fn without_deleted(&self, records: &[Record]) -> Option<Vec<Record>> {
        if !self.any_deleted.load(Ordering::Acquire) {
            return None;
        }
        let deleted = self.deleted.lock();
        let is_deleted = |record: &&Record| {
            let is_before = |owner| {
                let deletion = deleted.get(&(record.session_id(), owner));
                deletion.is_some_and(|deletion| record.seq < *deletion)
            };
            is_before(None) || record.owner().is_some_and(|owner| is_before(Some(owner.clone())))
        };
        let any = records.iter().any(|record| is_deleted(&record));
        any.then(|| records.iter().filter(|record| !is_deleted(record)).cloned().collect())
    }

    /// Forgets a deletion that the store has answered for. All older records of the session were answered for as well,
    /// and none follows.
    fn forget_deletion(&self, record: &Record) {
        if let Body::Delete(delete) = &record.body {
            let mut deleted = self.deleted.lock();
            let claim = (delete.session_id, delete.owner.clone());
            if deleted.get(&claim) == Some(&record.seq) {
                deleted.remove(&claim);
            }
            self.any_deleted.store(!deleted.is_empty(), Ordering::Release);
        }
    }
}
