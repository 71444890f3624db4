//! Retention by age: deletes what is older than `retention_days`, in small steps.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::store::SessionRow;
use talktrack::{Deletion, DeletionCounts, NotDurable, ReadError, Timestamp, counted};
use tokio::time::{Instant, sleep, timeout};

use crate::audit::{Actor, Entry};
use crate::deletion::recordings;
use crate::state::AppState;

/// How often expired sessions are searched for.
const INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The number of sessions on one page, and the maximum number of messages that one step deletes, unless a single
/// session has more.
const PAGE: usize = 100;
const MESSAGES: u64 = 1_000;

/// The pause after each step, so that the disk is available for new messages.
const REST: Duration = Duration::from_millis(50);

/// How long a step waits for a remote store.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Deletes expired sessions, dead letters and recordings for as long as the server runs. Returns immediately if everything
/// is kept.
pub(crate) async fn run(state: AppState) {
    let age = state.config().retention;
    let audio_age = state.config().audio_retention;
    if age.is_none() && audio_age.is_none() {
        return;
    }
    let began = SystemClock.now();
    let clock = Instant::now();
    let mut stopping = state.watch_stop();
    loop {
        // A wall clock that jumps ahead must not make sessions expire early.
        let now = SystemClock.now().min(began.plus(clock.elapsed()));
        let pass = async {
            if let Some(age) = age
                && let Err(error) = run_pass(&state, now.minus(age)).await
            {
                tracing::warn!("retention: {error}; the server will try again");
            }
            if let Some(age) = audio_age {
                delete_recordings(&state, now.minus(age)).await;
            }
            sleep(INTERVAL).await;
        };
        tokio::select! {
            () = stopping.wait() => return,
            () = pass => {}
        }
    }
}

async fn run_pass(state: &AppState, before: Timestamp) -> Result<(), ReadError> {
    let reader = state.tracker().reader();
    let mut removed = DeletionCounts::default();
    let mut after = None;
    loop {
        let page = reader.inactive_since(before, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        for some in split_page(&page) {
            removed += delete_sessions(state, some, before).await?;
            sleep(REST).await;
        }
    }
    removed.dead_letters += delete_old_letters(state, before).await?;
    if removed != DeletionCounts::default() {
        let DeletionCounts { sessions, messages, dead_letters, .. } = removed;
        let detail = json!({"sessions": sessions, "messages": messages, "dead_letters": dead_letters, "before": before});
        state.audit().record(Entry::new(Actor::Server, "retention", None).detail(detail));
        tracing::info!(
            sessions,
            messages,
            dead_letters,
            "retention: deleted {} with {}, and {}, from before {before}",
            counted(sessions, "session"),
            counted(messages, "message"),
            counted(dead_letters, "dead letter")
        );
    }
    Ok(())
}

/// Deletes recordings that are too old. Their sessions and messages stay.
async fn delete_recordings(state: &AppState, before: Timestamp) {
    match state.audio().delete_before(before).await {
        Ok(0) => {}
        Ok(recordings) => {
            let detail = json!({"recordings": recordings, "before": before});
            state.audit().record(Entry::new(Actor::Server, "retention", None).detail(detail));
            let told = counted(recordings, "recording");
            tracing::info!(recordings, "retention: deleted {told} from before {before}");
        }
        Err(error) => error.log("retention: old recordings cannot be deleted; the server will try again"),
    }
}

/// Splits a page into steps with at most [`MESSAGES`] messages, so that no step delays others for long.
fn split_page(page: &[SessionRow]) -> Vec<&[SessionRow]> {
    let mut steps = Vec::new();
    let mut start = 0;
    let mut messages = 0;
    for (place, row) in page.iter().enumerate() {
        // Another program may have stored any count.
        let count = row.message_count.max(0).unsigned_abs().min(MESSAGES);
        if place > start && messages + count > MESSAGES {
            steps.push(&page[start..place]);
            (start, messages) = (place, 0);
        }
        messages += count;
    }
    steps.push(&page[start..]);
    steps
}

async fn delete_sessions(
    state: &AppState,
    sessions: &[SessionRow],
    before: Timestamp,
) -> Result<DeletionCounts, ReadError> {
    let accept = |row: &SessionRow| {
        state.tracker().delete_inactive_session(row.session_id, row.user_id.clone(), before)
    };
    // A deletion that does not fit into the queue is tried again in an hour.
    let removal = |row: &SessionRow| {
        let deletion = accept(row).ok().flatten()?;
        let session_id = row.session_id;
        Some(async move { (session_id, removed_by(deletion).await) })
    };
    let mut removed = DeletionCounts::default();
    for (session_id, one) in join_all(sessions.iter().filter_map(removal)).await {
        let one = one?;
        // A session that became active meanwhile was not deleted.
        if one.sessions > 0 {
            recordings::remove(state, session_id).await;
        }
        removed += one;
    }
    Ok(removed)
}

async fn removed_by(Deletion { here, in_store, .. }: Deletion) -> Result<DeletionCounts, ReadError> {
    let stopped = |why: NotDurable| ReadError::unavailable(why);
    let mut removed = here.durable().await.map_err(stopped)?;
    let Ok(in_store) = timeout(STORE_TIMEOUT, in_store.durable()).await else {
        return Err(ReadError::unavailable("the store does not answer"));
    };
    removed += in_store.map_err(stopped)?;
    Ok(removed)
}

/// Deletes dead letters that are too old, and returns how many there were.
async fn delete_old_letters(state: &AppState, before: Timestamp) -> Result<u64, ReadError> {
    let mut removed = 0;
    loop {
        let old = state.local().dead_letters().seqs_before(before, PAGE).await?;
        if old.is_empty() {
            return Ok(removed);
        }
        let stopped = |why: NotDurable| ReadError::unavailable(why);
        removed += state.tracker().delete_dead_letters(old).await.map_err(stopped)?.len() as u64;
        sleep(REST).await;
    }
}

#[cfg(test)]
mod tests {
    use talktrack::{Dimensions, Status, clock::Clock as _};

    use super::*;
    use talktrack::SessionId;

    fn rows(counts: &[i64]) -> Vec<SessionRow> {
        let row = |message_count: &i64| SessionRow {
            session_id: SessionId::nil(),
            user_id: None,
            external_id: None,
            status: Status::Ended.into(),
            end_reason: None,
            started_at: SystemClock.now().into(),
            ended_at: None,
            duration_seconds: None,
            last_event_at: None,
            message_count: *message_count,
            dimensions: Dimensions::default(),
            metadata: None,
        };
        counts.iter().map(row).collect()
    }

    #[test]
    fn a_step_takes_as_many_sessions_as_their_messages_allow_and_at_least_one() {
        let steps =
            |counts: &[i64]| split_page(&rows(counts)).iter().map(|step| step.len()).collect::<Vec<_>>();
        assert_eq!(steps(&[1, 1, 1]), [3]);
        assert_eq!(steps(&[600, 400, 1]), [2, 1]);
        assert_eq!(steps(&[5_000, 5_000]), [1, 1]);
        assert_eq!(steps(&[1_000, 1, 5_000]), [1, 1, 1]);
        assert_eq!(steps(&[i64::MAX, -7, i64::MAX, i64::MIN]), [2, 2]);
    }
}
