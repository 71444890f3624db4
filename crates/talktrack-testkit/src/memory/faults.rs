//! Fault injection for a store in memory: writes fail, answers are lost, confirmed records are forgotten.

use talktrack::store::{Delivery, ErrorClass, StoreError};
use talktrack_core::record::Record;

use crate::memory::{MemoryStore, Tables};

/// Decides whether a write, or its answer, fails.
pub(super) type Fault = Box<dyn FnMut(&[Record]) -> Option<StoreError> + Send>;

/// The content of a [`MemoryStore`] at one moment.
pub struct Snapshot(Tables);

impl MemoryStore {
    /// From now on `fault` sees the records of each write first. If it returns an error, nothing is
    /// written.
    pub fn fail_when(&self, fault: impl FnMut(&[Record]) -> Option<StoreError> + Send + 'static) {
        self.tables.lock().fault = Some(Box::new(fault));
    }

    /// From now on `lost` sees the records of each completed write. If it returns an error, the true answer
    /// is lost and the caller gets this error instead.
    pub fn lose_answers_when(&self, lost: impl FnMut(&[Record]) -> Option<StoreError> + Send + 'static) {
        self.tables.lock().lost = Some(Box::new(lost));
    }

    /// Removes all injected faults: writes succeed again.
    pub fn fix(&self) {
        let mut tables = self.tables.lock();
        (tables.fault, tables.lost) = (None, None);
    }

    /// Returns a copy of the current content.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.tables.lock().copy_without_faults())
    }

    /// Restores the content of a snapshot. The store forgets all later writes.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut tables = self.tables.lock();
        let fault = tables.fault.take();
        let lost = tables.lost.take();
        *tables = Tables { fault, lost, ..snapshot.0.copy_without_faults() };
    }
}

impl Tables {
    fn copy_without_faults(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
            messages: self.messages.clone(),
            transcripts: self.transcripts.clone(),
            deleted: self.deleted.clone(),
            deleted_claims: self.deleted_claims.clone(),
            deleted_messages: self.deleted_messages.clone(),
            deleted_users: self.deleted_users.clone(),
            applied: self.applied.clone(),
            numbers: self.numbers.clone(),
            fault: None,
            lost: None,
        }
    }

    /// Refuses a delivery that does not follow the last one.
    pub(super) fn check_number(&self, delivery: &Delivery<'_>) -> Result<(), StoreError> {
        let Some(numbers) = delivery.numbers else { return Ok(()) };
        let held = self.numbers.get(&(delivery.node, delivery.lane)).copied().unwrap_or(0);
        if held == numbers.last() {
            return Ok(());
        }
        let message = "the store holds another delivery of this lane than the last".to_owned();
        Err(StoreError::new(ErrorClass::Transient, message))
    }

    /// Notes the delivery after its records are written, and answers, unless the answer is lost.
    pub(super) fn finish(&mut self, delivery: &Delivery<'_>) -> Result<(), StoreError> {
        let number = delivery.numbers.map(|numbers| (numbers, numbers.next()));
        if let Some((_, number)) = number {
            self.numbers.insert((delivery.node, delivery.lane), number);
        }
        if let Some(error) = self.lost.as_mut().and_then(|lost| lost(delivery.records)) {
            return Err(StoreError { is_outcome_unknown: true, ..error });
        }
        number.into_iter().for_each(|(numbers, number)| numbers.commit(number));
        Ok(())
    }
}
