//! The presence of a connection in its session: from the session's start until the connection ends.

use talktrack::{Author, Claim, ErrorCode, NewSession, NotDurable, SessionRef, Started, Tracker};

use crate::access;
use crate::auth::Caller;
use crate::state::AppState;

/// Marks a session as connected. Dropping it tells the tracker that the connection has ended, however the connection's
/// task ends.
pub(super) struct ConnectionGuard {
    pub(super) tracker: Tracker,
    /// The session, with the user for whom this connection started it.
    pub(super) session: SessionRef,
    /// On whose authority the connection writes.
    pub(super) author: Author,
    /// Reports if a remote store later refuses the start, or drops acknowledged records.
    pub(super) claim: Claim,
    /// True if the store refused the session, so there is nothing to disconnect from.
    refused: bool,
}

impl ConnectionGuard {
    /// Starts the session and waits until the start is durable.
    ///
    /// # Errors
    /// Returns the error code of the protocol and the reason in words.
    pub(super) async fn start(
        state: &AppState,
        caller: &Caller,
        session: NewSession,
    ) -> Result<(Self, Started), (ErrorCode, String)> {
        let met = access::check_store(state, caller, session).await;
        let session = met.map_err(|problem| (problem.code(), problem.into_detail()))?;
        let tracker = state.tracker();
        let user_id = session.user_id.clone();
        let session_ref = SessionRef::for_user(session.session_id, user_id.clone());
        let author = access::author(caller, Some(user_id.clone()));
        let receipt = tracker.start_session(session);
        let receipt = receipt.map_err(|refused| (refused.reason.code(), refused.reason.to_string()))?;
        let claim = receipt.claim(session_ref.session_id, user_id);
        let mut guard =
            Self { tracker: tracker.clone(), session: session_ref, author, claim, refused: false };
        match receipt.durable().await {
            Ok(started) => Ok((guard, started)),
            Err(why) => {
                if matches!(why, NotDurable::OtherUser | NotDurable::Deleted) {
                    guard.give_up();
                }
                let why = access::mask_refusal(caller, why);
                Err((why.code(), why.to_string()))
            }
        }
    }

    /// Forgets this connection's claim to the session, because the store refused it.
    pub(super) fn give_up(&mut self) {
        let SessionRef { session_id, user_id } = &self.session;
        self.refused = true;
        user_id.iter().for_each(|user_id| self.tracker.forget_claim(*session_id, user_id));
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if !self.refused {
            // The tracker refuses this only during shutdown, and the shutdown ends every session.
            let _ = self.tracker.disconnect(self.session.clone());
        }
    }
}
