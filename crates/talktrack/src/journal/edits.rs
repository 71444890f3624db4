//! What an edit of a session's messages removes from the outbox of a remote store, in the transaction that makes the edit
//! durable. The record of the edit then waits for the store, behind the records that were accepted before it.

use rusqlite::Transaction;
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;
use talktrack_core::ids::MessageId;
use talktrack_core::record::{DeletionCounts, Edit, MessagesEdit, Verdict};

use crate::journal::purge;
use crate::journal::purged::PurgedRecords;
use crate::local::tables::removed_messages::{self, RemovedMessage};
use crate::local::tables::{journal, message_deletions};

/// Removes from the journal the messages that the edit removes, and leaves tombstones for them. Returns the edit as it is
/// delivered: with the messages that it removed here, which the store may never have had.
pub(super) fn edit_journal(
    tx: &Transaction<'_>,
    seq: Seq,
    edit: &MessagesEdit,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<(MessagesEdit, Verdict)> {
    let MessagesEdit { session_id, by_user, .. } = *edit;
    let owner = edit.owner.as_ref();
    let mut delivered = edit.clone();
    let ids = match &mut delivered.edit {
        Edit::Delete(ids) => {
            let is_spared =
                |id: &MessageId| journal::has_record_of_others(tx, session_id, *id, owner, by_user);
            let spared = ids.iter().map(is_spared).collect::<rusqlite::Result<Vec<bool>>>()?;
            let mut spared = spared.into_iter();
            ids.retain(|_| !spared.next().unwrap_or(false));
            note_removed(tx, seq, ids.iter().copied().map(Some))?;
            ids.clone()
        }
        Edit::Clear { waited } => {
            *waited = journal::read_message_ids(tx, session_id, owner, by_user)?;
            note_removed(tx, seq, std::iter::once(None))?;
            waited.clone()
        }
        // Only the store knows what these remove.
        Edit::Pop(_) | Edit::Replace(_) => Vec::new(),
    };
    let mut waiting = 0;
    for id in ids {
        waiting += purge::forget_message(tx, session_id, id, books, purged)?;
    }
    for id in &delivered.written {
        message_deletions::delete_tombstone(tx, session_id, *id)?;
    }
    Ok((delivered, Verdict::Deleted(DeletionCounts { journal: waiting, ..DeletionCounts::default() })))
}

fn note_removed(
    tx: &Transaction<'_>,
    seq: Seq,
    ids: impl Iterator<Item = Option<MessageId>>,
) -> rusqlite::Result<()> {
    removed_messages::note(tx, seq, ids.map(|id| RemovedMessage { id, row: None }))
}
