//! The batch that a lane of the writer delivers to a remote store, and the number by which both sides agree
//! on the progress.

use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

use crate::record::Record;

/// Records that one lane of a node delivers to the store in one call.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Delivery<'r> {
    /// The node that delivers: the id of the data directory that the records come from.
    pub node: Uuid,
    /// The lane of that node, counted from 0. All records of a session go through one lane.
    pub lane: usize,
    /// The records, in the order of acceptance.
    pub records: &'r [Record],
    /// The delivery numbers of the lane. Each transaction moves the lane's number in the store from the
    /// last one to the next, and fails if the store holds a different number. `None` for an unnumbered
    /// delivery.
    pub numbers: Option<&'r DeliveryNumbers>,
}

/// The delivery numbers of a lane. Every transaction that writes takes the next number, and the store keeps
/// the last one. If the store holds a lower number than the lane has seen committed, the store has lost
/// deliveries that it had confirmed.
#[derive(Debug, Default)]
pub struct DeliveryNumbers {
    last: AtomicI64,
    highest: AtomicI64,
}

impl DeliveryNumbers {
    /// Returns the number of the last transaction that is known to be committed, or 0 if there was none.
    pub fn last(&self) -> i64 {
        self.last.load(Ordering::Acquire)
    }

    /// Returns the highest number that was sent to the store, including those of failed transactions.
    pub fn highest(&self) -> i64 {
        self.highest.load(Ordering::Acquire)
    }

    /// Reserves an unused number for the next transaction.
    pub fn next(&self) -> i64 {
        self.highest.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// Notes that the transaction with this number has committed, or that the store reports this number as
    /// its last.
    pub fn commit(&self, number: i64) {
        self.last.store(number, Ordering::Release);
    }

    /// Restores the numbers of a lane from the number that an earlier process noted.
    pub fn resume(last: i64) -> Self {
        Self { last: AtomicI64::new(last), highest: AtomicI64::new(last) }
    }

    /// Continues after the number that the store reports as its last. Later numbers are higher than all
    /// earlier ones, even if the store has lost some of these.
    pub fn continue_after(&self, number: i64) {
        self.commit(number);
        self.highest.fetch_max(number, Ordering::AcqRel);
    }
}

impl<'r> Delivery<'r> {
    /// Creates an unnumbered delivery of these records from this lane of this node.
    pub fn new(node: Uuid, lane: usize, records: &'r [Record]) -> Self {
        Self { node, lane, records, numbers: None }
    }

    /// Makes this the next numbered delivery of the lane.
    #[must_use]
    pub fn numbered(self, numbers: &'r DeliveryNumbers) -> Self {
        Self { numbers: Some(numbers), ..self }
    }
}
