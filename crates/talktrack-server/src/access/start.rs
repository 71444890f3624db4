//! Asks the store about a session that a caller starts on this node.

use std::time::Duration;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{NewSession, SessionId, StoredTime, Timestamp, UserId};
use tokio::time::timeout;

use super::proof::{self, Denied, QUICK_LOOKUP_TIMEOUT};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// An event is recent if it is at most this old. The clocks of two nodes, or of a caller and a node, may differ by this
/// much.
const RECENT: Duration = Duration::from_secs(120);

/// Asks the store about a session that a caller starts or resumes on this node: whether it was deleted, and when its
/// last message was said. Does not wait for a store that is unavailable or slow: such a store refuses the records later
/// if it has to.
///
/// # Errors
/// 410 if the session was deleted; 404 if the caller may not know that.
pub(crate) async fn check_store(
    state: &AppState,
    caller: &Caller,
    session: NewSession,
) -> Result<NewSession, Problem> {
    let session_id = session.session_id;
    let said_until = timeout(QUICK_LOOKUP_TIMEOUT, said_until_in(state, session_id, &session.user_id));
    let (deletion, said_until) = tokio::join!(proof::find_deletion(state, session_id), said_until);
    match deletion {
        // A user may always know of this deletion: the session is proven to be that user's, or its id is derived from
        // the user.
        Some(deleted) if caller.user().is_some() => Err(Denied::Deleted(deleted).into()),
        Some(deleted) => Err(proof::deny_absent(caller, Some(deleted)).into()),
        None => Ok(session.with_said_until(said_until.ok().flatten())),
    }
}

/// Returns when the last stored message of this user's session was said. `None` if the store does not know it or is
/// unavailable.
async fn said_until_in(state: &AppState, session_id: SessionId, user_id: &UserId) -> Option<Timestamp> {
    if state.is_remote() && state.tracker().health().store.is_some() {
        return None;
    }
    let row = state.tracker().reader().session(session_id).await.ok()??;
    let last_event_at = row.last_event_at.as_ref().and_then(StoredTime::known)?;
    if row.user_id.as_ref() != Some(user_id) {
        return None;
    }
    said_until(state, session_id, last_event_at).await
}

/// Returns when the last stored message of the session was said, if the last event is recent. New messages on this node
/// are given later times, even if the clock of this node is behind that of another node.
pub(super) async fn said_until(
    state: &AppState,
    session_id: SessionId,
    last_event_at: Timestamp,
) -> Option<Timestamp> {
    if last_event_at < SystemClock.now().minus(RECENT) {
        return None;
    }
    let reader = state.tracker().reader();
    timeout(QUICK_LOOKUP_TIMEOUT, reader.last_said_at(session_id)).await.ok()?.ok()?
}
