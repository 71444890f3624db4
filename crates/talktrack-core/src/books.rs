//! The books: how many messages are durable, stored, dead-lettered and pending. They balance: `durable = stored +
//! dead_lettered + pending`.

use serde::{Deserialize, Serialize};

use crate::record::Verdict;

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

    /// Counts messages that leave the journal because their session was deleted: as dead letters that were taken out
    /// again.
    pub fn count_purged(&mut self, messages: u64, bytes: u64) {
        self.leave_journal(0, messages, bytes);
        self.letters_taken_out += messages;
    }

    /// Counts records that leave the journal or are confirmed: messages that are stored, messages that are dead, and
    /// the bytes of all.
    pub fn leave_journal(&mut self, stored: u64, dead: u64, bytes: u64) {
        self.stored += stored;
        self.dead_lettered += dead;
        self.journal_bytes = self.journal_bytes.saturating_sub(bytes);
    }

    /// Counts messages that the store has lost: they are pending again.
    pub fn return_to_journal(&mut self, messages: u64, bytes: u64) {
        self.stored = self.stored.saturating_sub(messages);
        self.journal_bytes += bytes;
    }

    /// Counts a message whose result is known at once.
    fn count_settled(&mut self, dead: bool) {
        let total = if dead { &mut self.dead_lettered } else { &mut self.stored };
        *total += 1;
    }

    /// Counts one message.
    pub fn count_message(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Inserted | Verdict::Reopened(_) => self.inserted += 1,
            Verdict::Revised | Verdict::AlreadyThere | Verdict::Dead(_) | Verdict::Journaled => {}
            Verdict::Started { .. }
            | Verdict::Updated
            | Verdict::Ended(_)
            | Verdict::StaysActive
            | Verdict::Waits
            | Verdict::Deleted(_)
            | Verdict::Expired(..)
            | Verdict::Refused(_) => {
                return;
            }
        }
        self.durable += 1;
        if *verdict != Verdict::Journaled {
            self.count_settled(matches!(verdict, Verdict::Dead(_)));
        }
    }
}
