//! Verdicts: what the journal or the store did with a record.

use crate::ids::{SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::record::{DeletionCounts, EditedRows, RemovedRows};

/// What the journal or the store did with one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The message's row was written.
    Inserted,
    /// The message's row was written. It cancelled the inferred end of its session, which is active again.
    Reopened(Reopened),
    /// The message's row was replaced by a later revision.
    Revised {
        /// True if the earlier revision was in progress or discarded, and this one is final.
        becomes_final: bool,
    },
    /// The same message or a later revision of it was already stored. Nothing was done.
    AlreadyThere,
    /// The record is in the journal and waits for the remote store.
    Journaled,
    /// The record stays parked in the journal: the store cannot take it now and may take it later.
    Waits,
    /// The session's row was written or reopened.
    Started {
        /// True if the session existed before.
        resumed: bool,
    },
    /// The session's metadata were merged.
    Updated,
    /// The session was ended.
    Ended(Ended),
    /// The session stays active: it sent a heartbeat, or this node inferred its end but it is active on another node.
    StaysActive,
    /// The session was removed from the journal or the store that answers. The counts say what was there.
    Deleted(DeletionCounts),
    /// The session was removed because of its age. Lists the removed rows.
    Expired(DeletionCounts, RemovedRows),
    /// Messages of the session were removed or replaced.
    Edited(EditedRows),
    /// The record was refused after acceptance.
    Refused(crate::error::NotDurable),
    /// The store will never take the record. It became a dead letter with this reason.
    Dead(DeadReason),
}

/// A session whose end was cancelled by a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reopened {
    /// The session's id.
    pub session_id: SessionId,
    /// The user who owns the session.
    pub user_id: UserId,
    /// When the session started.
    pub started_at: Timestamp,
}

/// The duration and the message count of an ended session.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// From start to end, in seconds.
    pub duration_seconds: f64,
    /// The number of messages stored in the session.
    pub message_count: u64,
}

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// No session with this id exists anywhere.
    UnknownSession,
    /// The session belongs to another user.
    OtherUser,
    /// The id is taken by a message with other content (found only in the store).
    IdConflict,
    /// A user's token revised a message that no user wrote.
    NotTheirs,
    /// The store refuses this row. Contains the store's error message.
    Data(String),
    /// The record's bytes in the journal do not match their checksum.
    Corrupt,
    /// The session was deleted. The record is dropped, and no dead letter is kept.
    Deleted,
    /// The message was deleted. The record is dropped, and its session stays active.
    DeletedMessage,
    /// The user for whom the record was accepted deleted the session, or all data. The record is dropped, and no dead
    /// letter is kept.
    DeletedForUser,
}

impl DeadReason {
    /// Returns the word in the database.
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

    /// Returns the details, if the word does not say everything.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Data(detail) => Some(detail),
            _ => None,
        }
    }
}
