//! Reads the dead letters from the file: the records that the store refused, each with the reason.

use rusqlite::{Connection, OptionalExtension, Row, params};
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{DeadReason, Record};

use crate::local::database::{UuidText, column_or_null, parse_id, parse_time, text, text_or_null};
use crate::receipt::RecordReceipt;
use crate::store::sqlite::{BOOKS_COLUMNS, SqliteReader, books_row};

const LETTER_COLUMNS: &str = "seq, session_id, message_id, reason, detail, died_at, body";

/// Is answered from an index alone, in the order of the index.
const BYTES_OF_OWNERS: &str = "SELECT owner, sum(bytes) FROM letter_sizes GROUP BY owner";

/// A durable record that the store refused.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its place in the order of acceptance, which also identifies the dead letter.
    pub seq: Seq,
    /// The session of the record. `None` if its bytes cannot be read.
    pub session_id: Option<SessionId>,
    /// The id of the message. `None` for a start, an update or an end of a session.
    pub message_id: Option<MessageId>,
    /// The word of its [`DeadReason`].
    pub reason: String,
    /// The store's own message, if there is one.
    pub detail: Option<String>,
    /// When the record became a dead letter.
    pub died_at: Timestamp,
    /// The record, or the raw text if that cannot be read as a record.
    pub record: Result<Box<Record>, String>,
}

impl DeadLetter {
    /// Returns the record if it is unchanged since its acceptance. Changed bytes need a person to judge
    /// them.
    pub fn intact(self) -> Option<Record> {
        let corrupt = self.reason == DeadReason::Corrupt.as_str();
        self.record.ok().filter(|_| !corrupt).map(|record| *record)
    }
}

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
        self.run_query(|connection| {
            let mut statement = connection.prepare_cached(BYTES_OF_OWNERS)?;
            let rows = statement.query_map([], |row| {
                let bytes: Option<i64> = row.get(1)?;
                Ok((column_or_null(row, 0, parse_id)?, bytes.unwrap_or(0).unsigned_abs()))
            })?;
            rows.collect()
        })
        .await
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
            let sql = format!(
                "SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq < ?1 AND coalesce(reason = ?2, true) \
                 ORDER BY seq DESC LIMIT ?3"
            );
            let before = before.unwrap_or(Seq::MAX);
            connection.prepare_cached(&sql)?.query_map(params![before, reason, limit], letter_row)?.collect()
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
            let sql = "SELECT seq FROM dead_letters WHERE coalesce(reason = ?1, true) ORDER BY seq LIMIT ?2";
            connection.prepare_cached(sql)?.query_map(params![reason, limit], |row| row.get(0))?.collect()
        })
        .await
    }

    /// Returns dead letters after the one with this `seq`, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letters(&self, after: Option<Seq>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.run_query(move |connection| {
            let sql =
                format!("SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq > ?1 ORDER BY seq LIMIT ?2");
            let after = after.unwrap_or(Seq::MIN);
            connection.prepare_cached(&sql)?.query_map(params![after, limit], letter_row)?.collect()
        })
        .await
    }

    /// Returns one dead letter.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter(&self, seq: Seq) -> Result<Option<DeadLetter>, ReadError> {
        self.run_query(move |connection| read_letter(connection, seq)).await
    }

    /// Returns the `seq` of every dead letter, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter_seqs(&self) -> Result<Vec<Seq>, ReadError> {
        self.run_query(|connection| {
            connection
                .prepare("SELECT seq FROM dead_letters ORDER BY seq")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
        .await
    }

    /// Returns the outcome of the record that this receipt belongs to. The record must be durable.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn replay_outcome(&self, receipt: &RecordReceipt) -> Result<Replayed, ReadError> {
        let receipt = receipt.clone();
        self.look_up(move |connection| {
            // The order matters: a record that has left the journal is in its final place.
            if is_pending(connection, receipt.seq(), receipt.message_id())? {
                return Ok(Replayed::Pending);
            }
            let letter =
                read_letter(connection, receipt.seq())?.map(|letter| Replayed::DeadAgain(letter.into()));
            // The receipt notes a drop before the record leaves the journal.
            Ok(letter.unwrap_or(if receipt.was_dropped() { Replayed::Deleted } else { Replayed::Stored }))
        })
        .await
    }
}

fn check_books(connection: &Connection) -> rusqlite::Result<BooksCheck> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let mut reasons = connection
        .prepare_cached("SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason")?;
    let reasons = reasons.query_map([], |row| Ok((text(row, 0)?, row.get(1)?)))?;
    Ok(BooksCheck {
        books: connection.query_row(&format!("SELECT {BOOKS_COLUMNS} FROM books"), [], books_row)?,
        pending: count("SELECT count(*) FROM pending WHERE message_id IS NOT NULL")?,
        letters: count("SELECT count(*) FROM dead_letters WHERE message_id IS NOT NULL")?,
        reasons: reasons.collect::<rusqlite::Result<_>>()?,
    })
}

/// True if the record, or another record of the same message, is pending for the remote store.
fn is_pending(connection: &Connection, seq: Seq, id: Option<MessageId>) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pending WHERE seq = ?1 OR message_id = ?2)";
    let id = id.map(UuidText::new);
    let id = id.as_ref().map(UuidText::as_str);
    connection.prepare_cached(sql)?.query_row(params![seq, id], |row| row.get(0))
}

fn read_letter(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = format!("SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq = ?1");
    connection.prepare_cached(&sql)?.query_row([seq], letter_row).optional()
}

fn letter_row(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let body = row.get_ref(6)?.as_bytes()?;
    let record = serde_json::from_slice(body).map(Box::new);
    let seq: Seq = row.get(0)?;
    let died_at = column_or_null(row, 5, parse_time)?.or_else(|| seq.accepted_at());
    Ok(DeadLetter {
        seq,
        session_id: column_or_null(row, 1, parse_id)?,
        message_id: column_or_null(row, 2, parse_id)?,
        reason: text(row, 3)?,
        detail: text_or_null(row, 4)?,
        died_at: died_at.unwrap_or_else(|| SystemClock.now()),
        record: record.map_err(|_| String::from_utf8_lossy(body).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::database;

    /// Returns the steps of SQLite's query plan.
    fn plan(connection: &Connection, sql: &str) -> Vec<String> {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map([], |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn the_bytes_of_letters_are_counted_from_an_index_alone() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::create_draft(&dir.path().join("file")).unwrap();
        let steps = plan(&connection, BYTES_OF_OWNERS);
        assert_eq!(steps, ["SCAN letter_sizes USING COVERING INDEX letter_sizes_of_owner"]);
    }
}
