//! Edits: messages that are removed or replaced while their session is kept.

use std::collections::HashMap;

use talktrack::store::{EditedMessages, MessageCursor, MessageRow, plan_replacement};
use talktrack_core::clock::Seq;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId};
use talktrack_core::message::MessageStatus;
use talktrack_core::record::{Attempt, Edit, EditedRows, MessagesEdit, Record, StampedMessage, Verdict};

use crate::memory::Tables;
use crate::memory::rows::row_of;

impl Tables {
    /// Applies an edit that a lane delivers.
    pub(super) fn write_edit(&mut self, record: &Record, edit: &MessagesEdit) -> Verdict {
        let until = (record.attempt != Attempt::First).then_some(record.seq);
        match self.edit(edit, until, record.seq) {
            Ok(edited) => Verdict::Edited(edited.counts()),
            Err(NotDurable::UnknownSession) => Verdict::Edited(EditedRows::default()),
            Err(why) => Verdict::Refused(why),
        }
    }

    /// Applies an edit. `until`, if set, spares messages that were accepted later. `accepted` is the `seq` of new messages.
    pub(super) fn edit(
        &mut self,
        edit: &MessagesEdit,
        until: Option<Seq>,
        accepted: Seq,
    ) -> Result<EditedMessages, NotDurable> {
        let session = self.sessions.get(&edit.session_id).ok_or(NotDurable::UnknownSession)?;
        if edit.owner.is_some() && edit.owner != session.user_id {
            return Err(NotDurable::OtherUser);
        }
        for id in &edit.written {
            self.deleted_messages.remove(&(edit.session_id, *id));
        }
        let rows = self.transcripts.get(&edit.session_id).into_iter().flatten().map(|(_, row)| row);
        let is_removable = |row: &&MessageRow| {
            (!edit.by_user || row.is_by_user())
                && until.is_none_or(|until| row.seq.is_none_or(|seq| seq <= until))
        };
        let mut chosen: Vec<MessageRow> = rows.filter(is_removable).cloned().collect();
        match &edit.edit {
            Edit::Delete(ids) => {
                chosen.retain(|row| ids.contains(&row.id));
                self.leave_tombstones(edit.session_id, ids);
            }
            Edit::Clear { waited } => self.leave_tombstones(edit.session_id, waited),
            Edit::Pop(count) => drop(chosen.drain(..chosen.len().saturating_sub(*count))),
            Edit::Replace(news) => return self.replace(edit, news, chosen, accepted),
        }
        self.remove_rows(edit.session_id, &chosen);
        Ok(EditedMessages { removed: chosen, ..EditedMessages::default() })
    }

    fn leave_tombstones(&mut self, session_id: SessionId, ids: &[MessageId]) {
        let missing = ids.iter().filter(|id| !self.messages.contains_key(id));
        self.deleted_messages.extend(missing.map(|id| (session_id, *id)));
    }

    fn remove_rows(&mut self, session_id: SessionId, rows: &[MessageRow]) {
        for row in rows {
            self.take_row(session_id, row.id);
            self.deleted_messages.insert((session_id, row.id));
        }
    }

    fn take_row(&mut self, session_id: SessionId, id: MessageId) {
        let Some((place, _)) = self.messages.remove(&id) else { return };
        let row = self.transcripts.get_mut(&session_id).and_then(|transcript| transcript.remove(&place));
        if let Some(session) = self.sessions.get_mut(&session_id) {
            session.message_count -= i64::from(row.is_some_and(|row| row.status == MessageStatus::Final));
        }
    }

    fn replace(
        &mut self,
        edit: &MessagesEdit,
        news: &[StampedMessage],
        mut others: Vec<MessageRow>,
        accepted: Seq,
    ) -> Result<EditedMessages, NotDurable> {
        let session_id = edit.session_id;
        let owner = self.sessions.get(&session_id).and_then(|row| row.user_id.clone());
        let owner = owner.ok_or(NotDurable::UnknownSession)?;
        let stored: HashMap<MessageId, MessageRow> = news.iter().filter_map(|new| self.row(new.id)).collect();
        let planned = plan_replacement(news, &stored)?;
        others.retain(|row| !stored.contains_key(&row.id));
        self.remove_rows(session_id, &others);
        let mut written = Vec::new();
        for stamped in &planned {
            self.deleted_messages.remove(&(session_id, stamped.id));
            let seq = stored.get(&stamped.id).and_then(|row| row.seq).unwrap_or(accepted);
            self.take_row(session_id, stamped.id);
            let row = row_of(&owner, seq, stamped.created_at.into(), stamped);
            written.push(row.clone());
            self.insert_row(row, stamped);
            self.move_start_down(session_id, stamped.created_at);
        }
        let inserted = (planned.len() - stored.len()) as u64;
        Ok(EditedMessages { removed: others, written, inserted })
    }

    fn row(&self, id: MessageId) -> Option<(MessageId, MessageRow)> {
        let (place, stamped) = self.messages.get(&id)?;
        let row = self.transcripts.get(&stamped.message.session_id)?.get(place)?;
        Some((id, row.clone()))
    }

    /// Adds a row to the transcript of its session, and counts it.
    pub(super) fn insert_row(&mut self, row: MessageRow, stamped: &StampedMessage) {
        let place: MessageCursor = row.cursor();
        self.transcripts.entry(row.session_id).or_default().insert(place, row);
        self.messages.insert(stamped.id, (place, stamped.clone()));
        if let Some(session) = self.sessions.get_mut(&stamped.message.session_id) {
            session.message_count += i64::from(stamped.message.status == MessageStatus::Final);
        }
    }
}
