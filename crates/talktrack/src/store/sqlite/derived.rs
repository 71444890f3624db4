//! Files beside the database that are made of its rows: whatever happens to one, it is made anew. Nothing waits until they are
//! on the disk; after a power cut one is older than it was, and as sound.

use std::path::{Path, PathBuf};
use std::{fs, io};

use parking_lot::RwLock;
use rusqlite::{Connection, OpenFlags};

use crate::database;
use crate::permissions::make_private_file;

/// Held while a file is made anew under the name of another, and while one is being opened. SQLite takes the files beside a database
/// by their names, and the locks on them do not hold within a process: a reader that has opened what is about to go would share
/// the memory of what comes, and one of the two would cut it off under the other (SIGBUS).
static NAMES: RwLock<()> = RwLock::new(());

/// Opens a derived file to read it. `open` has to read something, so that all of its files are open.
pub(super) fn opened<T>(open: impl FnOnce() -> T) -> T {
    let _stays = NAMES.read();
    open()
}

/// What such a file is like.
pub(crate) struct Derived {
    /// Added to the name of the database.
    pub(crate) name: &'static str,
    /// A file of another layout is made anew.
    pub(crate) layout: i64,
    pub(crate) schema: &'static str,
    /// What of it may be kept in memory.
    pub(crate) cache_kib: i64,
    /// What is deleted is overwritten.
    pub(crate) overwrites: bool,
}

impl Derived {
    /// Where the one of this database is.
    pub(crate) fn path_of(&self, database: &Path) -> PathBuf {
        let name = database.file_stem().unwrap_or_default().to_string_lossy();
        database.with_file_name(format!("{name}-{}.db", self.name))
    }

    /// Opens it, or makes an empty one where it is missing or of another layout.
    pub(crate) fn open(&self, path: &Path) -> rusqlite::Result<Connection> {
        let connection = self.connect(path)?;
        let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if layout == self.layout {
            return Ok(connection);
        }
        drop(connection);
        self.anew(path)
    }

    /// An empty one, whatever was there.
    pub(crate) fn anew(&self, path: &Path) -> rusqlite::Result<Connection> {
        let _nobody_opens_it = NAMES.write();
        remove(path).map_err(|error| {
            let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
            rusqlite::Error::SqliteFailure(full, Some(error.to_string()))
        })?;
        let mut connection = self.connect(path)?;
        let tx = connection.transaction()?;
        tx.execute_batch(self.schema)?;
        tx.pragma_update(None, "user_version", self.layout)?;
        tx.commit()?;
        Ok(connection)
    }

    fn connect(&self, path: &Path) -> rusqlite::Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // What cannot be made here, SQLite cannot open either, and says so.
        let _ = make_private_file(path);
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Nothing waits for the disk but the copying of the log.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cache_size", -self.cache_kib)?;
        connection.pragma_update(None, "secure_delete", self.overwrites)?;
        Ok(connection)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    for file in [path.to_owned(), database::beside(path, "-wal"), database::beside(path, "-shm")] {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    database::clear_suspicion(path);
    Ok(())
}
