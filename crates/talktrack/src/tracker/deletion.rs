//! Deletion of sessions and users.
//!
//! The deletion of a session is a record, enqueued under the session's lock. The journal's transaction leaves a
//! tombstone and removes the session's waiting records, its dead letters and, with SQLite, its rows. With a remote
//! store, the record then waits in the journal. Records of the session that the writer already holds reach the store
//! before it, because they are in the same lane.
//!
//! A deletion by age leaves no tombstone. With a remote store, the journal removes nothing for it, because only the
//! store knows the age of a session.

use dashmap::mapref::entry::Entry;
use talktrack_core::clock::Timestamp;
use talktrack_core::error::Reason;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Body, SessionDelete, UserDelete};

use crate::queue::Admission;
use crate::receipt::{Deletion, Reply};
use crate::session::Claims;
use crate::tracker::{Inner, Tracker};

impl Tracker {
    /// Deletes a session permanently: its rows, its records in the journal and its dead letters, including everything
    /// that was accepted before this call. Later records of the session are refused
    /// ([`NotDurable::Deleted`](crate::NotDurable::Deleted)), and the session cannot start again. If `owner` is given
    /// and the session belongs to another user, or is not in the store yet, only what was accepted for `owner` is
    /// deleted and refused from then on.
    ///
    /// With a remote store, the text leaves this machine at once. The rows in the store follow as soon as the store can
    /// be reached.
    ///
    /// # Errors
    /// A [`Reason`] if the deletion cannot be accepted now.
    pub fn delete_session(&self, session_id: SessionId, owner: Option<UserId>) -> Result<Deletion, Reason> {
        self.inner.enqueue_deletion(SessionDelete {
            session_id,
            owner: owner.clone(),
            told_to: owner,
            silent_since: None,
            removed: None,
        })
    }

    /// Deletes a session of any user permanently. `told_to` is the owner, if the caller knows it: this user is told of
    /// the deletion through [`Change`](crate::changes::Change).
    ///
    /// # Errors
    /// As [`Self::delete_session`].
    pub fn delete_session_of_any_user(
        &self,
        session_id: SessionId,
        told_to: Option<UserId>,
    ) -> Result<Deletion, Reason> {
        self.inner.enqueue_deletion(SessionDelete {
            session_id,
            owner: None,
            told_to,
            silent_since: None,
            removed: None,
        })
    }

    /// Deletes a session that has had no event since `since`, because it is too old to be kept. The deletion spares a
    /// session with a later event, and the session of a user other than `owner` if that is given. The session may start
    /// again. Returns `None` if the session is in memory, that is, active or just ended.
    ///
    /// # Errors
    /// As [`Self::delete_session`].
    pub fn delete_inactive_session(
        &self,
        session_id: SessionId,
        owner: Option<UserId>,
        since: Timestamp,
    ) -> Result<Option<Deletion>, Reason> {
        if self.inner.registry.contains(session_id) {
            return Ok(None);
        }
        let told_to = owner.clone();
        let silent_since = Some(since);
        let delete = SessionDelete { session_id, owner, told_to, silent_since, removed: None };
        self.inner.enqueue_deletion(delete).map(Some)
    }

    /// Marks a user as deleted from now on: a remote store refuses everything that other nodes deliver later for
    /// sessions of the user that started before this call. Sessions that start later are new. The caller deletes the
    /// known sessions one by one after the store has confirmed this mark.
    ///
    /// # Errors
    /// As [`Self::delete_session`].
    pub fn delete_user(&self, user_id: UserId) -> Result<Deletion, Reason> {
        self.inner.check_open()?;
        let permit = self.inner.queue.reserve(self.inner.now().at, 0, Admission::IfRoom)?;
        let (deleting, answers) = Deletion::channel();
        let seq = permit.send(Body::DeleteUser(UserDelete { user_id }), Reply::Deleted(deleting));
        Ok(Deletion::new(answers, seq, &self.inner.shared.progress))
    }

    /// Waits until the deleted data has left every file of the data directory, including the WAL. This is normally the
    /// case as soon as the deletion is durable. A large file or an active reader delays it.
    pub async fn wait_until_erased(&self) {
        let mut unerased = self.inner.shared.health.watch_needs_scrub();
        // The sender lives as long as the tracker, so it cannot be gone.
        let _ = unerased.wait_for(|unerased| !unerased).await;
    }

    /// Returns the sessions of this user that are active or have just ended.
    pub fn sessions_of_user(&self, user_id: &UserId) -> Vec<SessionId> {
        self.inner.registry.sessions_of_user(user_id)
    }
}

impl Inner {
    /// A full journal does not block a deletion, because a deletion makes room.
    fn enqueue_deletion(&self, delete: SessionDelete) -> Result<Deletion, Reason> {
        self.check_open()?;
        let is_permanent = delete.is_permanent();
        let owner = delete.owner.clone();
        // The entry holds the session's lock: later records of the session find no user for it in memory.
        let entry = self.registry.entry(delete.session_id);
        let permit = self.queue.reserve(self.now().at, 0, Admission::IfRoom)?;
        let (deleting, answers) = Deletion::channel();
        let seq = permit.send(Body::Delete(delete), Reply::Deleted(deleting));
        if let (true, Entry::Occupied(claims)) = (is_permanent, entry) {
            Claims::forget(claims, owner.as_ref());
        }
        Ok(Deletion::new(answers, seq, &self.shared.progress))
    }
}
