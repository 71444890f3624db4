//! Compares the totals that talktrack keeps with the records that wait and the dead letters.

use rusqlite::Connection;
use talktrack_core::books::Books;
use talktrack_core::error::ReadError;

use crate::local::tables::{books, dead_letters, journal};
use crate::store::sqlite::SqliteReader;

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
        self.connections
            .run_query(|connection| {
                let tx = connection.unchecked_transaction()?;
                check_books(&tx)
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
