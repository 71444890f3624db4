//! Reads the dead letters from the file: the records that the store refused, each with the reason.

use rusqlite::Connection;
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;
use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;

use crate::local::tables::dead_letters::{self, DeadLetter};
use crate::local::tables::{books, journal};
use crate::receipt::RecordReceipt;
use crate::store::sqlite::SqliteReader;

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

/// The books of the file and the counted rows, all of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BooksCheck {
    /// The totals that talktrack keeps.
    pub books: Books,
    /// Number of messages that are pending for the remote store.
    pub pending: u64,
    /// Number of dead letters that hold a message.
    pub letters: u64,
    /// Number of all dead letters by reason, including those of session records.
    pub reasons: Vec<(String, u64)>,
}

impl BooksCheck {
    /// True if the totals match the counts: `durable = stored + dead_lettered + pending`, and no dead
    /// letter is missing.
    pub fn is_balanced(&self) -> bool {
        let books = &self.books;
        books.durable == books.stored + books.dead_lettered + self.pending && books.letters() == self.letters
    }
}

impl SqliteReader {
    /// Counts pending records and dead letters at one moment. The time it takes grows with their number.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn check_books(&self) -> Result<BooksCheck, ReadError> {
        self.run_query(|connection| {
            let tx = connection.unchecked_transaction()?;
            check_books(&tx)
        })
        .await
    }

    /// Returns the size of the dead letters in bytes for each user they were accepted for, and for those
    /// that name no user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter_bytes(&self) -> Result<Vec<(Option<UserId>, u64)>, ReadError> {
        self.run_query(dead_letters::sum_bytes_by_owner).await
    }

    /// Returns dead letters before the one with this `seq`, newest first: those with one reason, or all.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn newest_dead_letters(
        &self,
        reason: Option<String>,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.run_query(move |connection| {
            dead_letters::read_newest(connection, reason.as_deref(), before, limit)
        })
        .await
    }

    /// Returns the `seq` of dead letters with one reason, or of all, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter_seqs_of(
        &self,
        reason: Option<String>,
        limit: usize,
    ) -> Result<Vec<Seq>, ReadError> {
        self.run_query(move |connection| {
            dead_letters::read_seqs_with_reason(connection, reason.as_deref(), limit)
        })
        .await
    }

    /// Returns dead letters after the one with this `seq`, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letters(&self, after: Option<Seq>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.run_query(move |connection| dead_letters::read_after(connection, after, limit)).await
    }

    /// Returns one dead letter.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter(&self, seq: Seq) -> Result<Option<DeadLetter>, ReadError> {
        self.run_query(move |connection| dead_letters::find(connection, seq)).await
    }

    /// Returns the `seq` of every dead letter, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter_seqs(&self) -> Result<Vec<Seq>, ReadError> {
        self.run_query(dead_letters::read_seqs).await
    }

    /// Returns the outcome of the record that this receipt belongs to. The record must be durable.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn replay_outcome(&self, receipt: &RecordReceipt) -> Result<Replayed, ReadError> {
        let receipt = receipt.clone();
        self.look_up(move |connection| {
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
}

fn check_books(connection: &Connection) -> rusqlite::Result<BooksCheck> {
    Ok(BooksCheck {
        books: books::read_totals(connection)?,
        pending: journal::count_pending_messages(connection)?,
        letters: dead_letters::count_messages(connection)?,
        reasons: dead_letters::count_by_reason(connection)?,
    })
}
