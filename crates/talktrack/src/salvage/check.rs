//! Checks the file for damage. Cheap checks run at every start; all pages are checked only if the file is
//! small, or if damage was reported before.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::local::database::{self, kept_open};
use crate::salvage::{read_damaged, totals};

/// The largest file that is checked completely at each start: half a second on the slow machine used for
/// the measurement (115 MB/s). A larger file is checked completely after a write, a read or
/// `talktrack verify` has met damage.
const SMALL: u64 = 64 << 20;

/// The bytes of the file's header.
const FILE_HEADER: usize = 100;

/// The result of a check.
#[derive(Debug)]
pub(super) enum Finding {
    /// The file is sound, or does not exist yet.
    Sound,
    /// The file is damaged, with a description of the damage.
    Damaged(String),
    /// SQLite cannot open the file, and damage is not the reason.
    Unusable(rusqlite::Error),
}

impl Finding {
    fn new(damage: Option<String>) -> Self {
        damage.map_or(Self::Sound, Self::Damaged)
    }
}

/// Checks the file and its write-ahead log.
pub(super) fn find_damage(path: &Path) -> io::Result<Finding> {
    if is_open_here(path) {
        return Ok(Finding::Sound);
    }
    let log = examine_log(path)?;
    let length = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let left = log.has_pages;
            return Ok(Finding::new(
                left.then(|| "the file is missing, only its write-ahead log exists".into()).or(log.damage),
            ));
        }
        Err(error) => return Err(error),
    };
    let named = path.file_name().is_some_and(|name| name == database::FILE_NAME);
    if length == 0 && log.damage.is_none() && !log.has_pages && !named {
        // An empty file that someone created to be filled. A file with talktrack's own name is never empty.
        return Ok(Finding::Sound);
    }
    if let Some(damage) = log.damage.or(check_header(path)?) {
        return Ok(Finding::Damaged(damage));
    }
    let thorough = length <= SMALL || database::is_suspect(path);
    Ok(match check_database(path, thorough) {
        Ok(damage) => Finding::new(damage),
        Err(error) if database::is_damage(&error) => Finding::Damaged(error.to_string()),
        Err(error) => Finding::Unusable(error),
    })
}

/// What the write-ahead log has.
#[derive(Debug, Default)]
struct LogState {
    has_pages: bool,
    /// Damage because of which SQLite would lose acknowledged messages.
    damage: Option<String>,
}

fn examine_log(path: &Path) -> io::Result<LogState> {
    let database = match read_damaged(path) {
        Ok(database) => database,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(LogState::default()),
        Err(error) => return Err(error),
    };
    let wal = database.wal();
    let torn = wal.torn_frames();
    if torn > 0 {
        tracing::warn!("the write-ahead log ends in {torn} frames of a transaction that was never completed");
    }
    let damage = wal.damage().map(|damage| damage.to_string());
    Ok(LogState { has_pages: wal.page_count() > 0, damage })
}

/// True if this process already has the file open for a reader. Then the file is not checked: closing any
/// descriptor of a file releases all locks of the process on it (POSIX), while SQLite would still rely on
/// the reader's locks.
fn is_open_here(path: &Path) -> bool {
    let Ok(file) = std::fs::metadata(path) else { return false };
    let open = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    // The descriptors of `kept_open` do not count: SQLite does not use them.
    let open = open.filter(|entry| !kept_open::contains(&entry.file_name().to_string_lossy()));
    let mut open = open.filter_map(|entry| std::fs::metadata(entry.path()).ok());
    open.any(|other| (other.dev(), other.ino()) == (file.dev(), file.ino()))
}

/// Checks the header for damage that SQLite would not report, or would take for an intention.
fn check_header(path: &Path) -> io::Result<Option<String>> {
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
        && matches!(header[44..48], [0, 0, 0, 0..=4])
        && header[56..60] == [0, 0, 0, 1];
    Ok((!sound).then(|| "its header is broken".into()))
}

fn check_database(path: &Path, thorough: bool) -> rusqlite::Result<Option<String>> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    // The check changes nothing: broken files are kept unchanged.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    if let Some(problem) = check_schema(&connection)? {
        return Ok(Some(problem));
    }
    if thorough {
        connection.pragma_update(None, "cell_size_check", true)?;
        // A word that another program wrote may violate a check of the schema. That is not damage.
        connection.pragma_update(None, "ignore_check_constraints", true)?;
        let found: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        let found = found.lines().map(str::trim).collect::<Vec<_>>().join(": ");
        return Ok((found != "ok").then_some(found));
    }
    Ok(None)
}

/// Checks that each table and index exists with its original definition, and that the books have their row.
fn check_schema(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let found = database::schema_of(connection)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > database::newest_version() {
        // The schema is of a newer talktrack. This version cannot judge it and reports that when it opens
        // the file.
        return Ok(None);
    }
    // No version is negative, but a damaged header can contain a negative one.
    if version <= 0 {
        // A database of another program, or a new one: talktrack's tables always come with a version.
        let newest = database::schema_of_version(database::newest_version())?;
        let has_ours = newest.iter().any(|object| found.contains(object));
        return Ok(has_ours.then(|| "its schema version is missing".into()));
    }
    let ours = database::schema_of_version(version)?;
    if ours.iter().any(|object| !found.contains(object)) {
        return Ok(Some("its schema differs from what talktrack wrote".into()));
    }
    Ok((!totals::are_sound(connection)?).then(|| "the books cannot be read".into()))
}
