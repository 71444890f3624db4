//! Writes records to rows inside the journal's transaction, one batch at a time. Messages are the most
//! frequent records.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::{Error, ErrorCode, Transaction};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::message::MessageStatus;
use talktrack_core::record::{
    Attempt, Body, DeadReason, DeletionCounts, MessagesEdit, Record, RevisionOrder, SessionDelete,
    SessionEnd, SessionStart, SessionUpdate, StampedMessage, Verdict,
};

use crate::local::tables::messages::{self, MessageInsert};
use crate::local::tables::{deleted_sessions, sessions};
use crate::store::EditedMessages;
use crate::store::sqlite::deleted_messages::DeletedMessages;
use crate::store::sqlite::session_records::{RecordMeta, RowChange};
use crate::store::sqlite::{deleted, edits, session_records};

/// Writes the records in order.
pub(crate) fn write_records<'a>(
    tx: &Transaction<'_>,
    records: impl Iterator<Item = &'a Record>,
) -> rusqlite::Result<WrittenRecords> {
    let mut batch = RowBatch {
        tx,
        insert: MessageInsert::new(tx)?,
        sessions: HashMap::new(),
        deleted_messages: DeletedMessages::default(),
        edits: HashMap::new(),
    };
    let verdicts = records.map(|record| batch.write_record(record)).collect::<rusqlite::Result<Vec<_>>>()?;
    let edits = std::mem::take(&mut batch.edits);
    batch.finish()?;
    Ok(WrittenRecords { verdicts, edits })
}

/// What became of a batch.
pub(crate) struct WrittenRecords {
    /// One verdict per record, in order.
    pub(crate) verdicts: Vec<Verdict>,
    /// The rows that edits removed and wrote, by the `seq` of the edit.
    pub(crate) edits: HashMap<Seq, EditedMessages>,
}

/// Verdicts of records that wait for another store.
impl From<Vec<Verdict>> for WrittenRecords {
    fn from(verdicts: Vec<Verdict>) -> Self {
        Self { verdicts, edits: HashMap::new() }
    }
}

/// A batch that is being written. Counts per session are collected here and written once.
struct RowBatch<'t> {
    tx: &'t Transaction<'t>,
    insert: MessageInsert<'t>,
    sessions: HashMap<SessionId, BatchSession>,
    deleted_messages: DeletedMessages,
    edits: HashMap<Seq, EditedMessages>,
}

/// Who owns the session of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owner {
    User(UserId),
    /// The session is not stored.
    NotStored,
    /// The session was deleted, and the record is refused.
    Deleted,
}

/// The batch's knowledge of a session.
struct BatchSession {
    /// `None` if the session is not stored.
    owner: Option<UserId>,
    /// The session was deleted for good.
    deleted: bool,
    /// How many more messages are final.
    added: i64,
    last_event_at: Option<Timestamp>,
    /// The earliest time of the new messages, and the `seq` of its message.
    first_said: Option<(Timestamp, Seq)>,
}

impl BatchSession {
    fn note_said(&mut self, said_at: Timestamp, seq: Seq) {
        let is_first = self.first_said.is_none_or(|(first, _)| said_at < first);
        self.first_said = if is_first { Some((said_at, seq)) } else { self.first_said };
    }
}

impl RowBatch<'_> {
    fn write_record(&mut self, record: &Record) -> rusqlite::Result<Verdict> {
        match &record.body {
            Body::Message(stamped) => self
                .write_message(record.seq, stamped, stamped.takes_back(record.attempt))
                .or_else(to_dead_letter),
            Body::Start(start) => self.start_session(RecordMeta::new(record), start),
            Body::Update(update) => self.update_session(RecordMeta::new(record), update),
            Body::End(end) => self.end_session(RecordMeta::new(record), end),
            // No other node has to learn of the session's activity.
            Body::Heartbeat(_) => Ok(Verdict::StaysActive),
            Body::EditMessages(edit) => self.edit_messages(record.seq, edit),
            Body::Delete(delete) => self.delete_session(record.seq, delete),
            // No other node can later deliver a record that was accepted earlier, and each session is
            // deleted by a record of its own.
            Body::DeleteUser(_) => Ok(Verdict::Deleted(DeletionCounts::default())),
        }
    }

    /// Returns the owner of the session, for a record that was accepted for this user.
    fn owner_of(&mut self, session_id: SessionId, accepted_for: Option<&UserId>) -> rusqlite::Result<Owner> {
        let tx = self.tx;
        let session = self.batch_session(session_id)?;
        let is_theirs =
            session.owner.is_some() && accepted_for.is_none_or(|user| session.owner.as_ref() == Some(user));
        let refused = session.deleted || (!is_theirs && deleted::is_refused(tx, session_id, accepted_for)?);
        let owner = session.owner.clone();
        Ok(if refused { Owner::Deleted } else { owner.map_or(Owner::NotStored, Owner::User) })
    }

    fn write_message(
        &mut self,
        seq: Seq,
        stamped: &StampedMessage,
        takes_back: Option<Timestamp>,
    ) -> rusqlite::Result<Verdict> {
        let owner = match self.ensure_session(seq, stamped)? {
            Owner::User(owner) => owner,
            Owner::NotStored => return Ok(Verdict::Dead(DeadReason::UnknownSession)),
            Owner::Deleted => return Ok(Verdict::Refused(NotDurable::Deleted)),
        };
        if stamped.owner.as_ref().is_some_and(|user| *user != owner) {
            return Ok(Verdict::Dead(DeadReason::OtherUser));
        }
        if self.deleted_messages.contains(self.tx, stamped.message.session_id, stamped.id)? {
            return Ok(Verdict::Refused(NotDurable::Deleted));
        }
        if !self.insert.insert_message(seq, stamped, stamped.user_id(&owner))? {
            return self.handle_existing(seq, stamped, &owner);
        }
        let session = self.batch_session(stamped.message.session_id)?;
        session.added += i64::from(stamped.message.status == MessageStatus::Final);
        session.last_event_at = session.last_event_at.max(Some(stamped.happened_at(seq)));
        session.note_said(stamped.created_at, seq);
        let session_id = stamped.message.session_id;
        let cancel = |before| session_records::cancel_inferred_end(self.tx, session_id, before);
        let reopened = takes_back.map_or(Ok(None), cancel)?;
        self.close_if_ended(seq, stamped)?;
        Ok(reopened.map_or(Verdict::Inserted, Verdict::Reopened))
    }

    /// Makes a message final that reaches an ended session while it is in progress.
    fn close_if_ended(&self, seq: Seq, stamped: &StampedMessage) -> rusqlite::Result<()> {
        let session_id = stamped.message.session_id;
        if stamped.message.status == MessageStatus::InProgress && sessions::has_ended(self.tx, session_id)? {
            session_records::close_messages(self.tx, seq, session_id)?;
        }
        Ok(())
    }

    /// Returns the owner of the message's session. If the session's row is gone, or was only ever in a
    /// remote store, it is written again from what the tracker knew of it.
    fn ensure_session(&mut self, seq: Seq, stamped: &StampedMessage) -> rusqlite::Result<Owner> {
        let session_id = stamped.message.session_id;
        let stored = self.owner_of(session_id, stamped.owner.as_ref())?;
        let (Owner::NotStored, Some(user_id)) = (&stored, &stamped.owner) else { return Ok(stored) };
        let started_at = stamped.session_started_at.unwrap_or(stamped.created_at);
        let start = SessionStart::restored(session_id, user_id.clone(), started_at);
        sessions::insert_session(self.tx, seq, &start, false)?;
        self.batch_session(session_id)?.owner = Some(start.user_id.clone());
        Ok(Owner::User(start.user_id))
    }

    /// Handles an id that is already stored: a repetition, a revision or a conflict.
    fn handle_existing(
        &mut self,
        seq: Seq,
        stamped: &StampedMessage,
        owner: &UserId,
    ) -> rusqlite::Result<Verdict> {
        let row = messages::read::read_message(self.tx, stamped.id)?.ok_or(Error::QueryReturnedNoRows)?;
        Ok(match row.compare_revision(stamped) {
            RevisionOrder::Older => {
                messages::move_message_up(self.tx, seq, stamped)?;
                self.batch_session(stamped.message.session_id)?.note_said(stamped.created_at, seq);
                Verdict::AlreadyThere
            }
            RevisionOrder::Same => Verdict::AlreadyThere,
            RevisionOrder::Conflict => Verdict::Refused(NotDurable::IdConflict),
            RevisionOrder::NotTheirs => Verdict::Refused(NotDurable::NotTheirs),
            RevisionOrder::Newer => {
                messages::revise_message(self.tx, stamped, stamped.user_id(owner))?;
                let [was_final, is_final] =
                    [row.status == MessageStatus::Final, stamped.message.status == MessageStatus::Final];
                self.batch_session(stamped.message.session_id)?.added +=
                    i64::from(is_final) - i64::from(was_final);
                self.close_if_ended(seq, stamped)?;
                row.revised_by(stamped)
            }
        })
    }

    fn start_session(&mut self, meta: RecordMeta, start: &SessionStart) -> rusqlite::Result<Verdict> {
        let owner = match self.owner_of(start.session_id, Some(&start.user_id))? {
            Owner::User(user) => Some(user),
            Owner::NotStored => None,
            Owner::Deleted => return Ok(Verdict::Refused(NotDurable::Deleted)),
        };
        if owner.as_ref().is_some_and(|user| *user != start.user_id) {
            return Ok(Verdict::Refused(NotDurable::OtherUser));
        }
        match owner {
            // A replayed start must not hide earlier records of the session.
            None => sessions::insert_session(self.tx, meta.seq, start, meta.attempt != Attempt::Replay)?,
            Some(_) => {
                if session_records::start_again(self.tx, meta, start)? == RowChange::MetadataTooLong {
                    return Ok(Verdict::Refused(NotDurable::MetadataTooLarge));
                }
            }
        }
        self.batch_session(start.session_id)?.owner = Some(start.user_id.clone());
        Ok(Verdict::Started { resumed: owner.is_some() })
    }

    fn update_session(&mut self, meta: RecordMeta, update: &SessionUpdate) -> rusqlite::Result<Verdict> {
        match self.owner_of(update.session_id, update.owner.as_ref())? {
            Owner::Deleted => return Ok(Verdict::Refused(NotDurable::Deleted)),
            Owner::NotStored => return Ok(Verdict::Refused(NotDurable::UnknownSession)),
            Owner::User(user) if update.owner.as_ref().is_some_and(|owner| *owner != user) => {
                return Ok(Verdict::Refused(NotDurable::OtherUser));
            }
            Owner::User(_) => {}
        }
        Ok(match session_records::update_session(self.tx, meta, update)? {
            RowChange::Applied => Verdict::Updated,
            RowChange::MetadataTooLong => Verdict::Refused(NotDurable::MetadataTooLarge),
        })
    }

    fn end_session(&mut self, meta: RecordMeta, end: &SessionEnd) -> rusqlite::Result<Verdict> {
        let user = match self.owner_of(end.session_id, end.owner.as_ref())? {
            Owner::User(user) => Some(user),
            Owner::NotStored => None,
            Owner::Deleted => return Ok(Verdict::Refused(NotDurable::Deleted)),
        };
        if user.zip(end.owner.as_ref()).is_some_and(|(user, owner)| user != *owner) {
            return Ok(Verdict::Refused(NotDurable::OtherUser));
        }
        self.flush_counts(end.session_id)?;
        let figures = session_records::end_session(self.tx, meta, end)?;
        Ok(figures.map_or(Verdict::Refused(NotDurable::UnknownSession), Verdict::Ended))
    }

    fn edit_messages(&mut self, seq: Seq, edit: &MessagesEdit) -> rusqlite::Result<Verdict> {
        let owner = match self.owner_of(edit.session_id, edit.owner.as_ref())? {
            Owner::User(owner) => owner,
            Owner::NotStored => return Ok(Verdict::Refused(NotDurable::UnknownSession)),
            Owner::Deleted => return Ok(Verdict::Refused(NotDurable::Deleted)),
        };
        if edit.owner.as_ref().is_some_and(|user| *user != owner) {
            return Ok(Verdict::Refused(NotDurable::OtherUser));
        }
        self.flush_counts(edit.session_id)?;
        self.deleted_messages.forget_session(edit.session_id);
        Ok(match edits::apply_edit(self.tx, seq, edit, &owner)? {
            Ok(edited) => {
                let counts = edited.counts();
                self.edits.insert(seq, edited);
                Verdict::Edited(counts)
            }
            Err(why) => Verdict::Refused(why),
        })
    }

    fn delete_session(&mut self, seq: Seq, delete: &SessionDelete) -> rusqlite::Result<Verdict> {
        let session_id = delete.session_id;
        // A remote store has already done this deletion, and this file had nothing of the session.
        if delete.removed.is_some() {
            return Ok(Verdict::Deleted(DeletionCounts::default()));
        }
        let session = self.batch_session(session_id)?;
        let user = session.owner.clone();
        let deleted = session.deleted;
        if let Some(owner) =
            delete.owner.as_ref().filter(|owner| delete.is_permanent() && user.as_ref() != Some(owner))
        {
            // The session belongs to another user, or may later: only records that were accepted for this
            // user are refused.
            if !deleted {
                deleted::note_deleted_claim(self.tx, session_id, owner)?;
            }
            let other = user.map(|_| Verdict::Refused(NotDurable::OtherUser));
            return Ok(other.unwrap_or(Verdict::Deleted(DeletionCounts::default())));
        }
        if user.as_ref().zip(delete.owner.as_ref()).is_some_and(|(user, owner)| user != owner) {
            return Ok(Verdict::Refused(NotDurable::OtherUser));
        }
        self.flush_counts(session_id)?;
        if !delete.is_permanent() {
            match sessions::read::read_session(self.tx, session_id)? {
                None => return Ok(Verdict::Deleted(DeletionCounts::default())),
                Some(row) if row.is_spared_by(delete) => {
                    return Ok(Verdict::StaysActive);
                }
                Some(_) => {}
            }
        }
        let removed = deleted::remove_session(self.tx, seq, session_id)?;
        if delete.is_permanent() {
            deleted::note_deleted(self.tx, session_id, user.as_ref().or(delete.told_to.as_ref()))?;
        }
        // Later records of this batch must see that the session is gone.
        self.sessions.remove(&session_id);
        Ok(Verdict::Deleted(removed))
    }

    /// Returns what is known of a session. Reads its row if this batch has not used the session before.
    fn batch_session(&mut self, session_id: SessionId) -> rusqlite::Result<&mut BatchSession> {
        match self.sessions.entry(session_id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let owner = sessions::read_owner(self.tx, session_id)?;
                let deleted = owner.is_none() && deleted_sessions::contains(self.tx, session_id)?;
                let session =
                    BatchSession { owner, deleted, added: 0, last_event_at: None, first_said: None };
                Ok(unknown.insert(session))
            }
        }
    }

    fn flush_counts(&mut self, session_id: SessionId) -> rusqlite::Result<()> {
        let Some(BatchSession { added, last_event_at, first_said, .. }) = self.sessions.remove(&session_id)
        else {
            return Ok(());
        };
        if added == 0 && first_said.is_none() {
            return Ok(());
        }
        let (said_at, seq) = first_said.unzip();
        if sessions::add_messages(self.tx, session_id, added, last_event_at, said_at)? {
            let event = said_at.zip(seq);
            event
                .map_or(Ok(()), |(at, seq)| session_records::move_start_down(self.tx, seq, session_id, at))?;
        }
        Ok(())
    }

    fn finish(mut self) -> rusqlite::Result<()> {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        sessions.into_iter().try_for_each(|session| self.flush_counts(session))
    }
}

/// Turns a row that SQLite refuses for its content into a dead letter, so that the other rows are written.
/// Any other error fails the whole batch.
fn to_dead_letter(error: Error) -> rusqlite::Result<Verdict> {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
            Ok(Verdict::Dead(DeadReason::Data(error.to_string())))
        }
        _ => Err(error),
    }
}
