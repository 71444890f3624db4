//! Cursors: positions in a list of rows from which the list continues.

use crate::ids::{MessageId, SessionId};

use crate::clock::Seq;
use crate::stored::TimeKey;

/// A position in the list of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCursor {
    /// The start time of the last row.
    pub started_at: TimeKey,
    /// The session of the last row.
    pub session_id: SessionId,
}

/// A position in a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageCursor {
    /// The time at which the last message was said.
    pub created_at: TimeKey,
    /// The order of acceptance of the last message.
    pub seq: Seq,
    /// The id of the last message.
    pub id: MessageId,
}
