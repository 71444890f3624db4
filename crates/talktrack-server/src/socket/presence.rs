//! Being connected to a session: from its start until the connection is gone.

use talktrack::{NewSession, NotDurable, Started, Tracker};
use uuid::Uuid;

/// Whatever happens to the connection's task, the session learns that the connection is gone.
pub(super) struct Presence {
    pub(super) tracker: Tracker,
    pub(super) session_id: Uuid,
    /// The session was never ours: there is nothing to disconnect from.
    refused: bool,
}

impl Presence {
    /// Starts the session, and waits until that is durable.
    ///
    /// # Errors
    /// The protocol's code and the reason in words.
    pub(super) async fn begin(
        tracker: &Tracker,
        session: NewSession,
    ) -> Result<(Self, Started), (&'static str, String)> {
        let (session_id, user_id) = (session.session_id, session.user_id);
        let receipt = tracker.start_session(session);
        let receipt = receipt.map_err(|refused| (refused.reason.code(), refused.reason.to_string()))?;
        let mut presence = Self { tracker: tracker.clone(), session_id, refused: false };
        match receipt.durable().await {
            Ok(started) => Ok((presence, started)),
            Err(why) => {
                if matches!(why, NotDurable::OtherUser | NotDurable::Deleted) {
                    presence.refused = true;
                    presence.tracker.forget(session_id, user_id);
                }
                Err((why.code(), why.to_string()))
            }
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if !self.refused {
            // Refused only while shutting down, which ends every session itself.
            let _ = self.tracker.disconnect(self.session_id);
        }
    }
}
