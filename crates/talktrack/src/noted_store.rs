//! The store that an outbox belongs to. Records in the outbox must reach no other store, so the data directory notes
//! the store's id, and its address for people.

use std::path::Path;

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::database::{self, UuidText, parse_uuid, text_or_null};
use crate::error::ReadError;

/// The command that assigns an outbox to another store.
pub(crate) const REDIRECT: &str = "talktrack outbox redirect";

/// What a data directory notes of the store whose outbox it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NotedStore {
    /// The store's id, or `None` if no store has been reached yet.
    pub id: Option<Uuid>,
    /// The address of the store, without the password.
    pub address: Option<String>,
    /// The number of records that wait for the store.
    pub waiting: u64,
    /// The number of records that the store recently confirmed. They are kept in case the store loses them (the re-send
    /// window).
    pub recent: u64,
}

impl NotedStore {
    /// Returns what the database file notes, or `None` if it is not an outbox: only its own tables were ever used, or
    /// there is no file.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn from_file(file: &Path) -> Result<Option<Self>, ReadError> {
        if !file.is_file() {
            return Ok(None);
        }
        let connection = database::open_to_read(file)?;
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        // A file of an earlier version notes no store, but may still be an outbox.
        if version < NOTED_SINCE {
            let waiting = connection.query_row("SELECT count(*) FROM journal", [], |row| row.get(0))?;
            return Ok((waiting > 0).then(|| Self { waiting, ..Self::default() }));
        }
        Ok(Self::read(&connection)?)
    }

    /// Returns what the open file notes, or `None` if it is not an outbox.
    pub(crate) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let sql = "SELECT store, store_address, (SELECT count(*) FROM pending), \
                   (SELECT count(*) FROM journal WHERE seq NOT IN (SELECT seq FROM pending)), \
                   (SELECT count(*) FROM resend_window WHERE deletes = 1) FROM directory";
        let noted = connection.query_row(sql, [], |row| {
            let id = text_or_null(row, 0)?.as_deref().and_then(parse_uuid);
            // Deletions are kept for days, but another store does not need them.
            let recent = row.get::<_, u64>(3)?.saturating_sub(row.get(4)?);
            Ok(Self { id, address: text_or_null(row, 1)?, waiting: row.get(2)?, recent })
        })?;
        let is_noted = noted.id.is_some() || noted.address.is_some() || noted.waiting > 0;
        Ok(is_noted.then_some(noted))
    }

    /// True if the file holds no record that the store may need.
    pub(crate) fn is_drained(&self) -> bool {
        self.waiting == 0 && self.recent == 0
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

    /// Returns the store's address, or a description if none is known.
    pub fn name(&self) -> &str {
        self.address.as_deref().unwrap_or("a PostgreSQL store that it has not reached yet")
    }

    /// Returns the message for settings that name no remote store.
    pub fn missing_address_message(&self) -> String {
        format!(
            "this data directory is the outbox of {}, but database_url is not set: records wait here and appear in no list until \
             it is set (DATABASE_URL, or --database-url); to make this file the store from now on, stop the server and run: \
             {REDIRECT} --local",
            self.name()
        )
    }

    /// Returns the message for settings that name another store, at this address.
    pub fn mismatch_message(&self, address: &str) -> String {
        format!(
            "database_url leads to another store ({address}) than the one whose outbox this data directory is ({}): records \
             wait here; set database_url back, or, to send the waiting records to the new store, run: {REDIRECT}",
            self.name()
        )
    }
}

/// The first schema version that notes the store and distinguishes waiting records from confirmed ones.
const NOTED_SINCE: i64 = 9;
