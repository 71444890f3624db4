//! What a lane of the writer hands to a remote store, and the number by which both know how far that has come.

use std::sync::atomic::{AtomicI64, Ordering};

use uuid::Uuid;

use crate::record::Record;

/// Records that one lane of a node hands to the store in one call.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Delivery<'r> {
    /// The data directory that the records come from.
    pub node: Uuid,
    /// The lane of that node, counted from 0. All records of a session come through one lane.
    pub lane: usize,
    /// The records, in the order in which they were accepted.
    pub records: &'r [Record],
    /// The lane's deliveries so far. Each transaction moves the lane's number in the store from the one to the next, and fails
    /// if the store holds another.
    pub numbers: Option<&'r Numbers>,
}

/// The numbers of a lane's deliveries. Every transaction that writes has the next one; the store keeps the last. A store that
/// holds a lower number than the lane saw has forgotten what it confirmed.
#[derive(Debug, Default)]
pub struct Numbers {
    last: AtomicI64,
    highest: AtomicI64,
}

impl Numbers {
    /// The number of the last transaction that is known to have committed; 0 if there was none.
    pub fn last(&self) -> i64 {
        self.last.load(Ordering::Acquire)
    }

    /// The highest number that was sent to the store, whatever became of it.
    pub fn highest(&self) -> i64 {
        self.highest.load(Ordering::Acquire)
    }

    /// A number for the next transaction, which no other had.
    pub fn next(&self) -> i64 {
        self.highest.fetch_add(1, Ordering::AcqRel).saturating_add(1)
    }

    /// The transaction with this number has committed, or the store says that it had.
    pub fn commit(&self, number: i64) {
        self.last.store(number, Ordering::Release);
    }

    /// The numbers of a lane of which an earlier process noted this one.
    pub(crate) fn of_an_earlier_process(last: i64) -> Self {
        Self { last: AtomicI64::new(last), highest: AtomicI64::new(last) }
    }

    /// The store was asked: this is the last number. What follows has higher numbers than any before, also if the store has
    /// forgotten some.
    pub(crate) fn go_on_from(&self, number: i64) {
        self.commit(number);
        self.highest.fetch_max(number, Ordering::AcqRel);
    }
}

impl<'r> Delivery<'r> {
    /// These records, from this lane of this node.
    pub fn new(node: Uuid, lane: usize, records: &'r [Record]) -> Self {
        Self { node, lane, records, numbers: None }
    }

    /// The same, as the next delivery of the lane.
    #[must_use]
    pub fn numbered(self, numbers: &'r Numbers) -> Self {
        Self { numbers: Some(numbers), ..self }
    }
}
