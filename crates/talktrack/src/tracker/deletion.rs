//! Deletion at the door: a session goes, with everything that was said in it.

use dashmap::mapref::entry::Entry;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::Reason;
use crate::queue::Admission;
use crate::receipt::{Deletion, Reply};
use crate::record::{Body, SessionDelete};
use crate::tracker::{Door, Tracker};

impl Tracker {
    /// Deletes a session for good: its rows, what waits of it in the journal, its dead letters. What was accepted of it before
    /// goes with it; what comes later is refused ([`NotDurable::Deleted`](crate::NotDurable::Deleted)), and it cannot begin
    /// again. Where `owner` is given, nothing happens to a session that is another user's.
    ///
    /// With a remote store the text leaves this machine at once, and the store's rows as soon as it can be reached.
    ///
    /// # Errors
    /// Where it cannot be accepted now; see [`Reason`].
    pub fn delete_session(&self, session_id: Uuid, owner: Option<Uuid>) -> Result<Deletion, Reason> {
        self.door.delete(SessionDelete { session_id, owner, silent_since: None })
    }

    /// Deletes a session of which nothing was heard since this moment: it is too old to be kept. One that is under way is
    /// spared, and so is another user's where `owner` is given. It may begin again.
    ///
    /// # Errors
    /// As [`Self::delete_session`].
    pub fn delete_silent_session(
        &self,
        session_id: Uuid,
        owner: Option<Uuid>,
        since: Timestamp,
    ) -> Result<Option<Deletion>, Reason> {
        if self.owner_of(session_id).is_some() {
            return Ok(None);
        }
        let delete = SessionDelete { session_id, owner, silent_since: Some(since) };
        self.door.delete(delete).map(Some)
    }

    /// The sessions of this user that are under way, or ended a moment ago.
    pub fn sessions_of(&self, user_id: Uuid) -> Vec<Uuid> {
        self.door.registry.of_user(user_id)
    }
}

impl Door {
    /// A full journal is no reason to wait: this makes room.
    fn delete(&self, delete: SessionDelete) -> Result<Deletion, Reason> {
        self.check_open()?;
        let is_for_good = delete.is_for_good();
        // Under the session's lock: whatever of it comes later finds nothing in memory that could give it a user.
        let entry = self.registry.entry(delete.session_id);
        let place = self.queue.admit(self.now().at, 0, Admission::IfRoom)?;
        let (deleting, deletion) = Deletion::new();
        place.fill(Body::Delete(delete), Reply::Deleted(deleting));
        if let (true, Entry::Occupied(known)) = (is_for_good, entry) {
            known.remove();
        }
        Ok(deletion)
    }
}
