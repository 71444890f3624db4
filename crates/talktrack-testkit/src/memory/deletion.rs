//! Deletion of sessions and users.

use talktrack::store::{SessionCursor, SessionRow};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::SessionId;
use talktrack_core::record::{Body, DeletionCounts, Record, RemovedRows, SessionDelete, UserDelete, Verdict};
use talktrack_core::stored::TimeKey;

use crate::memory::Tables;

impl Tables {
    pub(super) fn delete(&mut self, seq: Seq, delete: &SessionDelete) -> Verdict {
        if let Some(rows) = &delete.removed {
            self.remove_again(seq, delete.session_id, rows);
            return Verdict::Deleted(DeletionCounts::default());
        }
        let is_owners =
            |owner| self.sessions.get(&delete.session_id).is_some_and(|row| row.user_id == Some(owner));
        if let Some(owner) =
            delete.owner.clone().filter(|owner| delete.is_permanent() && !is_owners(owner.clone()))
        {
            if !self.deleted.contains_key(&delete.session_id) {
                self.deleted_claims.insert((delete.session_id, owner));
            }
            let is_there = self.sessions.contains_key(&delete.session_id);
            let other = is_there.then_some(Verdict::Refused(NotDurable::OtherUser));
            return other.unwrap_or(Verdict::Deleted(DeletionCounts::default()));
        }
        if let Some(session) = self.sessions.get(&delete.session_id) {
            if delete.owner.clone().is_some_and(|owner| session.user_id != Some(owner)) {
                return Verdict::Refused(NotDurable::OtherUser);
            }
            if session.is_spared_by(delete) {
                return Verdict::StaysActive;
            }
        }
        if delete.is_permanent() {
            let user = self.sessions.get(&delete.session_id).and_then(|row| row.user_id.clone());
            let noted = self.deleted.entry(delete.session_id).or_default();
            *noted = noted.clone().or(user).or(delete.told_to.clone());
        }
        self.applied.remove(&delete.session_id);
        let sessions = self.sessions.remove(&delete.session_id).iter().count() as u64;
        let messages = self.transcripts.remove(&delete.session_id).map_or(0, |transcript| transcript.len());
        let mut ids = Vec::new();
        self.messages.retain(|id, (_, stamped)| {
            let stays = stamped.message.session_id != delete.session_id;
            ids.extend((!stays).then_some(*id));
            stays
        });
        let removed = DeletionCounts { sessions, messages: messages as u64, ..DeletionCounts::default() };
        if delete.is_permanent() {
            return Verdict::Deleted(removed);
        }
        Verdict::Expired(removed, RemovedRows { session: sessions > 0, messages: ids })
    }

    /// Removes the rows that an earlier delivery of this deletion removed, except those that were written
    /// again since.
    fn remove_again(&mut self, seq: Seq, session_id: SessionId, rows: &RemovedRows) {
        for id in &rows.messages {
            let is_old = self
                .messages
                .get(id)
                .is_some_and(|(place, stamped)| stamped.message.session_id == session_id && place.seq <= seq);
            if is_old && let Some((place, _)) = self.messages.remove(id) {
                self.transcripts.get_mut(&session_id).map(|transcript| transcript.remove(&place));
            }
        }
        let is_empty = self.transcripts.get(&session_id).is_none_or(|transcript| transcript.is_empty());
        let last = self.applied.get(&session_id).and_then(|applied| applied.last);
        if rows.session && is_empty && last.is_none_or(|(_, last)| last <= seq) {
            self.sessions.remove(&session_id);
            self.transcripts.remove(&session_id);
            self.applied.remove(&session_id);
        }
    }

    pub(super) fn delete_user(&mut self, seq: Seq, delete: &UserDelete) -> Verdict {
        let deleted_at = self.deleted_users.entry(delete.user_id.clone()).or_insert(seq);
        *deleted_at = seq.max(*deleted_at);
        Verdict::Deleted(DeletionCounts::default())
    }

    /// True if the record was accepted before its user deleted the session or all of the user's data.
    pub(super) fn is_of_a_deleted_user(&self, record: &Record) -> bool {
        let session = self.sessions.get(&record.session_id());
        let owner = record.owner();
        if owner.is_some_and(|owner| self.deleted_claims.contains(&(record.session_id(), owner.clone()))) {
            return true;
        }
        let user = owner.or_else(|| session.and_then(|row| row.user_id.as_ref()));
        let Some(deleted_at) = user.and_then(|user| self.deleted_users.get(user)) else { return false };
        let begun = match &record.body {
            Body::Message(stamped) if session.is_none() => {
                stamped.session_started_at.map_or(Seq::MIN, Seq::from).min(record.seq)
            }
            // An earlier start of the session was refused.
            Body::Update(_) | Body::End(_) if session.is_none() => Seq::MIN,
            _ => record.seq,
        };
        begun <= *deleted_at
    }

    /// Returns sessions without an event since this moment, oldest start first.
    pub(super) fn inactive_since(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Vec<SessionRow> {
        let place = |row: &SessionRow| -> (TimeKey, SessionId) { (row.started_at.key(), row.session_id) };
        let wanted = |row: &&SessionRow| {
            *row.last_event_at.as_ref().unwrap_or(&row.started_at) < since.into()
                && after.is_none_or(|after| place(row) > (after.started_at, after.session_id))
        };
        let mut rows: Vec<_> = self.sessions.values().filter(wanted).cloned().collect();
        rows.sort_by_key(place);
        rows.truncate(limit);
        rows
    }
}
