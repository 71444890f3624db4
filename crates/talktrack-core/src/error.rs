//! Errors: refusals before acceptance (the caller gets everything back), refusals after it (accepted, never durable),
//! and failures to read.

use std::borrow::Cow;

use crate::error_code::ErrorCode;

/// A field that violates the contract, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
#[non_exhaustive]
pub struct Invalid {
    /// The field's name on the wire.
    pub field: Cow<'static, str>,
    /// What is wrong with the field, as a clause that follows the field's name.
    pub problem: Cow<'static, str>,
}

impl Invalid {
    /// Creates the error from a field and its problem.
    pub fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), problem: problem.into() }
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
    /// `extra` of the message is longer than 64 KiB. Omit fields, or use shorter values.
    #[error("extra: has {size} bytes, the limit is {limit}")]
    ExtraTooLarge {
        /// The size of `extra` in bytes.
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
            Self::TooLarge { .. } | Self::ExtraTooLarge { .. } | Self::MetadataTooLarge { .. } => {
                ErrorCode::TooLarge
            }
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
    #[error("the session or this message was deleted; it is not stored again")]
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

/// A query to the store failed. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read from the store: {source}")]
#[non_exhaustive]
pub struct ReadError {
    /// What a caller can do about it.
    pub kind: ReadErrorKind,
    /// The cause.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a caller can do about a [`ReadError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadErrorKind {
    /// The store cannot be reached, or did not answer in time. Try again.
    Unavailable,
    /// The store is damaged, or holds a value that cannot be read. An operator has to act; the text says how.
    Damaged,
    /// The store does not answer this query. Do not retry.
    Unsupported,
}

impl ReadError {
    /// Creates an error of this kind.
    pub fn new(kind: ReadErrorKind, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind, source: source.into() }
    }

    /// Creates the error of a store that cannot be reached, or did not answer in time.
    pub fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ReadErrorKind::Unavailable, source)
    }

    /// Creates the error of a store that is damaged, or holds a value that cannot be read.
    pub fn damaged(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ReadErrorKind::Damaged, source)
    }

    /// Creates the error of a store that does not answer this query.
    pub fn unsupported(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(ReadErrorKind::Unsupported, source)
    }
}
