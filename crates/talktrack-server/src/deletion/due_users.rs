//! Users whose deletion the store has not completed yet. Only the store knows all of their sessions, so each session is
//! deleted when the store can be asked.

use std::time::Duration;

use talktrack::{ReadError, Timestamp, UserId};
use tokio::time::sleep;

use super::{DeletionReport, delete_some};
use crate::error::Problem;
use crate::state::AppState;

/// How often the store is asked.
const INTERVAL: Duration = Duration::from_secs(2);

/// Deletes the sessions of these users as soon as the store can be asked, for as long as the server runs.
pub(crate) async fn run(state: AppState) {
    let mut stopping = state.watch_stop();
    let work = async {
        loop {
            for (user_id, moment) in state.deleted_users().list_due().await {
                match delete_user(&state, &user_id, moment).await {
                    Ok(true) => clear_note(&state, user_id, moment).await,
                    Ok(false) => {}
                    Err(problem) => tracing::debug!("a user is not deleted yet: {}", problem.into_detail()),
                }
            }
            sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        () = stopping.wait() => {}
        () = work => {}
    }
}

/// Removes the note of a user's deletion that was requested at `moment`, because it is complete.
pub(super) async fn clear_note(state: &AppState, user_id: UserId, moment: Timestamp) {
    if let Err(error) = state.deleted_users().clear_note(user_id, moment).await {
        tracing::warn!("the deletion of a user will be repeated at the next start: {error}");
    }
}

/// Deletes the sessions that the store had of the user at `moment`. Returns false if the store has not completed all
/// deletions.
async fn delete_user(state: &AppState, user_id: &UserId, moment: Timestamp) -> Result<bool, Problem> {
    let unreadable = |error: ReadError| Problem::read_failed(&error);
    // The store must have the user's tombstone first, so that no earlier session can arrive afterwards.
    if state.deleted_users().is_running(user_id)
        || state.tracker().health().store.is_some()
        || state.local().outbox().is_user_deletion_pending(user_id).await.map_err(unreadable)?
    {
        return Ok(false);
    }
    let sessions = state.tracker().reader().sessions_of_user_at(user_id, moment).await.map_err(unreadable)?;
    let mut gone = DeletionReport::default();
    delete_some(state, &sessions, user_id, &mut gone).await?;
    Ok(gone.is_done())
}
