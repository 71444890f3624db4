//! Records that delete, and what they removed.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Timestamp;

/// A session goes, with everything that was said in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionDelete {
    /// The session.
    pub session_id: Uuid,
    /// Whose it has to be. If the store has no session of this user under the id, the mark that stays refuses only records that
    /// were accepted for this user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
    /// Whose it was, as far as whoever deletes it knows: this user hears of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_to: Option<Uuid>,
    /// Only where nothing was heard of it since: it is too old to be kept. Nobody wants to be rid of it, so that it may begin
    /// again. Otherwise whatever comes of it later is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
    /// What a deletion by time removed when the store did it. To do it again, after the store has forgotten it, means to remove
    /// these rows and no others: what is too old is not judged again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<RemovedRows>,
}

impl SessionDelete {
    /// Whether it is for good: what comes later is refused.
    pub fn is_for_good(&self) -> bool {
        self.silent_since.is_none()
    }

    /// Whether a session that was last heard of at this moment is too young to go.
    pub fn spares(&self, last_event_at: Timestamp) -> bool {
        self.silent_since.is_some_and(|since| last_event_at >= since)
    }
}

/// The rows that a deletion by time removed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RemovedRows {
    /// The row of the session.
    pub session: bool,
    /// The ids of messages.
    pub messages: Vec<Uuid>,
}

/// What was removed with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    /// Rows of sessions.
    pub sessions: u64,
    /// Rows of messages.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages that were on their way to a remote store.
    pub journal: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.messages += more.messages;
        self.dead_letters += more.dead_letters;
        self.journal += more.journal;
    }
}

/// A user goes. The record leaves a mark at its moment of acceptance: what was accepted for the user before it, and sessions
/// that started before it, are refused by the store whenever another node delivers them. The sessions that the store knows are
/// deleted one by one ([`SessionDelete`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserDelete {
    /// The user.
    pub user_id: Uuid,
}
