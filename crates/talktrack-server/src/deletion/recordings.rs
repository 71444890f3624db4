//! Recordings of sessions that are gone. Where their store cannot remove them now, it is asked until it does, by the next
//! start at the latest.

use std::time::Duration;

use tokio::time::sleep;
use uuid::Uuid;

use crate::state::AppState;

/// How often a store that cannot do it is asked again.
const INTERVAL: Duration = Duration::from_secs(30);

/// Removes a deleted session's recordings, and says how many there were; `None` where that has to wait.
pub(crate) async fn remove(state: &AppState, session_id: Uuid) -> Option<u64> {
    match state.audio().delete_session(session_id).await {
        Ok(count) => Some(count as u64),
        Err(error) => {
            error.log("the recordings of a deleted session cannot be removed yet");
            tokio::spawn(insist(state.clone(), session_id));
            None
        }
    }
}

/// Removes what an earlier run has left of deleted sessions.
pub(crate) async fn catch_up(state: AppState) {
    let sessions = match state.audio().sessions().await {
        Ok(sessions) => sessions,
        Err(error) => return error.log("recordings of deleted sessions are not looked for"),
    };
    for session_id in sessions {
        if state.local().is_deleted(session_id).await.unwrap_or(false) {
            remove(&state, session_id).await;
        }
    }
}

async fn insist(state: AppState, session_id: Uuid) {
    let mut stopping = state.watch_stop();
    let removed = async {
        loop {
            sleep(INTERVAL).await;
            if state.audio().delete_session(session_id).await.is_ok() {
                return;
            }
        }
    };
    tokio::select! {
        () = stopping.wait() => {}
        () = removed => {}
    }
}
