//! How a caller names a session.

use talktrack_core::ids::{SessionId, UserId};

/// A session as a caller names it: in the claim of one user, or without a user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionRef {
    /// The session.
    pub session_id: SessionId,
    /// The user whose claim is meant. Without it, the only claim that this process knows. If this process knows none or
    /// several, the record carries no owner and takes the stored session's user.
    pub user_id: Option<UserId>,
}

impl SessionRef {
    /// Names this user's claim to the session.
    pub fn for_user(session_id: SessionId, user_id: UserId) -> Self {
        Self { session_id, user_id: Some(user_id) }
    }
}

impl From<SessionId> for SessionRef {
    fn from(session_id: SessionId) -> Self {
        Self { session_id, user_id: None }
    }
}
