//! The connections to a session: it ends when the last one is lost.

use talktrack_core::clock::Timestamp;
use talktrack_core::error::Reason;
use talktrack_core::record::{Ended, Status};

use crate::receipt::{Refusals, SessionReceipt};
use crate::session::{Session, SessionRef};
use crate::tracker::{Closing, Inner, Tracker};

impl Tracker {
    /// Removes one connection from the session. Removing the last one ends the session with the reason `disconnect`.
    /// Every start counts as one connection until its `disconnect`, even if the session is ended in between.
    ///
    /// # Errors
    /// Only while the tracker is shutting down, because it then ends every session itself.
    pub fn disconnect(
        &self,
        session: impl Into<SessionRef>,
    ) -> Result<Option<SessionReceipt<Ended>>, Reason> {
        self.inner.infer_end(&session.into(), Status::Ended, "disconnect", |session, now| {
            session.disconnect().then_some(now)
        })
    }

    /// Removes one connection from the session, as [`Self::disconnect`] does, for a connection that carried many
    /// sessions since `open_since`. If no message was said in the session since then, the session ends at its last
    /// event: the connection proves nothing of a session that it only continued.
    ///
    /// # Errors
    /// As [`Self::disconnect`].
    pub fn disconnect_feed(
        &self,
        session: impl Into<SessionRef>,
        open_since: Timestamp,
    ) -> Result<Option<SessionReceipt<Ended>>, Reason> {
        self.inner.infer_end(&session.into(), Status::Ended, "disconnect", |session, now| {
            session.disconnect().then(|| session.active_until(open_since).unwrap_or(now))
        })
    }

    /// Says that the caller that started the session holds no connection to it: the session stays active until a caller
    /// ends it, or until it has had no event for `idle_timeout`. Undoes the connection count of the start.
    pub fn detach(&self, session: impl Into<SessionRef>) {
        self.inner.registry.with_claim(&session.into(), |session| session.map(Session::disconnect));
    }

    /// Follows refusals of a remote store, for callers that hold many claims. Look at each claim after a change.
    pub fn refusals(&self) -> Refusals {
        self.inner.shared.progress.watch_refusals()
    }
}

impl Inner {
    /// Ends a session that no caller ended, because this node sees its end: a lost connection, silence, or its own
    /// shutdown. `find_end` is given the current time and returns when the session ended, if it has. It decides under the
    /// session's lock: a connection or a message that arrives at the same moment either comes first or resumes the
    /// session.
    pub(super) fn infer_end(
        &self,
        session: &SessionRef,
        status: Status,
        reason: &str,
        find_end: impl FnOnce(&mut Session, Timestamp) -> Option<Timestamp>,
    ) -> Result<Option<SessionReceipt<Ended>>, Reason> {
        let now = self.now().at;
        self.registry.with_claim(session, |claim| {
            let Some(claim) = claim else { return Ok(None) };
            let Some(ended_at) = find_end(claim, now) else { return Ok(None) };
            let closing = Closing { status, reason, ended_at, known: None };
            self.enqueue_end(session, Some(claim), closing, true).map(Some)
        })
    }
}
