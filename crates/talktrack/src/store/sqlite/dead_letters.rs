//! Reads the dead letters from the file: the records that the store refused, each with the reason.

use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;
use talktrack_core::stats::TimeRange;

use crate::local::tables::dead_letters::{self, DeadLetter};
use crate::local::tables::journal;
use crate::receipt::RecordReceipt;
use crate::store::sqlite::connections::ReadConnections;

/// The outcome of a durable record: a message, or a dead letter that was replayed.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// The store has the record.
    Stored,
    /// The record waits in the journal for the remote store.
    Pending,
    /// The store refused the record again: it is a new dead letter.
    DeadAgain(Box<DeadLetter>),
    /// The record is gone: its session, message or user was deleted.
    Deleted,
}

/// A view of the dead letters of a file, made by [`SqliteReader::dead_letters`](super::SqliteReader::dead_letters).
#[derive(Debug, Clone)]
pub struct DeadLetterReader {
    connections: ReadConnections,
}

impl DeadLetterReader {
    pub(super) fn new(connections: ReadConnections) -> Self {
        Self { connections }
    }

    /// Returns the size of the dead letters in bytes for each user they were accepted for, and for those
    /// that name no user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn bytes_by_user(&self) -> Result<Vec<(Option<UserId>, u64)>, ReadError> {
        self.connections.run_query(dead_letters::sum_bytes_by_owner).await
    }

    /// Returns dead letters before the one with this `seq`, newest first: those with one reason, or all.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn newest(
        &self,
        reason: Option<String>,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.connections
            .run_query(move |connection| {
                dead_letters::read_newest(connection, reason.as_deref(), before, limit)
            })
            .await
    }

    /// Returns the `seq` of dead letters with one reason, or of all, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn seqs_with_reason(
        &self,
        reason: Option<String>,
        limit: usize,
    ) -> Result<Vec<Seq>, ReadError> {
        self.connections
            .run_query(move |connection| {
                dead_letters::read_seqs_with_reason(connection, reason.as_deref(), limit)
            })
            .await
    }

    /// Returns dead letters after the one with this `seq`, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn list(&self, after: Option<Seq>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.connections.run_query(move |connection| dead_letters::read_after(connection, after, limit)).await
    }

    /// Returns one dead letter.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn get(&self, seq: Seq) -> Result<Option<DeadLetter>, ReadError> {
        self.connections.run_query(move |connection| dead_letters::find(connection, seq)).await
    }

    /// Returns the `seq` of every dead letter, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn seqs(&self) -> Result<Vec<Seq>, ReadError> {
        self.connections.run_query(dead_letters::read_seqs).await
    }

    /// Returns the outcome of the record that this receipt belongs to. The record must be durable.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn replay_outcome(&self, receipt: &RecordReceipt) -> Result<Replayed, ReadError> {
        let receipt = receipt.clone();
        self.connections
            .look_up(move |connection| {
                // The order matters: a record that has left the journal is in its final place.
                if journal::is_pending(connection, receipt.seq(), receipt.message_id())? {
                    return Ok(Replayed::Pending);
                }
                let letter = dead_letters::find(connection, receipt.seq())?
                    .map(|letter| Replayed::DeadAgain(letter.into()));
                // The receipt notes a drop before the record leaves the journal.
                Ok(letter.unwrap_or(if receipt.was_dropped() { Replayed::Deleted } else { Replayed::Stored }))
            })
            .await
    }

    /// Returns the `seq` of each dead letter of this user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn seqs_of_user(&self, user_id: &UserId) -> Result<Vec<Seq>, ReadError> {
        let user_id = user_id.clone();
        self.connections
            .run_query(move |connection| dead_letters::read_seqs_of_user(connection, &user_id))
            .await
    }

    /// Returns the `seq` of up to `limit` dead letters that were written before this moment, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn seqs_before(&self, moment: Timestamp, limit: usize) -> Result<Vec<Seq>, ReadError> {
        self.connections
            .run_query(move |connection| dead_letters::read_seqs_before(connection, moment, limit))
            .await
    }

    /// Returns, for each bucket of a range, the number of this data directory's messages that became dead
    /// letters in it and still are.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn count_over(&self, range: &TimeRange) -> Result<Vec<u64>, ReadError> {
        let range = *range;
        self.connections
            .run_query(move |connection| {
                let mut buckets = vec![0; range.len()];
                dead_letters::visit_times(connection, range.since(), range.until(), |at| {
                    let bucket = range.index_of(at).and_then(|index| buckets.get_mut(index));
                    bucket.into_iter().for_each(|count| *count += 1);
                })?;
                Ok(buckets)
            })
            .await
    }
}
