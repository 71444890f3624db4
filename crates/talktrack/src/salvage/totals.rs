//! The books of a salvaged file: they match its rows, and the report says how much more there should be.

use rusqlite::{Connection, Transaction};
use sqlite_salvage::Value;
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock as _, Seq, SystemClock};

use crate::local::tables::{books, changes, dead_letters, journal, messages, sessions};
use crate::salvage::report::{Losses, Salvaged};

/// The books as they were found.
struct KnownBooks {
    books: Books,
    last_seq: Seq,
}

/// The content of the new file.
struct SalvagedCounts {
    messages: u64,
    sessions: u64,
    /// Number of pending messages in the journal.
    pending: u64,
    /// Number of pending records of any kind.
    waiting: u64,
    waiting_bytes: u64,
    /// Number of dead letters that hold a message.
    letters: u64,
    all_letters: u64,
    last_seq: Seq,
}

/// Writes new books, from the rows and from the history in the old books.
pub(super) fn write_totals(
    tx: &Transaction<'_>,
    found: Option<&[Value]>,
    horizon: Seq,
) -> rusqlite::Result<Salvaged> {
    let rows = count_rows(tx, horizon)?;
    let known = found.and_then(parse_books);
    let missing = known.as_ref().map_or_else(Losses::default, |known| count_losses(&known.books, &rows));
    let last_seq = known.as_ref().map_or(Seq::ZERO, |known| known.last_seq).max(rows.last_seq);
    books::write(tx, &build_books(known.map(|known| known.books), &rows), last_seq)?;
    // The highest `seq` of the lost records is unknown, but it was not later than now.
    changes::reset(tx, last_seq.max(SystemClock.now().into()))?;
    let SalvagedCounts { messages, sessions, waiting, all_letters, .. } = rows;
    Ok(Salvaged { messages, sessions, waiting, letters: all_letters, restored_sessions: 0, missing })
}

fn parse_books(values: &[Value]) -> Option<KnownBooks> {
    let total = |index: usize| match values.get(index) {
        Some(Value::Integer(total)) => u64::try_from(*total).ok(),
        // The column is missing in a file with an older schema.
        _ => Some(0),
    };
    let books = Books {
        durable: total(1)?,
        stored: total(2)?,
        dead_lettered: total(3)?,
        inserted: total(4)?,
        journal_bytes: total(5)?,
        letters_taken_out: total(7)?,
        deleted: total(8)?,
    };
    let last_seq = Seq::new(i64::try_from(total(6)?).ok()?);
    are_plausible(&books).then_some(KnownBooks { books, last_seq })
}

fn are_plausible(books: &Books) -> bool {
    books.durable >= books.stored.saturating_add(books.dead_lettered)
        && books.dead_lettered >= books.letters_taken_out
        && books.inserted >= books.deleted
}

/// True if the books of a file exist and are plausible.
pub(super) fn are_sound(connection: &Connection) -> rusqlite::Result<bool> {
    Ok(books::read_of_any_version(connection)?.is_some_and(|books| are_plausible(&books)))
}

/// Counts the rows. A `seq` beyond the horizon is damaged, and new records must not be numbered after it.
fn count_rows(tx: &Transaction<'_>, horizon: Seq) -> rusqlite::Result<SalvagedCounts> {
    Ok(SalvagedCounts {
        messages: messages::read::count(tx)?,
        sessions: sessions::read::count(tx)?,
        pending: journal::count_pending_messages(tx)?,
        waiting: journal::count_pending(tx)?,
        waiting_bytes: journal::sum_pending_bytes(tx)?,
        letters: dead_letters::count_messages(tx)?,
        all_letters: dead_letters::count(tx)?,
        last_seq: messages::checks::newest_seq_up_to(tx, horizon)?
            .max(journal::newest_seq_up_to(tx, horizon)?)
            .max(dead_letters::newest_seq_up_to(tx, horizon)?),
    })
}

fn count_losses(books: &Books, rows: &SalvagedCounts) -> Losses {
    Losses {
        books_read: true,
        messages: books.rows().saturating_sub(rows.messages),
        pending: books.pending().saturating_sub(rows.pending),
        letters: books.letters().saturating_sub(rows.letters),
        ..Losses::default()
    }
}

/// Returns the new books. Lost rows leave the totals. Rows in a remote store stay in them, and are known
/// from the old books alone.
fn build_books(known: Option<Books>, rows: &SalvagedCounts) -> Books {
    let old = known.unwrap_or_default();
    let stored = (old.stored + rows.messages).saturating_sub(old.rows());
    let dead_lettered = old.letters_taken_out + rows.letters;
    Books {
        durable: stored + dead_lettered + rows.pending,
        stored,
        dead_lettered,
        letters_taken_out: old.letters_taken_out,
        inserted: rows.messages + old.deleted,
        deleted: old.deleted,
        journal_bytes: rows.waiting_bytes,
    }
}
