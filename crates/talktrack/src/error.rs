//! Errors: refusals before acceptance (the caller gets everything back), refusals after it (accepted, never durable),
//! and failures to open or read.

use std::borrow::Cow;
use std::path::PathBuf;

use crate::error_code::ErrorCode;

/// A field that violates the contract, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What is wrong with the field, as a clause that follows the field's name.
    pub problem: Cow<'static, str>,
}

impl Invalid {
    /// Creates the error from a field and its problem.
    pub fn new(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// Why the tracker did not accept something. Each reason has a counter, `talktrack_messages_refused_total{reason}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A field violates the contract. Correct it: a retry without a change fails again.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The message is larger than `max_message_bytes`. Split it.
    #[error("the message has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// The size of all text fields together, in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The session's metadata would be longer than 64 KiB. Omit keys, or use shorter values.
    #[error("the session's metadata would have {size} bytes, the limit is {limit}")]
    MetadataTooLarge {
        /// The size of the merged metadata in bytes. It includes only what this process knows of them.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Messages arrive faster than the disk can commit them (backpressure). Retry after a moment.
    #[error("the queue is full; try again in a moment")]
    QueueFull,
    /// The journal has reached `journal_max_bytes`, or its disk is full. Retry when there is room.
    #[error("the journal is full; try again once there is room")]
    JournalFull,
    /// The data directory, or a file in it that talktrack has open, was deleted or replaced. Nothing can become durable
    /// until it is restored or talktrack is restarted. Keep the message and send it again then, or send it to another
    /// node.
    #[error(
        "the data directory or its database was deleted or replaced while talktrack runs; put it back or restart talktrack"
    )]
    FilesReplaced,
    /// This process was forked from the one that opened the tracker. The threads that write exist only in the parent.
    /// Open another tracker after the fork, on a data directory of its own.
    #[error(
        "this process was forked from the one that opened the tracker; open a new tracker after the fork"
    )]
    Forked,
    /// The tracker is shutting down. Use another node, or this one after its restart.
    #[error("shutting down")]
    ShuttingDown,
}

impl Reason {
    /// Returns the code that the wire protocol, the HTTP API and the counter use.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid(_) => ErrorCode::InvalidMessage,
            Self::TooLarge { .. } | Self::MetadataTooLarge { .. } => ErrorCode::TooLarge,
            Self::QueueFull => ErrorCode::QueueFull,
            Self::JournalFull | Self::FilesReplaced => ErrorCode::JournalFull,
            Self::Forked => ErrorCode::Unsupported,
            Self::ShuttingDown => ErrorCode::ShuttingDown,
        }
    }
}

/// A refusal before acceptance. It returns what was handed over.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused<T> {
    /// The reason of the refusal.
    pub reason: Reason,
    /// What was refused, unchanged.
    pub returned: T,
}

/// Why an accepted record did not become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDurable {
    /// The same id exists with other content. Use a new id, or a higher revision.
    #[error("the id is taken by a message with other content; a change needs a higher revision")]
    IdConflict,
    /// A user's token can revise only messages that a user's token wrote. Do not retry.
    #[error("a user's token can revise only messages that a user's token wrote")]
    NotTheirs,
    /// The session belongs to another user.
    #[error("the session belongs to another user")]
    OtherUser,
    /// No session with this id is stored.
    #[error("no such session")]
    UnknownSession,
    /// The session's metadata would be longer than 64 KiB. Omit keys, or use shorter values.
    #[error("the session's metadata would be longer than the limit of 64 KiB")]
    MetadataTooLarge,
    /// The session was deleted and accepts no more records: use another session. Or this message was deleted, and the
    /// same id is not stored again.
    #[error("the session was deleted; it accepts no more records")]
    Deleted,
    /// The tracker stopped before the record was on disk. Send it again.
    #[error("talktrack stopped before the record was durable; send it again")]
    Stopped,
    /// The receipt was awaited so late that the answer is forgotten (65,536 refusals came after it). Send the record
    /// again: its id makes that safe.
    #[error("the receipt was awaited too late, and the outcome is forgotten; send the record again")]
    Forgotten,
}

impl NotDurable {
    /// Returns the code that the wire protocol, the HTTP API and the counter use.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::IdConflict => ErrorCode::IdConflict,
            Self::NotTheirs | Self::OtherUser => ErrorCode::Forbidden,
            Self::UnknownSession => ErrorCode::SessionNotFound,
            Self::MetadataTooLarge => ErrorCode::TooLarge,
            Self::Deleted => ErrorCode::Deleted,
            Self::Stopped => ErrorCode::ShuttingDown,
            Self::Forgotten => ErrorCode::Timeout,
        }
    }
}

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
    /// The database file may be in use through another directory.
    #[error("{} {problem}", path.display())]
    SharedFile {
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
    /// The database file is damaged, and its readable contents cannot be copied into a new file. Nothing was changed.
    #[error("{} is damaged ({damage}), and its readable content cannot be copied into a new file: {source}; nothing was changed; \
             make room for a second file of the same size in its directory, and start again", path.display())]
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
        source: rusqlite::Error,
    },
}

/// A query to the store failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read from the store: {0}")]
pub struct ReadError(pub String);

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}
