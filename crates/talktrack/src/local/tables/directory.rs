//! The table `directory`: the id of this data directory among the nodes, and the store whose outbox it is, with its address
//! for people.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use rusqlite::{Connection, ToSql, params};
use talktrack_core::error::ReadError;
use talktrack_core::store::NotedStore;
use uuid::Uuid;

use crate::local::database::{self, UuidText, column, parse_id, read_error, text_or_null};
use crate::local::tables::journal;

const NOTE: &str = "UPDATE directory SET store = ?1, store_address = ?2";

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
        let waiting = journal::count(&connection)?;
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
    connection.execute(NOTE, params![id, address]).map(drop)
}

/// Notes a store with the values that a damaged file had, whatever they are.
pub(crate) fn restore(connection: &Connection, id: &dyn ToSql, address: &dyn ToSql) -> rusqlite::Result<()> {
    connection.execute(NOTE, [id, address]).map(drop)
}

/// Forgets the store. From now on the store is the file's own tables, or the next remote store that is reached.
pub(crate) fn forget(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE directory SET store = NULL, store_address = NULL", []).map(drop)
}

/// Returns the id of this data directory among the nodes that write to one store.
pub(crate) fn read_node_id(connection: &Connection) -> rusqlite::Result<Uuid> {
    connection.query_row("SELECT node FROM directory", [], |row| column(row, 0, parse_id))
}

/// Gives a copy of a file (a restored backup, a copied directory) a new node id, because the delivery numbers that a
/// store has for this node belong to the original.
pub(crate) fn renew_node_id_of_copy(connection: &Connection, path: &Path) -> rusqlite::Result<()> {
    let noted: Option<String> = connection.query_row("SELECT file FROM directory", [], |row| row.get(0))?;
    let Some(mark) = file_fingerprint(path).filter(|mark| noted.as_ref() != Some(mark)) else {
        return Ok(());
    };
    if noted.is_some() {
        let mut random = [0; 16];
        fastrand::fill(&mut random);
        let node = uuid::Builder::from_random_bytes(random).into_uuid();
        connection.execute("UPDATE directory SET node = ?1", [node.to_string()])?;
        tracing::warn!("this data directory is a copy or was restored: it gets a new node id ({node})");
    }
    connection.execute("UPDATE directory SET file = ?1", [mark]).map(drop)
}

/// Marks this file as a copy, because another server uses the same node id. The next start then assigns a new one.
pub(crate) fn give_up_node(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute("UPDATE directory SET file = 'a copy'", []).map(drop)
}

/// Returns what distinguishes a file from a copy of it: its inode, and its creation time if the file system records
/// that.
fn file_fingerprint(path: &Path) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let made = found.created().ok().and_then(|made| made.duration_since(SystemTime::UNIX_EPOCH).ok());
    Some(format!("{}:{}", found.ino(), made.map_or(0, |made| made.as_nanos())))
}
