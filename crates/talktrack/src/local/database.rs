//! The SQLite file: how it is created and opened, its schema, and how its columns encode UUIDs, times and JSON.

pub(crate) mod kept_open;
pub(crate) mod stored_columns;
pub(crate) mod users;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Row, ffi};
use talktrack_core::clock::Timestamp;
use talktrack_core::error::ReadError;
use uuid::Uuid;

use crate::error::OpenError;
use crate::permissions::{make_private_file, private_file};

/// The name of the file in the data directory. It is the store, or the outbox of a remote store.
pub const FILE_NAME: &str = "talktrack.db";

/// The migrations. Each is applied once, in order. `PRAGMA user_version` holds the number of applied ones.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_initial.sql"),
    include_str!("../../migrations/0002_letters_taken_out.sql"),
    include_str!("../../migrations/0003_changes.sql"),
    include_str!("../../migrations/0004_deleted_sessions.sql"),
    include_str!("../../migrations/0005_interruptions.sql"),
    include_str!("../../migrations/0006_stats.sql"),
    include_str!("../../migrations/0007_directory.sql"),
    include_str!("../../migrations/0008_conflicts.sql"),
    include_str!("../../migrations/0009_resend_window.sql"),
    include_str!("../../migrations/0010_extra.sql"),
    include_str!("../../migrations/0011_deletion_marks.sql"),
    include_str!("../../migrations/0012_message_deletions.sql"),
    include_str!("../../migrations/0013_users_of_deleted_sessions.sql"),
    include_str!("../../migrations/0014_letter_sizes.sql"),
    include_str!("../../migrations/0015_sessions_of_status.sql"),
    include_str!("../../migrations/0016_starts.sql"),
    include_str!("../../migrations/0017_dimensions.sql"),
    include_str!("../../migrations/0018_message_edits.sql"),
    include_str!("../../migrations/0019_users.sql"),
];

/// The number of pages in the WAL after which a commit checkpoints it. The default of 1,000 checkpoints several times a
/// second at 1,000 messages/s, and each checkpoint delays the acknowledgements behind it.
const CHECKPOINT_PAGES: u64 = 4_000;

/// SQLite's default page size.
const PAGE_BYTES: u64 = 4_096;

/// More than a batch needs in the WAL.
pub(crate) const BATCH_BYTES: u64 = 2 << 20;

/// How long the writing connection waits for the locks of other connections.
pub(crate) const BUSY: Duration = Duration::from_millis(250);

/// What an operator can do about damage.
pub(crate) const REPAIR: &str = "restart talktrack, which saves what can be read";

/// The suffix of the file that marks a database as possibly damaged.
const SUSPICION: &str = "-suspect";

/// Opens the file for the only writing connection, and migrates its schema.
pub(crate) fn open_to_write(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::database(path, source);
    let mut connection = Connection::open(path).map_err(failed)?;
    configure_connection(&connection).map_err(failed)?;
    let known = newest_version();
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if found > known {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    migrate_schema(&mut connection, found, known).map_err(failed)?;
    Ok(connection)
}

/// Creates a new file atomically: it exists as a whole or not at all. An empty or partial file was therefore not
/// created by talktrack.
pub(crate) fn create_file(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { path: path.to_owned(), source };
    let new = sibling_path(path, "-new");
    let _ = fs::remove_file(&new);
    create_draft(&new).map_err(|source| OpenError::database(path, source))?;
    let synced = File::open(&new).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::rename(&new, path)).map_err(failed)?;
    path.parent().map_or(Ok(()), sync_dir).map_err(failed)
}

/// Creates a file with the current schema that the caller completes and then moves into place. Nothing waits for the
/// disk.
pub(crate) fn create_draft(path: &Path) -> rusqlite::Result<Connection> {
    // If this fails, opening the file with SQLite fails too, and reports the error.
    let _ = make_private_file(path);
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "foreign_keys", false)?;
    migrate_schema(&mut connection, 0, newest_version())?;
    Ok(connection)
}

/// Returns the path of a file that SQLite or talktrack keeps next to the database: the database's path plus this
/// suffix.
pub(crate) fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}

/// Waits until the directory entry of a new or renamed file is on disk.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let here = dir.as_os_str().is_empty();
    File::open(if here { Path::new(".") } else { dir })?.sync_all()
}

fn configure_connection(connection: &Connection) -> rusqlite::Result<()> {
    // Longer waits for other writers happen outside SQLite: a failed commit is retried, and its cause is reported
    // meanwhile.
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit returns after its frames are on disk: this is what "durable" means here. Every commit needs this, even
    // one that only clears the journal. If a sync fails, SQLite writes the frames of that commit again, but not those
    // of earlier commits, and everything behind a gap in the WAL is lost in a power failure.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    connection.pragma_update(None, "cache_size", -32_768)?;
    set_secure_delete(connection, true)?;
    // The writer looks up each session once per batch, which is equivalent to the check per row.
    connection.pragma_update(None, "foreign_keys", false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

/// Rewrites the WAL that an earlier process left, unchanged, before anything is appended to it.
///
/// A sync may have failed in that process, and the process may have ended before it could write the same frames again.
/// Reads then still return these frames although they are not on disk, and no later sync writes them. A power failure
/// would lose them, and with them everything behind them in the WAL.
pub(crate) fn rewrite_wal(path: &Path) -> Result<(), OpenError> {
    let log = sibling_path(path, "-wal");
    match OpenOptions::new().read(true).write(true).open(&log) {
        Ok(file) => rewrite_file(file),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
    .map_err(|source| OpenError::Io { path: log, source })
}

fn rewrite_file(mut file: File) -> io::Result<()> {
    let mut part = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let length = file.read(&mut part)?;
        if length == 0 {
            return file.sync_all();
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&part[..length])?;
        at += length as u64;
    }
}

/// Limits the WAL so that `room` bytes are enough to checkpoint all of it into the database file, plus one batch.
pub(crate) fn limit_wal(connection: &Connection, room: u64) -> rusqlite::Result<()> {
    let pages = (room.saturating_sub(BATCH_BYTES) / PAGE_BYTES).clamp(1, CHECKPOINT_PAGES);
    connection.pragma_update(None, "wal_autocheckpoint", pages)?;
    // SQLite shortens a longer file with the first commit after a checkpoint. Without this, a WAL that grew while a reader
    // used it would keep its space.
    connection.pragma_update(None, "journal_size_limit", pages * PAGE_BYTES + BATCH_BYTES)
}

/// Checkpoints the WAL into the database file and truncates it. Returns false if a reader still uses the WAL.
pub(crate) fn checkpoint_truncate(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0)).map(|busy| !busy)
}

/// True if a batch fits into the free pages inside the file, so that the file need not grow.
pub(crate) fn has_free_pages(connection: &Connection) -> rusqlite::Result<bool> {
    let free: u64 = connection.pragma_query_value(None, "freelist_count", |row| row.get(0))?;
    Ok(free * PAGE_BYTES >= BATCH_BYTES)
}

/// True if the disk is full. The WAL index is the only file that reports this with another error code.
pub(crate) fn is_disk_full(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    code.is_some_and(|(code, extended)| code == ErrorCode::DiskFull || extended == ffi::SQLITE_IOERR_SHMSIZE)
}

/// Overwrites the bytes of deleted data. With `pages_too`, this includes pages that become free, which needs space in
/// the WAL. Without it, only the free space inside used pages is overwritten, which needs none.
pub(crate) fn set_secure_delete(connection: &Connection, pages_too: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "secure_delete", if pages_too { "ON" } else { "FAST" })
}

fn migrate_schema(connection: &mut Connection, from: i64, to: i64) -> rusqlite::Result<()> {
    let tx = connection.transaction()?;
    for (version, sql) in (1i64..).zip(MIGRATIONS) {
        if version > from && version <= to {
            tx.execute_batch(sql)?;
            tx.pragma_update(None, "user_version", version)?;
        }
    }
    tx.commit()
}

/// Returns the name, the table and the SQL of each table and index of a file.
pub(crate) fn schema_of(connection: &Connection) -> rusqlite::Result<Vec<[Option<String>; 3]>> {
    let mut objects = connection.prepare("SELECT name, tbl_name, sql FROM sqlite_schema")?;
    let words = |row: &Row<'_>| Ok([text_or_null(row, 0)?, text_or_null(row, 1)?, text_or_null(row, 2)?]);
    objects.query_map([], words)?.collect()
}

/// Returns the schema that a new file of this version would have.
pub(crate) fn schema_of_version(version: i64) -> rusqlite::Result<Vec<[Option<String>; 3]>> {
    let mut connection = Connection::open_in_memory()?;
    migrate_schema(&mut connection, 0, version)?;
    schema_of(&connection)
}

/// Returns the newest version of the schema.
pub(crate) fn newest_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Notes damage of the connection's file for the next start of the process that writes the file.
pub(crate) fn note_damage(connection: &Connection, damage: &str) {
    connection.path().iter().for_each(|path| mark_suspect(Path::new(path), damage));
}

/// Returns the message for an error that says the file is damaged. Only a start can repair the file, so this also
/// leaves the mark that makes the next start check it.
pub(crate) fn describe_damage(connection: &Connection, error: &rusqlite::Error) -> Option<String> {
    is_damage(error).then(|| {
        note_damage(connection, &error.to_string());
        format!("the database file is damaged ({error}); {REPAIR}")
    })
}

/// True if an error says that the file's content is damaged. Every other error has a cause outside the file.
pub(crate) fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error();
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        || code.is_some_and(|code| code.extended_code == ffi::SQLITE_IOERR_SHORT_READ)
}

/// Converts the error of a query. It keeps the cause as text, which names neither rows nor values.
pub(crate) fn read_error(error: rusqlite::Error) -> ReadError {
    if is_damage(&error) { ReadError::damaged(error) } else { ReadError::unavailable(error) }
}

/// Leaves a mark next to the file that it may be damaged, so that the next start checks every page. If the mark cannot
/// be written, a small file is checked anyway.
pub(crate) fn mark_suspect(path: &Path, damage: &str) {
    let note = private_file().write(true).create(true).truncate(true).open(sibling_path(path, SUSPICION));
    let _ = note.and_then(|mut note| note.write_all(damage.as_bytes()));
}

pub(crate) fn is_suspect(path: &Path) -> bool {
    sibling_path(path, SUSPICION).exists()
}

/// Removes the mark, because the file was checked and is sound.
pub(crate) fn clear_suspicion(path: &Path) {
    let _ = fs::remove_file(sibling_path(path, SUSPICION));
}

/// Opens the file for reading while another process may be writing.
///
/// # Errors
/// If there is no such file, or SQLite cannot read it.
pub(crate) fn open_to_read(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    // The file is opened for writing only because a reader of a WAL must be able to recover it.
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A UUID as text, as the columns hold it, without an allocation.
pub(crate) struct UuidText([u8; 36]);

impl UuidText {
    pub(crate) fn new(id: impl Into<Uuid>) -> Self {
        let mut text = [0; 36];
        id.into().hyphenated().encode_lower(&mut text);
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Reads a text column and parses it (UUIDs, times, words, JSON).
pub(crate) fn column<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    parse(text).ok_or_else(|| unreadable_column(index, text))
}

/// Reads a nullable text column and parses it. A damaged value is read as `None`, because the rest of the row is worth
/// more.
pub(crate) fn column_or_null<T>(
    row: &Row<'_>,
    index: usize,
    parse: impl Fn(&str) -> Option<T>,
) -> rusqlite::Result<Option<T>> {
    Ok(text_or_null(row, index)?.as_deref().and_then(parse))
}

/// Reads a nullable text column. A damaged byte is replaced by U+FFFD, so that the row stays readable.
pub(crate) fn text_or_null(row: &Row<'_>, index: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(index)? {
        ValueRef::Null => None,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
    })
}

/// Reads a text column that is never null.
pub(crate) fn text(row: &Row<'_>, index: usize) -> rusqlite::Result<String> {
    text_or_null(row, index).map(Option::unwrap_or_default)
}

pub(crate) fn parse_id<T: From<Uuid>>(text: &str) -> Option<T> {
    Uuid::try_parse(text).ok().map(T::from)
}

pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

fn unreadable_column(index: usize, text: &str) -> rusqlite::Error {
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
        // 2 is FULL. No test from outside can tell it from 0 without a power failure.
        let full: i64 = connection.pragma_query_value(None, "synchronous", |row| row.get(0)).unwrap();
        assert_eq!(full, 2);
    }
}
