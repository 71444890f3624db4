//! Reads and writes what the data directory notes of the store whose outbox it is: the store's id, and its address for
//! people.

use std::path::Path;

use rusqlite::{Connection, params};
use talktrack_core::error::ReadError;
use talktrack_core::store::NotedStore;
use uuid::Uuid;

use crate::local::database::{self, UuidText, parse_id, read_error, text_or_null};

/// The first schema version that notes the store and distinguishes waiting records from confirmed ones.
const NOTED_SINCE: i64 = 9;

/// Returns what the database file notes, or `None` if it is not an outbox: only its own tables were ever used, or
/// there is no file.
///
/// # Errors
/// If the file cannot be read.
pub fn read_noted_store(file: &Path) -> Result<Option<NotedStore>, ReadError> {
    if !file.is_file() {
        return Ok(None);
    }
    read_file(file).map_err(read_error)
}

fn read_file(file: &Path) -> rusqlite::Result<Option<NotedStore>> {
    let connection = database::open_to_read(file)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    // A file of an earlier version notes no store, but may still be an outbox.
    if version < NOTED_SINCE {
        let waiting = connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0))?;
        return Ok((waiting > 0).then(|| NotedStore { waiting, ..NotedStore::default() }));
    }
    read(&connection)
}

/// Returns what the open file notes, or `None` if it is not an outbox.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Option<NotedStore>> {
    let sql = "SELECT store, store_address, (SELECT count(*) FROM pending), \
               (SELECT count(*) FROM journal WHERE seq NOT IN (SELECT seq FROM pending)), \
               (SELECT count(*) FROM resend_window WHERE deletes = 1) FROM directory";
    let noted = connection.query_row(sql, [], |row| {
        let id = text_or_null(row, 0)?.as_deref().and_then(parse_id);
        // Deletions are kept for days, but another store does not need them.
        let recent = row.get::<_, u64>(3)?.saturating_sub(row.get(4)?);
        Ok(NotedStore { id, address: text_or_null(row, 1)?, waiting: row.get(2)?, recent })
    })?;
    let is_noted = noted.id.is_some() || noted.address.is_some() || noted.waiting > 0;
    Ok(is_noted.then_some(noted))
}

/// Notes a store.
pub(crate) fn note(connection: &Connection, id: Option<Uuid>, address: &str) -> rusqlite::Result<()> {
    let id = id.map(UuidText::new);
    let id = id.as_ref().map(UuidText::as_str);
    let noted = "UPDATE directory SET store = ?1, store_address = ?2";
    connection.execute(noted, params![id, address]).map(drop)
}

/// Forgets the store. From now on the store is the file's own tables, or the next remote store that is reached.
pub(crate) fn forget(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE directory SET store = NULL, store_address = NULL", []).map(drop)
}
