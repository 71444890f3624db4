//! The books: how many messages are durable, stored, dead-lettered and pending. They balance: `durable = stored +
//! dead_lettered + pending`.

use serde::{Deserialize, Serialize};

/// Counts of messages since the data directory was created. They are kept in its database file and change in the same
/// transactions as the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Books {
    /// Messages that were acknowledged.
    pub durable: u64,
    /// Of these: messages in the store, including repetitions of stored messages.
    pub stored: u64,
    /// Of these: messages that became dead letters because the store will never take them.
    pub dead_lettered: u64,
    /// Of these dead letters: those that are gone because they were replayed or dropped. A replayed message that is
    /// durable again is counted again in `durable`.
    pub letters_taken_out: u64,
    /// Rows that were written for them in this file. Revisions and repetitions write none.
    pub inserted: u64,
    /// Of these rows: those that are gone because their sessions were deleted.
    pub deleted: u64,
    /// The size in bytes of the records that wait in the journal.
    pub journal_bytes: u64,
}

impl Books {
    /// Returns the number of acknowledged messages that wait for the store.
    pub fn pending(&self) -> u64 {
        self.durable.saturating_sub(self.stored + self.dead_lettered)
    }

    /// Returns the number of dead letters of messages that should exist.
    pub fn letters(&self) -> u64 {
        self.dead_lettered.saturating_sub(self.letters_taken_out)
    }

    /// Returns the number of rows that should exist in this file.
    pub fn rows(&self) -> u64 {
        self.inserted.saturating_sub(self.deleted)
    }
}
