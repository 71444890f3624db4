//! Reads the totals of the file, and notes damage.

use std::path::Path;

use rusqlite::{Connection, Row};
use talktrack_core::books::Books;

use crate::local::database;

/// What an operator can do about damage.
pub(super) const REMEDY: &str = "restart the server, which saves what can be read";

/// The columns of [`Books`], for [`books_row`].
pub(crate) const BOOKS_COLUMNS: &str =
    "durable, stored, dead_lettered, letters_taken_out, inserted, journal_bytes, deleted";

/// Notes damage for the next start of the process that writes the file.
pub(super) fn note_damage(connection: &Connection, damage: &str) {
    connection.path().iter().for_each(|path| database::mark_suspect(Path::new(path), damage));
}

/// Reads the totals from a row that begins with [`BOOKS_COLUMNS`].
pub(crate) fn books_row(row: &Row<'_>) -> rusqlite::Result<Books> {
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
