//! The books: how many messages are durable, stored, dead-lettered and pending. They balance: `durable = stored +
//! dead_lettered + pending`. This module also defines the exported metrics.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use serde::{Deserialize, Serialize};

use crate::record::{Body, Record, Verdict};

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
    pub(crate) fn count_purged(&mut self, messages: u64, bytes: u64) {
        self.leave_journal(0, messages, bytes);
        self.letters_taken_out += messages;
    }

    /// Counts records that leave the journal or are confirmed: messages that are stored, messages that are dead, and
    /// the bytes of all.
    pub(crate) fn leave_journal(&mut self, stored: u64, dead: u64, bytes: u64) {
        self.stored += stored;
        self.dead_lettered += dead;
        self.journal_bytes = self.journal_bytes.saturating_sub(bytes);
    }

    /// Counts messages that the store has lost: they are pending again.
    pub(crate) fn return_to_journal(&mut self, messages: u64, bytes: u64) {
        self.stored = self.stored.saturating_sub(messages);
        self.journal_bytes += bytes;
    }

    /// Counts a message whose result is known at once.
    fn count_settled(&mut self, dead: bool) {
        let total = if dead { &mut self.dead_lettered } else { &mut self.stored };
        *total += 1;
    }

    /// Counts one message.
    pub(crate) fn count_message(&mut self, verdict: &Verdict) {
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

/// The exported metrics. `docs/operations.md` describes each. They go to the recorder that the process has installed.
#[derive(Clone)]
pub(crate) struct MetricHandles {
    pub(crate) accepted: Counter,
    pub(crate) durable: Counter,
    pub(crate) stored: Counter,
    pub(crate) dead_lettered: Counter,
    pub(crate) letters_taken_out: Counter,
    pub(crate) queue_depth: Gauge,
    pub(crate) journal_pending: Gauge,
    pub(crate) journal_bytes: Gauge,
    pub(crate) store_up: Gauge,
    pub(crate) batch_size: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) store_seconds: Histogram,
    pub(crate) sessions_active: Gauge,
}

impl MetricHandles {
    pub(crate) fn new() -> Self {
        Self {
            accepted: counter!("talktrack_messages_accepted_total"),
            durable: counter!("talktrack_messages_durable_total"),
            stored: counter!("talktrack_messages_stored_total"),
            dead_lettered: counter!("talktrack_messages_dead_lettered_total"),
            letters_taken_out: counter!("talktrack_dead_letters_taken_out_total"),
            queue_depth: gauge!("talktrack_queue_depth"),
            journal_pending: gauge!("talktrack_journal_pending"),
            journal_bytes: gauge!("talktrack_journal_bytes"),
            store_up: gauge!("talktrack_store_up"),
            batch_size: histogram!("talktrack_batch_size"),
            commit_seconds: histogram!("talktrack_commit_seconds"),
            store_seconds: histogram!("talktrack_store_seconds"),
            sessions_active: gauge!("talktrack_sessions_active"),
        }
    }

    /// Publishes the current books.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is an f64; 2^53 messages are out of reach")]
    pub(crate) fn publish(&self, books: &Books) {
        self.durable.absolute(books.durable);
        self.stored.absolute(books.stored);
        self.dead_lettered.absolute(books.dead_lettered);
        self.letters_taken_out.absolute(books.letters_taken_out);
        self.journal_pending.set(books.pending() as f64);
        self.journal_bytes.set(books.journal_bytes as f64);
    }
}

/// Counts a refusal by its reason.
pub(crate) fn count_refusal(reason: &'static str) {
    counter!("talktrack_messages_refused_total", "reason" => reason).increment(1);
}

/// Counts a deleted session and its messages by the reason of the deletion.
pub(crate) fn count_deletion(record: &Record, verdict: &Verdict) {
    let (Body::Delete(delete), Verdict::Deleted(removed)) = (&record.body, verdict) else { return };
    let reason = if delete.is_permanent() { "request" } else { "age" };
    counter!("talktrack_sessions_deleted_total", "reason" => reason).increment(removed.sessions);
    counter!("talktrack_messages_deleted_total", "reason" => reason).increment(removed.messages);
}

/// Counts a failed write to the store that will be retried, by the class of its error.
pub(crate) fn count_retry(class: &'static str) {
    counter!("talktrack_store_retries_total", "class" => class).increment(1);
}
