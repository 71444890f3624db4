//! What the store knows of a session that a caller starts on this node.

use std::time::Duration;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{NewSession, StoredTime, Timestamp};
use tokio::time::timeout;
use uuid::Uuid;

use super::proof::{self, Denied, QUICK_LOOK};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The clocks of two nodes may be apart by this much, or a caller's from both.
const RECENT: Duration = Duration::from_secs(120);

/// Asks the store what it knows of a session that begins or is resumed on this node: whether it was deleted, and when something was
/// last said in it. A store that is away or slow is not waited for: it refuses later what it has to refuse.
///
/// # Errors
/// 410 if the session was deleted; 404 if the caller may not know that.
pub(crate) async fn meet_store(
    state: &AppState,
    caller: &Caller,
    session: NewSession,
) -> Result<NewSession, Problem> {
    let NewSession { session_id, user_id, .. } = session;
    let said_until = timeout(QUICK_LOOK, said_until_in(state, session_id, user_id));
    let (deletion, said_until) = tokio::join!(proof::deletion(state, session_id), said_until);
    match deletion {
        // The id of a user's session is proven, or derived from the user.
        Some(deleted) if caller.user().is_some() => Err(Denied::Deleted(deleted).into()),
        Some(deleted) => Err(proof::absent(caller, Some(deleted)).into()),
        None => Ok(NewSession { said_until: said_until.ok().flatten(), ..session }),
    }
}

/// When something was last said in a session of this user, as far as the store knows.
async fn said_until_in(state: &AppState, session_id: Uuid, user_id: Uuid) -> Option<Timestamp> {
    if state.is_remote() && state.tracker().health().store.is_some() {
        return None;
    }
    let row = state.tracker().reader().session(session_id).await.ok()??;
    let last_event_at = row.last_event_at.as_ref().and_then(StoredTime::known)?;
    if row.user_id != Some(user_id) {
        return None;
    }
    said_until(state, session_id, last_event_at).await
}

/// When the last stored message of the session was said, if something happened in it a moment ago: what is said on this node next
/// comes after it, although this node's clock may be behind that of another node.
pub(super) async fn said_until(
    state: &AppState,
    session_id: Uuid,
    last_event_at: Timestamp,
) -> Option<Timestamp> {
    if last_event_at < SystemClock.now().minus(RECENT) {
        return None;
    }
    let reader = state.tracker().reader();
    timeout(QUICK_LOOK, reader.last_said_at(session_id)).await.ok()?.ok()?
}
