//! Deletion at the door: a session goes, with everything that was said in it.

use dashmap::mapref::entry::Entry;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::Reason;
use crate::queue::Admission;
use crate::receipt::{Deletion, Reply};
use crate::record::{Body, SessionDelete, UserDelete};
use crate::session::Claims;
use crate::tracker::{Door, Tracker};

impl Tracker {
    /// Deletes a session for good: its rows, what waits of it in the journal, its dead letters. What was accepted of it before
    /// goes with it; what comes later is refused ([`NotDurable::Deleted`](crate::NotDurable::Deleted)), and it cannot begin
    /// again. Where `owner` is given, nothing happens to a session that is another user's: only what was accepted for `owner` goes
    /// and is refused from now on. The same is true of a session that the store does not know yet.
    ///
    /// With a remote store the text leaves this machine at once, and the store's rows as soon as it can be reached.
    ///
    /// # Errors
    /// Where it cannot be accepted now; see [`Reason`].
    pub fn delete_session(&self, session_id: Uuid, owner: Option<Uuid>) -> Result<Deletion, Reason> {
        self.door.delete(SessionDelete {
            session_id,
            owner,
            told_to: owner,
            silent_since: None,
            removed: None,
        })
    }

    /// The same whoever's the session is. `told_to` is the user who hears of it from [`Change`](crate::changes::Change), as far as
    /// that is known.
    ///
    /// # Errors
    /// As [`Self::delete_session`].
    pub fn delete_session_of_anyone(
        &self,
        session_id: Uuid,
        told_to: Option<Uuid>,
    ) -> Result<Deletion, Reason> {
        self.door.delete(SessionDelete {
            session_id,
            owner: None,
            told_to,
            silent_since: None,
            removed: None,
        })
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
        if self.door.registry.contains(session_id) {
            return Ok(None);
        }
        let (told_to, silent_since) = (owner, Some(since));
        let delete = SessionDelete { session_id, owner, told_to, silent_since, removed: None };
        self.door.delete(delete).map(Some)
    }

    /// Deletes a user as a whole, from now on: a remote store refuses whatever other nodes deliver later of sessions of the user
    /// that started before. Sessions that start later are new. The sessions that are known have to be deleted one by one, after
    /// the store has done this.
    ///
    /// # Errors
    /// As [`Self::delete_session`].
    pub fn delete_user(&self, user_id: Uuid) -> Result<Deletion, Reason> {
        self.door.check_open()?;
        let place = self.door.queue.admit(self.door.now().at, 0, Admission::IfRoom)?;
        let (deleting, answers) = Deletion::channel();
        let seq = place.fill(Body::DeleteUser(UserDelete { user_id }), Reply::Deleted(deleting));
        Ok(Deletion::new(answers, seq, &self.door.shared.progress))
    }

    /// Waits until what was deleted has left every file of the data directory, its remains included. A deletion does so at once,
    /// unless the file is large or somebody reads it: then this takes as long as that does.
    pub async fn erased(&self) {
        let mut unerased = self.door.shared.vitals.watch_unerased();
        // The sender lives in the tracker: it cannot be gone.
        let _ = unerased.wait_for(|unerased| !unerased).await;
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
        let (is_for_good, owner) = (delete.is_for_good(), delete.owner);
        // Under the session's lock: whatever of it comes later finds nothing in memory that could give it a user.
        let entry = self.registry.entry(delete.session_id);
        let place = self.queue.admit(self.now().at, 0, Admission::IfRoom)?;
        let (deleting, answers) = Deletion::channel();
        let seq = place.fill(Body::Delete(delete), Reply::Deleted(deleting));
        if let (true, Entry::Occupied(claims)) = (is_for_good, entry) {
            Claims::forget(claims, owner);
        }
        Ok(Deletion::new(answers, seq, &self.shared.progress))
    }
}
