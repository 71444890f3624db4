//! The rows that an edit of a session's messages removed and wrote.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::NotDurable;
use crate::ids::MessageId;
use crate::message::MessageStatus;
use crate::record::{EditedRows, StampedMessage};
use crate::store::MessageRow;

/// The rows that an edit removed and wrote.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EditedMessages {
    /// The removed rows, in transcript order.
    pub removed: Vec<MessageRow>,
    /// The rows that a replacement wrote, in transcript order.
    pub written: Vec<MessageRow>,
    /// How many of the written rows are new.
    pub inserted: u64,
}

impl EditedMessages {
    /// Returns the counts, and the ids of the removed rows.
    pub fn counts(&self) -> EditedRows {
        let removed = self.removed.iter().map(|row| row.id).collect();
        let revised = (self.written.len() as u64).saturating_sub(self.inserted);
        EditedRows { removed, inserted: self.inserted, revised }
    }
}

/// A message as far as it matters for the count of its session, which has only final messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedMessage {
    /// The message.
    pub id: MessageId,
    /// The revision.
    pub revision: i64,
    /// True if this revision is final.
    pub is_final: bool,
}

impl CountedMessage {
    /// Describes a row.
    pub fn of_row(row: &MessageRow) -> Self {
        Self { id: row.id, revision: row.revision, is_final: row.status == MessageStatus::Final }
    }
}

/// Decides how the new messages of a replacement are written: their revisions, and their places in the transcript. `stored`
/// has the rows that exist under their ids. The order of the messages is the order of the transcript, as far as the times
/// that the caller gave allow it.
///
/// # Errors
/// [`NotDurable::IdConflict`] if an id belongs to another session, and [`NotDurable::NotTheirs`] if a user replaces a
/// message that no user wrote.
pub fn plan_replacement(
    messages: &[StampedMessage],
    stored: &HashMap<MessageId, MessageRow>,
) -> Result<Vec<StampedMessage>, NotDurable> {
    let mut planned = Vec::with_capacity(messages.len());
    let mut last: Option<Timestamp> = None;
    for stamped in messages {
        let mut next = stamped.clone();
        let row = stored.get(&stamped.id);
        if let Some(row) = row {
            if row.session_id != stamped.message.session_id {
                return Err(NotDurable::IdConflict);
            }
            if stamped.by_user && !row.is_by_user() {
                return Err(NotDurable::NotTheirs);
            }
            let above = u32::try_from(row.revision.saturating_add(1)).unwrap_or(u32::MAX);
            next.message.revision = stamped.message.revision.max(above);
        }
        if stamped.message.created_at.is_none() {
            let kept = row.and_then(|row| row.created_at.known()).unwrap_or(stamped.created_at);
            next.created_at = last.map_or(kept, |last| kept.max(last.plus(Duration::from_micros(1))));
        }
        last = last.max(Some(next.created_at));
        planned.push(next);
    }
    Ok(planned)
}
