//! Places in a list of rows, from which the list continues.

use uuid::Uuid;

use crate::clock::Seq;
use crate::stored::TimeKey;

/// A place in the list of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCursor {
    /// The last row's start.
    pub started_at: TimeKey,
    /// The last row's session.
    pub session_id: Uuid,
}

/// A place in a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageCursor {
    /// When the last message was said.
    pub created_at: TimeKey,
    /// Its order of acceptance.
    pub seq: Seq,
    /// Its id.
    pub id: Uuid,
}
