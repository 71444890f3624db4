//! Why a tracker could not be opened.

use std::path::{Path, PathBuf};

/// Why a tracker could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has locked the data directory.
    #[error("{} is in use by {holder}; stop it, or choose another data_dir", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },
    /// The data directory cannot be created or written.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The path that failed.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The database file was written by a newer talktrack.
    #[error("{} has schema version {found}, this talktrack knows up to {known}; use a newer talktrack", path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// The schema version of the file.
        found: i64,
        /// The newest version that this build can read.
        known: i64,
    },
    /// The database file may be in use through another directory, or it is not a file.
    #[error("{} {problem}", path.display())]
    UnusableFile {
        /// The database file.
        path: PathBuf,
        /// What is wrong with the file, and what to do.
        problem: String,
    },
    /// The disk is full. Even the disk reserve is not enough to open the database file.
    #[error("cannot open {}: its disk is full; make room there", path.display())]
    DiskFull {
        /// The database file.
        path: PathBuf,
    },
    /// The database file is damaged, and its readable contents cannot be copied into a new file. Nothing was deleted: the
    /// broken files are at their paths. If only the last step failed, they may be in a subdirectory of `quarantine` next to
    /// these, together with the complete new file, which the next start puts into place.
    #[error("{} is damaged ({damage}), and its readable content cannot be copied into a new file: {source}; nothing was deleted: \
             the broken files are at their paths, or in the directory quarantine next to them; remove the cause (the copy needs \
             as much room as the file, in the same directory), and start again", path.display())]
    Salvage {
        /// The database file.
        path: PathBuf,
        /// The damage that was found.
        damage: String,
        /// Why the contents cannot be copied.
        source: std::io::Error,
    },
    /// The database file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// The error of SQLite.
        source: DatabaseError,
    },
}

impl OpenError {
    /// Creates the error for a database file that SQLite cannot use.
    pub(crate) fn database(path: &Path, source: rusqlite::Error) -> Self {
        Self::Database { path: path.to_owned(), source: DatabaseError(source) }
    }
}

/// An error of SQLite. Its text says what went wrong.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(rusqlite::Error);

impl DatabaseError {
    /// Returns the error of SQLite. The library that reports it is not part of talktrack's API.
    pub(crate) fn sqlite(&self) -> &rusqlite::Error {
        &self.0
    }
}
