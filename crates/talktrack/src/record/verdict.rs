//! What became of a record: the answer of the place that wrote it.

use serde::{Deserialize, Serialize};

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::record::{Removed, RemovedRows};

/// What became of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A message's row was written.
    Inserted,
    /// A message's row was written, and its session, whose end nobody had spoken, goes on.
    Reopened(Reopened),
    /// A message's row was replaced by a later revision.
    Revised,
    /// The same message, or a later revision of it, was there already: nothing to do.
    AlreadyThere,
    /// It lies in the journal, on its way to the store.
    Journaled,
    /// It stays in the journal, parked: the store does not take it now, and may take it later.
    Waits,
    /// The session's row was written or reopened.
    Started {
        /// The session was there before.
        resumed: bool,
    },
    /// The session's metadata were merged.
    Updated,
    /// The session was closed.
    Ended(Ended),
    /// The session goes on: it gave a sign of life, or another node has it and this one had inferred its end.
    GoesOn,
    /// The session was removed, as far as it is there and in the place that answers.
    Deleted(Removed),
    /// The session was removed because it was too old: the rows that went.
    Expired(Removed, RemovedRows),
    /// Refused after acceptance.
    Refused(crate::error::NotDurable),
    /// The store will never take it; it was laid aside with this reason.
    Dead(DeadReason),
}

/// A session whose end a message took back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reopened {
    /// Its id.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// When it began.
    pub started_at: Timestamp,
}

/// A closed session's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// From start to end, in seconds.
    pub duration_seconds: f64,
    /// Messages stored in it.
    pub message_count: u64,
}

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// No session of this id exists anywhere.
    UnknownSession,
    /// The session belongs to another user.
    OtherUser,
    /// The id is taken by a message with other content (found out only in the store).
    IdConflict,
    /// A user's token revised a message that no user wrote.
    NotTheirs,
    /// The store refuses this very row, in its own words.
    Data(String),
    /// Its bytes in the journal no longer match their checksum.
    Corrupt,
    /// Its session was deleted: it is let go, and no letter is kept of it.
    Deleted,
    /// The message was deleted: it is dropped, and its session goes on.
    DeletedMessage,
    /// The user it was accepted for deleted the session, or everything: it is let go, and no letter is kept of it.
    DeletedForUser,
}

impl DeadReason {
    /// The word in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::UnknownSession => "unknown_session",
            Self::OtherUser => "other_user",
            Self::IdConflict => "id_conflict",
            Self::NotTheirs => "forbidden",
            Self::Data(_) => "data",
            Self::Corrupt => "corrupt",
            Self::Deleted | Self::DeletedMessage | Self::DeletedForUser => "deleted",
        }
    }

    /// More than the word, where there is more.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Data(detail) => Some(detail),
            _ => None,
        }
    }
}
