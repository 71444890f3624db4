//! Removes the recordings of deleted sessions. If the object store cannot remove them now, the server retries until it
//! can, also after a restart.

use std::time::Duration;

use talktrack::SessionId;
use tokio::time::sleep;

use crate::state::AppState;

/// How often a failed removal is retried.
const INTERVAL: Duration = Duration::from_secs(30);

/// Removes the recordings of a deleted session and returns how many there were; `None` if the removal has to be
/// retried.
pub(crate) async fn remove(state: &AppState, session_id: SessionId) -> Option<u64> {
    match state.audio().delete_session(session_id).await {
        Ok(count) => Some(count as u64),
        Err(error) => {
            error.log("the recordings of a deleted session cannot be removed yet");
            tokio::spawn(remove_until_done(state.clone(), session_id));
            None
        }
    }
}

/// Removes recordings of deleted sessions that an earlier run of the server has left.
pub(crate) async fn catch_up(state: AppState) {
    let sessions = match state.audio().list_sessions().await {
        Ok(sessions) => sessions,
        Err(error) => return error.log("cannot look for recordings of deleted sessions"),
    };
    for session_id in sessions {
        if state.local().is_deleted(session_id).await.unwrap_or(false) {
            remove(&state, session_id).await;
        }
    }
}

async fn remove_until_done(state: AppState, session_id: SessionId) {
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
