//! The table `books`: one row with the running totals and the highest `seq` that they include.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;

/// The columns of [`Books`], for [`books_row`].
const BOOKS_COLUMNS: &str =
    "durable, stored, dead_lettered, letters_taken_out, inserted, journal_bytes, deleted";

/// Returns the books and the highest `seq` that they include.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<(Books, Seq)> {
    let sql = format!("SELECT {BOOKS_COLUMNS}, last_seq FROM books");
    connection.query_row(&sql, [], |row| Ok((books_row(row)?, row.get("last_seq")?)))
}

/// Returns the books, even if the highest `seq` is unreadable.
pub(crate) fn read_totals(connection: &Connection) -> rusqlite::Result<Books> {
    connection.query_row(&format!("SELECT {BOOKS_COLUMNS} FROM books"), [], books_row)
}

/// Returns the books of a file of any version, or `None` if a total or the highest `seq` is missing or unreadable. Totals
/// that the first version did not have are 0.
pub(crate) fn read_of_any_version(connection: &Connection) -> rusqlite::Result<Option<Books>> {
    // A file of an older version has fewer columns.
    let sql = "SELECT durable, stored, dead_lettered, 0, inserted, journal_bytes, 0, last_seq FROM books WHERE one = 1";
    let books = connection.query_row(sql, [], |row| {
        let readable = row.get::<_, i64>(7).is_ok_and(|last_seq| last_seq >= 0);
        Ok(books_row(row).ok().filter(|_| readable))
    });
    books.optional().map(Option::flatten)
}

/// Writes the books, and the highest `seq` that they include.
pub(crate) fn write(tx: &Transaction<'_>, books: &Books, last_seq: Seq) -> rusqlite::Result<()> {
    let sql = "UPDATE books SET durable = ?1, stored = ?2, dead_lettered = ?3, letters_taken_out = ?4, inserted = ?5, \
               journal_bytes = ?6, last_seq = ?7, deleted = ?8";
    let Books { durable, stored, dead_lettered, letters_taken_out, inserted, deleted, journal_bytes } =
        *books;
    tx.prepare_cached(sql)?.execute(params![
        durable,
        stored,
        dead_lettered,
        letters_taken_out,
        inserted,
        journal_bytes,
        last_seq,
        deleted
    ])?;
    Ok(())
}

/// Writes the two totals that change when stored records become pending again, and no others.
pub(crate) fn write_returned(tx: &Transaction<'_>, books: &Books) -> rusqlite::Result<()> {
    let sql = "UPDATE books SET stored = ?1, journal_bytes = ?2";
    tx.execute(sql, params![books.stored, books.journal_bytes]).map(drop)
}

/// Reads the totals from a row that begins with [`BOOKS_COLUMNS`].
fn books_row(row: &Row<'_>) -> rusqlite::Result<Books> {
    Ok(Books {
        durable: row.get(0)?,
        stored: row.get(1)?,
        dead_lettered: row.get(2)?,
        letters_taken_out: row.get(3)?,
        inserted: row.get(4)?,
        journal_bytes: row.get(5)?,
        deleted: row.get(6)?,
    })
}
