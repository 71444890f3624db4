//! The SQLite file: how it is opened, its schema, and how its columns spell UUIDs, times and JSON.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, ffi};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::OpenError;

/// The file in the data directory: the store, or the outbox of a remote one.
pub const FILE_NAME: &str = "talktrack.db";

/// Each file is applied once, in order; `PRAGMA user_version` says how many were.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/sqlite/0001_initial.sql"),
    include_str!("../migrations/sqlite/0002_letters_taken_out.sql"),
];

/// Pages in the write-ahead log before a commit copies them into the database file. The default of 1,000 checkpoints
/// several times a second at 1,000 messages/s, and each one delays the acknowledgements behind it.
const CHECKPOINT_PAGES: u64 = 4_000;

/// SQLite's own choice.
const PAGE_BYTES: u64 = 4_096;

/// More than a batch needs in the log.
const BATCH_BYTES: u64 = 2 << 20;

/// Opens the file for the one connection that writes, makes it where it is missing and brings its schema up to date.
pub(crate) fn open_to_write(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Database { path: path.to_owned(), source };
    let log = path.with_extension("db-wal");
    rewrite_log(&log).map_err(|source| OpenError::Io { path: log, source })?;
    let mut connection = Connection::open(path).map_err(failed)?;
    configure(&connection).map_err(failed)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    migrate(&mut connection, found).map_err(failed)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    // Whoever else writes is waited for outside: a commit that fails is tried again, and its cause is shown meanwhile.
    connection.busy_timeout(Duration::from_millis(250))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit returns after its frames are on the disk: this is what "durable" means here. No commit may wait for less, one
    // that only clears the journal neither: where a sync fails, the frames of its commit are written again, but those of
    // earlier commits are not, and behind a gap in the log everything is lost with the power.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    // The writer looks every session up once per batch, which says the same as the check per row.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Writes the log that an earlier process left once more, as it stands.
///
/// A sync may have failed there, and the process may have ended before it could write the same again. What should have been
/// synced is then still seen, but is not on the disk, and no later sync brings it there: a power cut would take it away, and
/// with it everything that comes behind it in the log.
fn rewrite_log(path: &Path) -> std::io::Result<()> {
    let mut log = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(log) => log,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let (mut part, mut at) = (vec![0; 1 << 20], 0);
    loop {
        let length = log.read(&mut part)?;
        if length == 0 {
            return log.sync_all();
        }
        log.seek(SeekFrom::Start(at))?;
        log.write_all(&part[..length])?;
        at += length as u64;
    }
}

/// Keeps the log so short that this much room is enough to copy all of it into the database file, and a batch on top.
pub(crate) fn keep_log_within(connection: &Connection, room: u64) -> rusqlite::Result<()> {
    let pages = (room.saturating_sub(BATCH_BYTES) / PAGE_BYTES).clamp(1, CHECKPOINT_PAGES);
    connection.pragma_update(None, "wal_autocheckpoint", pages)
}

/// Copies the log into the database file and gives its room back, as far as nobody reads from it.
pub(crate) fn clear_log(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

/// Whether a batch has room in what was freed inside the file, which need not grow for it then.
pub(crate) fn has_room_inside(connection: &Connection) -> rusqlite::Result<bool> {
    let free: u64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok(free * PAGE_BYTES >= BATCH_BYTES)
}

/// Whether the disk has no room. The log's index is the one file that cannot say so by itself.
pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    code.is_some_and(|(code, extended)| code == ErrorCode::DiskFull || extended == ffi::SQLITE_IOERR_SHMSIZE)
}

fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let tx = connection.transaction()?;
    for (version, sql) in (1i64..).zip(MIGRATIONS) {
        if version > from {
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", version)?;
        }
    }
    tx.commit()
}

/// Opens the file to look at it, while another process may be writing.
///
/// # Errors
/// Where there is no such file, or SQLite cannot read it.
pub(crate) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // Opened for writing only because a reader of a write-ahead log must be able to recover it.
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A UUID as the columns spell it, without an allocation.
pub(crate) struct UuidText([u8; 36]);

impl UuidText {
    pub(crate) fn new(id: Uuid) -> Self {
        let mut text = [0; 36];
        id.hyphenated().encode_lower(&mut text);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Reads a column whose text another type spells: UUIDs, times, words, JSON.
pub(crate) fn column<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    parse(text).ok_or_else(|| unreadable(index, text))
}

/// The same for a column that may be null.
pub(crate) fn column_or_null<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    let text = row.get_ref(index)?.as_str_or_null()?;
    text.map(|text| parse(text).ok_or_else(|| unreadable(index, text))).transpose()
}

pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok()
}

pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn unreadable(index: usize, text: &str) -> rusqlite::Error {
    let what = format!("cannot read {text:?}");
    rusqlite::Error::FromSqlConversionFailure(index, Type::Text, FromSqlError::Other(what.into()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_waits_for_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open_to_write(&dir.path().join(FILE_NAME)).unwrap();
        let setting = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, String>(0));
        assert_eq!(setting("journal_mode").unwrap(), "wal");
        // 2 is FULL; no test from outside can tell it from 0 without cutting the power.
        let full: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(full, 2);
    }
}
