//! What goes wrong with a store in memory, on purpose: writes fail, answers are lost, and what it confirmed is forgotten.

use crate::record::Record;
use crate::store::memory::{MemoryStore, Tables};
use crate::store::{Class, Delivery, StoreError};

/// Decides whether a write, or its answer, fails.
pub(super) type Fault = Box<dyn FnMut(&[Record]) -> Option<StoreError> + Send>;

/// Everything that a [`MemoryStore`] held at one moment.
pub struct Snapshot(Tables);

impl MemoryStore {
    /// From now on each write is first shown to `fault`; where it answers with an error, nothing is written.
    pub fn fail_when(&self, fault: impl FnMut(&[Record]) -> Option<StoreError> + Send + 'static) {
        self.tables.lock().fault = Some(Box::new(fault));
    }

    /// From now on each write that is done is shown to `lost`; where it answers with an error, the true answer is lost on the
    /// way, and whoever wrote is told the error instead.
    pub fn lose_answers_when(&self, lost: impl FnMut(&[Record]) -> Option<StoreError> + Send + 'static) {
        self.tables.lock().lost = Some(Box::new(lost));
    }

    /// Writes succeed again.
    pub fn mend(&self) {
        let mut tables = self.tables.lock();
        (tables.fault, tables.lost) = (None, None);
    }

    /// What the store holds now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.tables.lock().copy())
    }

    /// The store holds again what it held then, and has forgotten everything since.
    pub fn restore(&self, snapshot: &Snapshot) {
        let mut tables = self.tables.lock();
        let (fault, lost) = (tables.fault.take(), tables.lost.take());
        *tables = Tables { fault, lost, ..snapshot.0.copy() };
    }
}

impl Tables {
    fn copy(&self) -> Self {
        Self {
            sessions: self.sessions.clone(),
            messages: self.messages.clone(),
            transcripts: self.transcripts.clone(),
            deleted: self.deleted.clone(),
            deleted_claims: self.deleted_claims.clone(),
            deleted_users: self.deleted_users.clone(),
            told: self.told.clone(),
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
        Err(StoreError::new(Class::Transient, message))
    }

    /// The records are written: notes the delivery, and answers, unless the answer is lost.
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
