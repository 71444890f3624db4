//! Whether the file is sound. What costs little is looked at every time; every page only where the file is small, or where
//! somebody has met damage in it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::database::{self, kept_open};
use crate::salvage::bytes::be32;
use crate::salvage::pages::FILE_HEADER;
use crate::salvage::totals;
use crate::salvage::wal::Log;

/// A file up to this size is checked as a whole at each start: half a second on the slow machine where it was measured
/// (115 MB/s). A larger one is where something was found: by a write, a read or `talktrack verify`.
const SMALL: u64 = 64 << 20;

/// What is wrong with the file; `None` where it is sound, or not there yet.
pub(super) fn damage(path: &Path) -> io::Result<Result<Option<String>, rusqlite::Error>> {
    if is_open_here(path) {
        return Ok(Ok(None));
    }
    let log = Log::read(path)?;
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let left = log.has_pages();
            return Ok(Ok(left
                .then(|| "it is gone, only its write-ahead log is there".into())
                .or(log.damage)));
        }
        Err(error) => return Err(error),
    };
    let named = path.file_name().is_some_and(|name| name == database::FILE_NAME);
    if length == 0 && log.damage.is_none() && !log.has_pages() && !named {
        // Somebody has made an empty file to have it filled. The one with our name is never empty.
        return Ok(Ok(None));
    }
    let found = log.damage.or(header(path)?);
    if found.is_some() {
        return Ok(Ok(found));
    }
    let thorough = length <= SMALL || database::is_suspect(path);
    Ok(match examine(path, thorough) {
        Err(error) if database::is_damage(&error) => Ok(Some(error.to_string())),
        examined => examined,
    })
}

/// Whether this process has the file open already, for a reader. Then it is not looked at: closing a file takes away every
/// lock on it that the process has (as POSIX wants it), and SQLite would go on believing in the reader's.
fn is_open_here(path: &Path) -> bool {
    let Ok(file) = std::fs::metadata(path) else { return false };
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // Nothing that SQLite has open.
    let open = open.filter(|entry| !kept_open::is_one(&entry.file_name().to_string_lossy()));
    let mut open = open.filter_map(|entry| std::fs::metadata(entry.path()).ok());
    open.any(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
}

/// What SQLite would not say, or say as if it were somebody's intention.
fn header(path: &Path) -> io::Result<Option<String>> {
    let mut header = [0; FILE_HEADER];
    if let Err(error) = File::open(path)?.read_exact_at(&mut header, 0) {
        let short = error.kind() == io::ErrorKind::UnexpectedEof;
        return if short {
            Ok(Some("it is shorter than the header of a database".into()))
        } else {
            Err(error)
        };
    }
    let format = header[18] <= 2 && header[19] <= 2 && header[20] == 0 && header[21..24] == [64, 32, 32];
    let sound = header.starts_with(b"SQLite format 3\0")
        && format
        && be32(&header, 44) <= 4
        && be32(&header, 56) == 1;
    Ok((!sound).then(|| "its header is broken".into()))
}

fn examine(path: &Path, thorough: bool) -> rusqlite::Result<Option<String>> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // Whoever only looks changes nothing: broken files are kept as they are.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    if let Some(problem) = schema(&connection)? {
        return Ok(Some(problem));
    }
    if thorough {
        connection.pragma_update(None, "cell_size_check", true)?;
        // A word that another program wrote breaks a check of the schema: that is no damage.
        connection.pragma_update(None, "ignore_check_constraints", true)?;
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        let found = found.lines().map(str::trim).collect::<Vec<_>>().join(": ");
        return Ok((found != "ok").then_some(found));
    }
    Ok(None)
}

/// Each table and index is there in the words in which it was made, and the books have their row.
fn schema(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found = database::schema_of(connection)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > database::newest_version() {
        // A newer talktrack's: it knows what its schema should be, and whoever opens the file will say so.
        return Ok(None);
    }
    // No version is below zero; what a header with a broken byte says can be.
    if version <= 0 {
        // Somebody else's database, or none yet; the tables of ours come with their version.
        let newest = database::schema_of_version(i64::MAX)?;
        let has_ours = newest.iter().any(|object| found.contains(object));
        return Ok(has_ours.then(|| "its schema has lost its version".into()));
    }
    let ours = database::schema_of_version(version)?;
    if ours.iter().any(|object| !found.contains(object)) {
        return Ok(Some("its schema is not what was written".into()));
    }
    Ok((!totals::are_sound(connection)?).then(|| "the books cannot be read".into()))
}
