//! Records that delete, and what they removed.

use crate::ids::{MessageId, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// Deletes a session with all its messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionDelete {
    /// The session.
    pub session_id: SessionId,
    /// The user who must own the session. If the store has no session of this user under the id, the tombstone refuses
    /// only records that were accepted for this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// The owner, if the caller that deletes the session knows it. This user is told of the deletion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_to: Option<UserId>,
    /// If set, this is a deletion by age: the session is deleted only if it has had no event since this time. No user
    /// asked to delete it, so it may start again. If `None`, the deletion is permanent, and later records of the
    /// session are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
    /// The rows that a deletion by age removed when the store applied it. If the store loses the deletion and gets it
    /// again, it removes exactly these rows and does not judge the age again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<RemovedRows>,
}

impl SessionDelete {
    /// True if the deletion is permanent: later records of the session are refused.
    pub fn is_permanent(&self) -> bool {
        self.silent_since.is_none()
    }

    /// True if a session whose last event was at this time is too recent to be deleted.
    pub fn spares(&self, last_event_at: Timestamp) -> bool {
        self.silent_since.is_some_and(|since| last_event_at >= since)
    }
}

/// The rows that a deletion by age removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemovedRows {
    /// True if the session's row was removed.
    pub session: bool,
    /// The ids of the removed messages.
    pub messages: Vec<MessageId>,
}

/// The number of rows that a deletion removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeletionCounts {
    /// Rows of sessions.
    pub sessions: u64,
    /// Rows of messages.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages in the journal that waited for a remote store.
    pub journal: u64,
}

impl std::ops::AddAssign for DeletionCounts {
    fn add_assign(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.messages += more.messages;
        self.dead_letters += more.dead_letters;
        self.journal += more.journal;
    }
}

/// Deletes a user. The record leaves a tombstone with its time of acceptance: the store then refuses what was accepted
/// for the user before that time, and sessions that started before it, even if another node delivers them. The sessions
/// that the store knows are deleted one by one ([`SessionDelete`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDelete {
    /// The user.
    pub user_id: UserId,
}
