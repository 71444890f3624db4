//! Derived files: databases next to the main one that are built from its rows. If one is missing or
//! damaged, it is rebuilt. Commits do not wait for the disk: after a power cut a derived file may be older,
//! but it is consistent.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use parking_lot::RwLock;
use rusqlite::{Connection, OpenFlags};

use crate::local::database;
use crate::local::reader_pool::PooledConnection;
use crate::permissions::make_private_file;

/// The write lock is held while a file is replaced by an empty one of the same name, the read lock while a
/// file is opened. SQLite finds the `-wal` and `-shm` files by name, and its file locks do not protect
/// within one process: a reader that has opened the old file would share memory with the new one, and one
/// of the two could truncate it under the other (SIGBUS).
static FILE_REPLACEMENT: RwLock<()> = RwLock::new(());

/// A connection that has a derived file open for reading.
#[derive(Debug)]
pub(super) struct DerivedReader {
    connection: Connection,
    file: PathBuf,
    /// The inode of the file that the connection has open. Another file may have replaced it since.
    inode: u64,
}

impl DerivedReader {
    /// Opens the file. `connect` must read something from it, so that all of its files are open.
    ///
    /// # Errors
    /// If the file does not exist, or if `connect` fails.
    pub(super) fn open(
        file: PathBuf,
        connect: impl FnOnce(&Path) -> rusqlite::Result<Connection>,
    ) -> rusqlite::Result<Self> {
        let _shared = FILE_REPLACEMENT.read();
        let connection = connect(&file)?;
        let inode = read_inode(&file).ok_or_else(|| rusqlite::Error::InvalidPath(file.clone()))?;
        Ok(Self { connection, file, inode })
    }

    /// The path of the derived file.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }
}

impl PooledConnection for DerivedReader {
    fn connection(&self) -> &Connection {
        &self.connection
    }

    fn is_current(&self) -> bool {
        read_inode(&self.file) == Some(self.inode)
    }
}

fn read_inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

/// The properties of a derived file.
pub(crate) struct DerivedFile {
    /// The suffix that is added to the name of the database.
    pub(crate) name: &'static str,
    /// The version of the layout. A file with a different layout is rebuilt.
    pub(crate) layout: i64,
    pub(crate) schema: &'static str,
    /// The page cache in KiB.
    pub(crate) cache_kib: i64,
    /// True if deleted content is overwritten.
    pub(crate) overwrites: bool,
}

impl DerivedFile {
    /// Returns the path of the derived file of this database.
    pub(crate) fn path_of(&self, database: &Path) -> PathBuf {
        let name = database.file_stem().unwrap_or_default().to_string_lossy();
        database.with_file_name(format!("{name}-{}.db", self.name))
    }

    /// Opens the file. Creates an empty one if it is missing or has a different layout.
    pub(crate) fn open(&self, path: &Path) -> rusqlite::Result<Connection> {
        let connection = self.connect(path)?;
        let layout: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if layout == self.layout {
            return Ok(connection);
        }
        drop(connection);
        self.recreate(path)
    }

    /// Replaces the file, if it exists, with an empty one.
    pub(crate) fn recreate(&self, path: &Path) -> rusqlite::Result<Connection> {
        let _exclusive = FILE_REPLACEMENT.write();
        remove_files(path).map_err(|error| {
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
        // If the file cannot be created here, SQLite cannot open it either and reports why.
        let _ = make_private_file(path);
        let connection = Connection::open_with_flags(path, flags)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // Only checkpoints of the WAL wait for the disk.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
        connection.pragma_update(None, "cache_size", -self.cache_kib)?;
        connection.pragma_update(None, "secure_delete", self.overwrites)?;
        Ok(connection)
    }
}

fn remove_files(path: &Path) -> io::Result<()> {
    for file in [path.to_owned(), database::sibling_path(path, "-wal"), database::sibling_path(path, "-shm")]
    {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    database::clear_suspicion(path);
    Ok(())
}
