//! Sessions that go.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::NotDurable;
use crate::record::{Removed, SessionDelete, Verdict};
use crate::store::memory::Tables;
use crate::store::{SessionCursor, SessionRow};

impl Tables {
    pub(super) fn delete(&mut self, delete: &SessionDelete) -> Verdict {
        if let Some(session) = self.sessions.get(&delete.session_id) {
            if delete.owner.is_some_and(|owner| owner != session.user_id) {
                return Verdict::Refused(NotDurable::OtherUser);
            }
            if delete.spares(session.last_event_at.unwrap_or(session.started_at)) {
                return Verdict::GoesOn;
            }
        }
        if delete.is_for_good() {
            self.deleted.insert(delete.session_id);
        }
        let sessions = self.sessions.remove(&delete.session_id).iter().count() as u64;
        let messages = self.transcripts.remove(&delete.session_id).map_or(0, |transcript| transcript.len());
        self.messages.retain(|_, (_, stamped)| stamped.message.session_id != delete.session_id);
        Verdict::Deleted(Removed { sessions, messages: messages as u64, ..Removed::default() })
    }

    /// Sessions of which nothing was heard since this moment, oldest first.
    pub(super) fn silent(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Vec<SessionRow> {
        let place = |row: &SessionRow| -> (Timestamp, Uuid) { (row.started_at, row.session_id) };
        let wanted = |row: &&SessionRow| {
            row.last_event_at.unwrap_or(row.started_at) < since
                && after.is_none_or(|after| place(row) > (after.started_at, after.session_id))
        };
        let mut rows: Vec<_> = self.sessions.values().filter(wanted).cloned().collect();
        rows.sort_by_key(place);
        rows.truncate(limit);
        rows
    }
}
