//! Refusals: at the door (nothing was accepted, the caller has everything back) and after it (accepted, never durable).

use std::borrow::Cow;
use std::path::PathBuf;

/// A field that breaks the contract, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What is wrong with it, as a clause that follows the field's name.
    pub problem: Cow<'static, str>,
}

impl Invalid {
    /// Names a field and its problem.
    pub fn new(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// Why the tracker refused at the door. Each has a counter, `talktrack_messages_refused_total{reason}`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// A field breaks the contract. Mend it; trying again as it is will not help.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// Larger than `max_message_bytes`. Split it.
    #[error("the message has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes, all text fields together.
        size: usize,
        /// The limit in force.
        limit: usize,
    },
    /// The session's metadata would be longer than 64 KiB. Leave keys out, or replace them by shorter ones.
    #[error("the session's metadata would have {size} bytes, the limit is {limit}")]
    MetadataTooLarge {
        /// Their size in bytes with the keys that were given, as far as this process knows them.
        size: usize,
        /// The limit in force.
        limit: usize,
    },
    /// More is coming in than the disk takes. Try again in a moment.
    #[error("the queue is full; try again in a moment")]
    QueueFull,
    /// The journal has reached `journal_max_bytes`, or its disk is full. Try again once there is room.
    #[error("the journal is full; try again once there is room")]
    JournalFull,
    /// The data directory, or a file in it that talktrack has open, was deleted or replaced. Nothing can become durable until it
    /// is put back or talktrack is restarted. Keep the message and send it again then, or send it to another node.
    #[error(
        "the data directory or its database was deleted or replaced while talktrack runs; put it back or restart talktrack"
    )]
    GroundLost,
    /// This process was forked from the one that opened the tracker; the threads that write stayed there. Open another tracker
    /// after the fork, on a data directory of its own.
    #[error("this process was forked from the one that opened the tracker; open another one after the fork")]
    Forked,
    /// The tracker is shutting down. Try another node, or this one after its restart.
    #[error("shutting down")]
    ShuttingDown,
}

impl Reason {
    /// The code that the wire, the HTTP API and the counter use.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "invalid_message",
            Self::TooLarge { .. } | Self::MetadataTooLarge { .. } => "too_large",
            Self::QueueFull => "queue_full",
            Self::JournalFull | Self::GroundLost => "journal_full",
            Self::Forked => "internal",
            Self::ShuttingDown => "shutting_down",
        }
    }
}

/// A refusal at the door: what was handed over comes back whole.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused<T> {
    /// Why.
    pub reason: Reason,
    /// What was refused, as it came.
    pub returned: T,
}

/// Why something accepted did not become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDurable {
    /// The same id is there with other content. Use a new id, or a higher revision.
    #[error("the id is taken by a message with other content; a change needs a higher revision")]
    IdConflict,
    /// A user's token revises only what a user's token wrote. Leave the message as it is.
    #[error("a user's token revises only what a user's token wrote")]
    NotTheirs,
    /// The session belongs to another user.
    #[error("the session belongs to another user")]
    OtherUser,
    /// No session with this id is stored.
    #[error("no such session")]
    UnknownSession,
    /// The session's metadata would be longer than 64 KiB. Leave keys out, or replace them by shorter ones.
    #[error("the session's metadata would be longer than the limit of 64 KiB")]
    MetadataTooLarge,
    /// The session was deleted, and nothing of it is kept any more: use another session. Or this message was, and does not come
    /// back.
    #[error("the session was deleted; nothing more of it is kept")]
    Deleted,
    /// The tracker stopped before the disk had it. Hand it over again.
    #[error("talktrack stopped before it was durable")]
    Stopped,
    /// Asked so late that the answer is forgotten (65,536 refusals came after). Hand it over again: ids make that safe.
    #[error("asked too late to know; hand it over again")]
    Forgotten,
}

impl NotDurable {
    /// The code that the wire, the HTTP API and the counter use.
    pub fn code(self) -> &'static str {
        match self {
            Self::IdConflict => "id_conflict",
            Self::NotTheirs | Self::OtherUser => "forbidden",
            Self::UnknownSession => "session_not_found",
            Self::MetadataTooLarge => "too_large",
            Self::Deleted => "deleted",
            Self::Stopped => "shutting_down",
            Self::Forgotten => "internal",
        }
    }
}

/// Why a tracker could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has the data directory.
    #[error("{} is in use by {holder}; stop it, or choose another data_dir", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// What the holder wrote into the lock file.
        holder: String,
    },
    /// The data directory cannot be made or written.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The path that failed.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The database file was written by a newer talktrack.
    #[error("{} has schema version {found}, this talktrack knows up to {known}; use a newer talktrack", path.display())]
    NewerSchema {
        /// The database file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest version this build can read.
        known: i64,
    },
    /// The database file may be in use through another directory.
    #[error("{} {problem}", path.display())]
    Ground {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Not even the room kept back on the disk is enough to open the database file.
    #[error("cannot open {}: its disk is full; make room there", path.display())]
    DiskFull {
        /// The database file.
        path: PathBuf,
    },
    /// The database file is damaged, and what can be read of it cannot be brought into a new one. Nothing was changed.
    #[error("{} is damaged ({damage}), and what can be read of it cannot be saved now: {source}; nothing was changed; \
             make room for a second file of its size beside it, and start again", path.display())]
    Salvage {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        damage: String,
        /// Why it cannot be saved.
        source: std::io::Error,
    },
    /// The database file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A question to the store that could not be answered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read from the store: {0}")]
pub struct ReadError(pub String);

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}
