//! The edits of a session's messages that wait for a remote store. Reads show the session as it will be.

use std::collections::HashSet;

use talktrack::MessageId;
use talktrack::record::{Body, Edit, Record};
use talktrack::store::MessageRow;

/// What the waiting edits of a session remove from the store. What they removed from the journal is not there any more.
#[derive(Debug, Default)]
pub(super) struct PendingEdits {
    /// All messages are removed.
    clears: bool,
    /// All messages that a user wrote with a token are removed.
    clears_users: bool,
    removed: HashSet<MessageId>,
}

impl PendingEdits {
    /// Collects the edits among the waiting records of a session.
    pub(super) fn from_records<'r>(records: impl Iterator<Item = &'r Record>) -> Self {
        let mut edits = Self::default();
        for record in records {
            let Body::EditMessages(edit) = &record.body else { continue };
            match &edit.edit {
                Edit::Delete(ids) => edits.removed.extend(ids),
                Edit::Clear { .. } if edit.by_user => edits.clears_users = true,
                Edit::Clear { .. } => edits.clears = true,
                // The store applies these at once; they never wait.
                Edit::Pop(_) | Edit::Replace(_) => {}
            }
        }
        edits
    }

    /// True if nothing that the store has is shown.
    pub(super) fn clears(&self) -> bool {
        self.clears
    }

    /// True if a stored message may be hidden.
    pub(super) fn is_empty(&self) -> bool {
        !self.clears && !self.clears_users && self.removed.is_empty()
    }

    /// True if this stored message is removed.
    pub(super) fn hides(&self, row: &MessageRow) -> bool {
        self.clears || self.removed.contains(&row.id) || (self.clears_users && row.is_by_user())
    }

    /// Returns the ids of messages that are removed one by one.
    pub(super) fn removed(&self) -> impl Iterator<Item = MessageId> {
        self.removed.iter().copied()
    }
}
