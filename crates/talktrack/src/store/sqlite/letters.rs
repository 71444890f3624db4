//! The dead letters, from the file: what the store would not take, and why.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::books::Books;
use crate::clock::{Clock as _, Seq, SystemClock, Timestamp};
use crate::database::{UuidText, column_or_null, parse_time, parse_uuid, text, text_or_null};
use crate::error::ReadError;
use crate::receipt::Receipt;
use crate::record::{DeadReason, Record};
use crate::store::sqlite::{BOOKS_COLUMNS, SqliteReader, books_row};

const LETTER_COLUMNS: &str = "seq, session_id, message_id, reason, detail, died_at, body";

/// From an index alone, in its order.
const BYTES_OF_OWNERS: &str = "SELECT owner, sum(bytes) FROM letter_sizes GROUP BY owner";

/// Something durable that the store would not take.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its place in the order of acceptance: what it is called by.
    pub seq: Seq,
    /// The session it belongs to; `None` where its bytes can't be read.
    pub session_id: Option<Uuid>,
    /// The message's id; `None` for a start, an update or an end of a session.
    pub message_id: Option<Uuid>,
    /// The word of its [`DeadReason`].
    pub reason: String,
    /// The store's own words, where there are any.
    pub detail: Option<String>,
    /// When it was laid aside.
    pub died_at: Timestamp,
    /// What it is; its text alone where that can't be read as a record.
    pub record: Result<Box<Record>, String>,
}

impl DeadLetter {
    /// The record, where it is what was once accepted: bytes that have changed since are for people to judge.
    pub fn intact(self) -> Option<Record> {
        let corrupt = self.reason == DeadReason::Corrupt.as_str();
        self.record.ok().filter(|_| !corrupt).map(|record| *record)
    }
}

/// What became of a durable record: a message, or a dead letter that was replayed.
#[derive(Debug, Clone, PartialEq)]
pub enum Replayed {
    /// The store has it.
    Stored,
    /// It waits in the journal for the remote store.
    OnItsWay,
    /// The store refused it again: it is a new letter.
    DeadAgain(Box<DeadLetter>),
    /// It is gone: the session, the message or the user was deleted.
    Deleted,
}

/// What of the path is in the file at one moment, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The totals that are kept of it.
    pub books: Books,
    /// Messages on their way to the remote store.
    pub pending: u64,
    /// Dead letters of messages.
    pub letters: u64,
    /// All dead letters, those of sessions too, by reason.
    pub reasons: Vec<(String, u64)>,
}

impl Tally {
    /// Whether the totals are those that were counted: `durable = stored + dead_lettered + pending`, and each letter is there.
    pub fn is_balanced(&self) -> bool {
        let books = &self.books;
        books.durable == books.stored + books.dead_lettered + self.pending && books.letters() == self.letters
    }
}

impl SqliteReader {
    /// Counts what waits and what was laid aside, at one moment. Takes the longer the more there is of it.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn tally(&self) -> Result<Tally, ReadError> {
        self.ask(|connection| {
            let tx = connection.unchecked_transaction()?;
            tally(&tx)
        })
        .await
    }

    /// The bytes of the dead letters that were accepted for each user, and of those that name no user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letter_bytes(&self) -> Result<Vec<(Option<Uuid>, u64)>, ReadError> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(BYTES_OF_OWNERS)?;
            let rows = statement.query_map([], |row| {
                let bytes: Option<i64> = row.get(1)?;
                Ok((column_or_null(row, 0, parse_uuid)?, bytes.unwrap_or(0).unsigned_abs()))
            })?;
            rows.collect()
        })
        .await
    }

    /// Dead letters, newest first, before the one with this `seq`; those of one reason, or all.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn newest_dead_letters(
        &self,
        reason: Option<String>,
        before: Option<Seq>,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, ReadError> {
        self.ask(move |connection| {
            let sql = format!(
                "SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq < ?1 AND coalesce(reason = ?2, true) \
                 ORDER BY seq DESC LIMIT ?3"
            );
            let before = before.unwrap_or(Seq::MAX);
            connection.prepare_cached(&sql)?.query_map(params![before, reason, limit], letter_row)?.collect()
        })
        .await
    }

    /// The `seq` of the dead letters of one reason, or of all, oldest first.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn dead_letter_seqs_of(
        &self,
        reason: Option<String>,
        limit: usize,
    ) -> Result<Vec<Seq>, ReadError> {
        self.ask(move |connection| {
            let sql = "SELECT seq FROM dead_letters WHERE coalesce(reason = ?1, true) ORDER BY seq LIMIT ?2";
            connection.prepare_cached(sql)?.query_map(params![reason, limit], |row| row.get(0))?.collect()
        })
        .await
    }

    /// Dead letters, oldest first, after the one with this `seq`.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn dead_letters(&self, after: Option<Seq>, limit: usize) -> Result<Vec<DeadLetter>, ReadError> {
        self.ask(move |connection| {
            let sql =
                format!("SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq > ?1 ORDER BY seq LIMIT ?2");
            let after = after.unwrap_or(Seq::MIN);
            connection.prepare_cached(&sql)?.query_map(params![after, limit], letter_row)?.collect()
        })
        .await
    }

    /// One dead letter.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn dead_letter(&self, seq: Seq) -> Result<Option<DeadLetter>, ReadError> {
        self.ask(move |connection| letter(connection, seq)).await
    }

    /// Every dead letter's `seq`, oldest first.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn dead_letter_seqs(&self) -> Result<Vec<Seq>, ReadError> {
        self.ask(|connection| {
            connection
                .prepare("SELECT seq FROM dead_letters ORDER BY seq")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
        .await
    }

    /// What became of the record that this receipt was given for, now that it is durable.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn replayed(&self, receipt: &Receipt) -> Result<Replayed, ReadError> {
        let receipt = receipt.clone();
        self.ask(move |connection| {
            // In this order: what is no longer in the journal is where it will stay.
            if waits(connection, receipt.seq(), receipt.id())? {
                return Ok(Replayed::OnItsWay);
            }
            let letter = letter(connection, receipt.seq())?.map(|letter| Replayed::DeadAgain(letter.into()));
            // Noted before the record left the journal.
            Ok(letter.unwrap_or(if receipt.was_dropped() { Replayed::Deleted } else { Replayed::Stored }))
        })
        .await
    }
}

fn tally(connection: &Connection) -> rusqlite::Result<Tally> {
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, u64>(0));
    let mut reasons = connection
        .prepare_cached("SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason")?;
    let reasons = reasons.query_map([], |row| Ok((text(row, 0)?, row.get(1)?)))?;
    Ok(Tally {
        books: connection.query_row(&format!("SELECT {BOOKS_COLUMNS} FROM books"), [], books_row)?,
        pending: count("SELECT count(*) FROM pending WHERE message_id IS NOT NULL")?,
        letters: count("SELECT count(*) FROM dead_letters WHERE message_id IS NOT NULL")?,
        reasons: reasons.collect::<rusqlite::Result<_>>()?,
    })
}

/// Whether the record waits for the remote store, or the same message does.
fn waits(connection: &Connection, seq: Seq, id: Uuid) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pending WHERE seq = ?1 OR message_id = ?2)";
    connection.prepare_cached(sql)?.query_row(params![seq, UuidText::new(id).as_str()], |row| row.get(0))
}

fn letter(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = format!("SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq = ?1");
    connection.prepare_cached(&sql)?.query_row([seq], letter_row).optional()
}

fn letter_row(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let body = row.get_ref(6)?.as_bytes()?;
    let record = serde_json::from_slice(body).map(Box::new);
    let seq = row.get(0)?;
    let died_at = column_or_null(row, 5, parse_time)?.or_else(|| Timestamp::from_micros(seq));
    Ok(DeadLetter {
        seq,
        session_id: column_or_null(row, 1, parse_uuid)?,
        message_id: column_or_null(row, 2, parse_uuid)?,
        reason: text(row, 3)?,
        detail: text_or_null(row, 4)?,
        died_at: died_at.unwrap_or_else(|| SystemClock.now()),
        record: record.map_err(|_| String::from_utf8_lossy(body).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database;

    /// The steps of a query in the words of SQLite.
    fn plan(connection: &Connection, sql: &str) -> Vec<String> {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map([], |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn the_bytes_of_letters_are_counted_from_an_index_alone() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::draft(&dir.path().join("file")).unwrap();
        let steps = plan(&connection, BYTES_OF_OWNERS);
        assert_eq!(steps, ["SCAN letter_sizes USING COVERING INDEX letter_sizes_of_owner"]);
    }
}
