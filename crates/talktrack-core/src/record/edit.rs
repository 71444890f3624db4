//! Records that remove or replace messages of a session. The session stays.

use serde::{Deserialize, Serialize};

use crate::ids::{MessageId, SessionId, UserId};
use crate::record::StampedMessage;

/// Removes or replaces messages of a session. A removed message leaves a tombstone, which refuses later records with its
/// id for as long as the session exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessagesEdit {
    /// The session.
    pub session_id: SessionId,
    /// The user who must own the session. The store refuses the edit if the session belongs to another user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// The owner, if the caller knows it. This user is told of the edit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_to: Option<UserId>,
    /// True if a user edits with a token: only messages that a user wrote are removed or replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_user: bool,
    /// Messages that were written with the edit, in records of their own. They lose the tombstones that they may have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<MessageId>,
    /// What to remove or replace.
    pub edit: Edit,
}

/// What an edit does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Removes these messages. An edit that the store has applied becomes this one, with the messages that it removed, so
    /// that a repeated delivery removes the same messages and no others.
    Delete(Vec<MessageId>),
    /// Removes every message that the store has when it applies the edit.
    Clear {
        /// Messages that waited on this node when the edit was accepted. They leave tombstones too.
        waited: Vec<MessageId>,
    },
    /// Removes this many messages from the end of the transcript.
    Pop(usize),
    /// Removes all other messages, and writes these in their order. A message that exists is replaced: its revision is
    /// one above the stored one, unless the new message has a higher one. The ids are distinct.
    Replace(Vec<StampedMessage>),
}

/// What an edit did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EditedRows {
    /// The ids of the removed messages.
    pub removed: Vec<MessageId>,
    /// The number of new messages.
    pub inserted: u64,
    /// The number of replaced messages.
    pub revised: u64,
}

impl MessagesEdit {
    /// Returns the bytes of text that the edit occupies on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.edit {
            Edit::Delete(ids) | Edit::Clear { waited: ids } => size_of_val(ids.as_slice()),
            Edit::Pop(_) => 0,
            Edit::Replace(messages) => messages.iter().map(|stamped| stamped.message.heap_bytes()).sum(),
        }
    }

    /// Returns the ids that the edit removes for certain: those that it names. `None` if only the store knows them.
    pub fn named_ids(&self) -> Option<&[MessageId]> {
        match &self.edit {
            Edit::Delete(ids) => Some(ids),
            Edit::Clear { .. } | Edit::Pop(_) | Edit::Replace(_) => None,
        }
    }

    /// Records in the edit what it removed, so that a repeated delivery removes the same messages.
    pub fn note_removed(&mut self, mut removed: Vec<MessageId>) {
        if let Edit::Delete(named) | Edit::Clear { waited: named } = &mut self.edit {
            removed.append(named);
        }
        removed.sort_unstable();
        removed.dedup();
        self.edit = Edit::Delete(removed);
    }
}
