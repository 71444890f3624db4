//! The table `unerased`: it has a row while the remains of a deletion have yet to be overwritten.

use rusqlite::{Connection, Transaction};

/// True if remains have yet to be overwritten.
pub(crate) fn has_row(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM unerased)", [], |row| row.get(0))
}

/// Notes that remains have yet to be overwritten.
pub(crate) fn insert(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR IGNORE INTO unerased (one) VALUES (1)")?.execute([]).map(drop)
}

/// Notes that all remains are overwritten.
pub(crate) fn delete(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM unerased", []).map(drop)
}
