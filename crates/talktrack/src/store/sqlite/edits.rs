//! Removes and replaces messages of a session. Each removed message leaves a tombstone.

use std::collections::HashMap;

use rusqlite::Transaction;
use talktrack_core::clock::{Clock as _, Seq, SystemClock};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::message::MessageStatus;
use talktrack_core::record::{Edit, MessagesEdit, StampedMessage};

use crate::local::database::UuidText;
use crate::local::tables::messages::edits::{self, StoredMessage};
use crate::local::tables::messages::{self, MessageInsert};
use crate::local::tables::removed_messages::{self, RemovedMessage};
use crate::local::tables::{changes, message_deletions, sessions};
use crate::store::sqlite::session_records;
use crate::store::{EditedMessages, MessageRow, plan_replacement};

/// Applies an edit to a stored session of this user. `seq` is the edit's place in the change feed.
pub(super) fn apply_edit(
    tx: &Transaction<'_>,
    seq: Seq,
    edit: &MessagesEdit,
    owner: &UserId,
) -> rusqlite::Result<Result<EditedMessages, NotDurable>> {
    let MessagesEdit { session_id, by_user, .. } = *edit;
    let named = |message: &StoredMessage| Some(message.id);
    let removed = match &edit.edit {
        Edit::Delete(ids) => {
            let found = edits::read_named(tx, session_id, by_user, ids)?;
            let removed = remove(tx, seq, session_id, &found, named)?;
            leave_tombstones(tx, session_id, ids)?;
            removed
        }
        Edit::Clear { waited } => {
            let found = edits::read_all(tx, session_id, by_user)?;
            let removed = remove(tx, seq, session_id, &found, |_| None)?;
            leave_tombstones(tx, session_id, waited)?;
            removed
        }
        Edit::Pop(count) => {
            let mut found = edits::read_last(tx, session_id, by_user, *count)?;
            found.reverse();
            remove(tx, seq, session_id, &found, named)?
        }
        Edit::Replace(news) => return replace(tx, seq, edit, news, owner),
    };
    Ok(Ok(EditedMessages { removed, ..EditedMessages::default() }))
}

/// Removes these messages, leaves tombstones, and returns their rows in the same order. `name` returns the id for the
/// listeners of the change feed.
fn remove(
    tx: &Transaction<'_>,
    seq: Seq,
    session_id: SessionId,
    found: &[StoredMessage],
    name: impl Fn(&StoredMessage) -> Option<MessageId>,
) -> rusqlite::Result<Vec<MessageRow>> {
    let mut removed = Vec::with_capacity(found.len());
    for message in found {
        removed.extend(messages::read::read_message(tx, message.id)?);
        edits::delete_row(tx, message.row)?;
        leave_tombstone(tx, session_id, message.id)?;
    }
    let noted = found.iter().map(|message| RemovedMessage { id: name(message), row: Some(message.row) });
    removed_messages::note(tx, seq, noted)?;
    note_times(tx, seq, found)?;
    sessions::remove_messages(tx, session_id, count_final(found))?;
    Ok(removed)
}

fn count_final(messages: &[StoredMessage]) -> usize {
    messages.iter().filter(|message| message.is_final).count()
}

/// Notes the span of time of removed rows, for the statistics.
fn note_times(tx: &Transaction<'_>, seq: Seq, gone: &[StoredMessage]) -> rusqlite::Result<()> {
    let times = gone.iter().filter_map(|message| message.created_at);
    times.clone().min().zip(times.max()).map_or(Ok(()), |span| changes::note_span(tx, seq, span))
}

/// Leaves tombstones for messages that the session does not have. A message that was spared keeps its row.
fn leave_tombstones(tx: &Transaction<'_>, session_id: SessionId, ids: &[MessageId]) -> rusqlite::Result<()> {
    for id in ids {
        let row = messages::read::read_message(tx, *id)?;
        if row.is_none_or(|row| row.session_id != session_id) {
            leave_tombstone(tx, session_id, *id)?;
        }
    }
    Ok(())
}

fn leave_tombstone(tx: &Transaction<'_>, session_id: SessionId, id: MessageId) -> rusqlite::Result<()> {
    let session = UuidText::new(session_id);
    let id = UuidText::new(id);
    message_deletions::insert_tombstone(tx, session.as_str(), id.as_str(), SystemClock.now())
}

fn replace(
    tx: &Transaction<'_>,
    seq: Seq,
    edit: &MessagesEdit,
    news: &[StampedMessage],
    owner: &UserId,
) -> rusqlite::Result<Result<EditedMessages, NotDurable>> {
    let session_id = edit.session_id;
    let mut stored = HashMap::new();
    for stamped in news {
        stored.extend(messages::read::read_message(tx, stamped.id)?.map(|row| (row.id, row)));
    }
    let planned = match plan_replacement(news, &stored) {
        Ok(planned) => planned,
        Err(why) => return Ok(Err(why)),
    };
    let all = edits::read_all(tx, session_id, false)?;
    let (replaced, mut others): (Vec<StoredMessage>, Vec<StoredMessage>) =
        all.iter().partition(|message| stored.contains_key(&message.id));
    if edit.by_user {
        let theirs = edits::read_all(tx, session_id, true)?;
        others.retain(|message| theirs.iter().any(|their| their.row == message.row));
    }
    let removed = remove(tx, seq, session_id, &others, |_| None)?;
    take_out(tx, seq, session_id, &replaced)?;
    note_times(tx, seq, &all)?;
    let mut insert = MessageInsert::new(tx)?;
    for (stamped, place) in planned.iter().zip((0_i64..).take(planned.len())) {
        message_deletions::delete_tombstone(tx, session_id, stamped.id)?;
        // New messages that were said at the same time keep their order.
        let new = Seq::new(seq.get().saturating_sub(planned.len() as i64 - 1 - place));
        let kept = stored.get(&stamped.id).map(|row| row.seq.unwrap_or(Seq::ZERO));
        insert.insert_message(kept.unwrap_or(new), stamped, stamped.user_id(owner))?;
    }
    drop(insert);
    let inserted = (planned.len() - replaced.len()) as u64;
    count_written(tx, seq, session_id, &planned)?;
    let mut written = Vec::with_capacity(planned.len());
    for stamped in &planned {
        written.extend(messages::read::read_message(tx, stamped.id)?);
    }
    Ok(Ok(EditedMessages { removed, written, inserted }))
}

/// Takes out rows that are written again: a replaced message gets a new row, as a new message does, so that whoever derives
/// data from the rows sees its new text.
fn take_out(
    tx: &Transaction<'_>,
    seq: Seq,
    session_id: SessionId,
    replaced: &[StoredMessage],
) -> rusqlite::Result<()> {
    replaced.iter().try_for_each(|message| edits::delete_row(tx, message.row))?;
    let noted = replaced.iter().map(|message| RemovedMessage { id: None, row: Some(message.row) });
    removed_messages::note(tx, seq, noted)?;
    sessions::remove_messages(tx, session_id, count_final(replaced))
}

/// Adds the written messages to the figures of their session, and moves its start down to them.
fn count_written(
    tx: &Transaction<'_>,
    seq: Seq,
    session_id: SessionId,
    written: &[StampedMessage],
) -> rusqlite::Result<()> {
    let is_final = |stamped: &&StampedMessage| stamped.message.status == MessageStatus::Final;
    let added = i64::try_from(written.iter().filter(is_final).count()).unwrap_or(i64::MAX);
    let last_event_at = written.iter().map(|stamped| stamped.happened_at(seq)).max();
    let first_said = written.iter().map(|stamped| stamped.created_at).min();
    if sessions::add_messages(tx, session_id, added, last_event_at, first_said)?
        && let Some(said_at) = first_said
    {
        session_records::move_start_down(tx, seq, session_id, said_at)?;
    }
    Ok(())
}
