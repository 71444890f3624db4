//! Deletes sessions and users with everything that belongs to them. This module alone knows everywhere that their data
//! is kept.

pub(crate) mod operator;
pub(crate) mod due_users;
pub(crate) mod messages;
pub(crate) mod recordings;
mod remaining;

use std::collections::HashSet;
use std::time::Duration;

use axum::http::StatusCode;
use futures_util::future::join_all;
use serde::Serialize;
use talktrack::clock::{Clock as _, SystemClock};
use talktrack::store::SessionFilter;
use talktrack::{
    Deletion, DeletionCounts, ErrorCode, NotDurable, ReadError, SessionId, SessionReceipt, UserId,
};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::access::{self, Granted, SessionName};
use crate::auth::Caller;
use crate::deletion::remaining::Remaining;
use crate::error::Problem;
use crate::state::AppState;
use crate::store::PAGE;

/// How long a deletion waits for a remote store, and for one that is known to be unavailable. The store completes the
/// deletion later in either case.
const ERASE_TIMEOUT: Duration = Duration::from_secs(10);
const AWAY_TIMEOUT: Duration = Duration::from_secs(1);

/// The advice for a caller who deletes an absent session.
const REFUSED_FROM_NOW_ON: &str =
    "records of this session that another server delivers later will be refused";

/// How many sessions of a user are deleted concurrently.
const TOGETHER: usize = 50;

/// What was removed.
#[derive(Debug, Default, Serialize, ToSchema)]
#[schema(as = Gone)]
pub(crate) struct DeletionReport {
    /// Sessions removed from the store.
    sessions: u64,
    /// Messages removed from the store.
    messages: u64,
    /// Dead letters removed.
    dead_letters: u64,
    /// Messages removed from the journal while they waited for the store.
    journal: u64,
    /// Recordings removed.
    audio: u64,
    /// `done`, or `pending` if the database or the object store of recordings cannot be reached: the server deletes the rest there
    /// as soon as it can, and does not count it here.
    store: InStore,
    /// Files in the data directory of this server that may still hold deleted data: what is left of damaged databases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remaining: Vec<Remaining>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum InStore {
    #[default]
    Done,
    Pending,
}

impl DeletionReport {
    fn add(&mut self, removed: DeletionCounts) {
        self.sessions += removed.sessions;
        self.messages += removed.messages;
        self.dead_letters += removed.dead_letters;
        self.journal += removed.journal;
    }

    /// Returns each number above zero with its name, for display.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let parts = [
            (self.messages, "messages"),
            (self.audio, "recordings"),
            (self.dead_letters, "dead letters"),
            (self.journal, "messages that waited for the database"),
        ];
        parts.into_iter().filter(|(number, _)| *number > 0)
    }

    /// Returns the files that may still contain deleted data.
    pub(crate) fn remaining(&self) -> &[Remaining] {
        &self.remaining
    }

    /// True if nothing is left to delete.
    pub(crate) fn is_done(&self) -> bool {
        self.store == InStore::Done
    }
}

/// Deletes the session that the caller names. A deletion that has begun is completed even if the caller disconnects.
///
/// # Errors
/// Fails if the deletion cannot be accepted now, or if the session is absent or not the caller's. Another node may
/// still have records of an absent session: the store refuses them when they arrive.
pub(crate) async fn delete_session(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<(SessionId, DeletionReport), Problem> {
    let Granted { session_id, claim, owner, .. } = match access::to_delete(state, caller, name).await {
        Err(problem) if problem.code() == NotDurable::UnknownSession.code() => {
            refuse_absent(state, access::absent_to_delete(caller, name)).await?;
            return Err(problem.with_advice(REFUSED_FROM_NOW_ON));
        }
        granted => granted?,
    };
    let state = state.clone();
    let gone = run_to_completion(async move {
        let mut gone = DeletionReport::default();
        let accepted = match claim {
            Some(owner) => state.tracker().delete_session(session_id, Some(owner)),
            None => state.tracker().delete_session_of_any_user(session_id, owner),
        };
        delete_one(&state, session_id, accepted?, &mut gone).await?;
        gone.remaining = remaining::find_remaining(&state).await;
        Ok(gone)
    });
    Ok((session_id, gone.await?))
}

/// Writes tombstones for sessions that are absent or another user's.
async fn refuse_absent(state: &AppState, sessions: Vec<(SessionId, Option<UserId>)>) -> Result<(), Problem> {
    let state = state.clone();
    let marks = sessions.into_iter().map(move |(session_id, owner)| {
        let accepted = state.tracker().delete_session(session_id, owner);
        async move {
            let Deletion { here, in_store, .. } = accepted?;
            // The result is ignored: the caller must not learn that the session is another user's.
            let _ = here.durable().await;
            let _ = timeout(AWAY_TIMEOUT, in_store.durable()).await;
            Ok(DeletionReport::default())
        }
    });
    let marks: Vec<_> = marks.collect();
    run_to_completion(async move {
        join_all(marks).await.into_iter().try_fold(DeletionReport::default(), |_, mark| mark)
    })
    .await
    .map(drop)
}

/// Deletes all data of a user: stored sessions, waiting records and dead letters. If the store is unavailable, the data
/// on this node is deleted immediately and the rest when the store is available again.
///
/// # Errors
/// Fails if the deletion cannot be accepted now.
pub(crate) async fn delete_user(state: &AppState, user_id: UserId) -> Result<DeletionReport, Problem> {
    let state = state.clone();
    run_to_completion(async move {
        let _running = state.deleted_users().start_deletion(&user_id);
        let moment = SystemClock.now();
        // The note is written before the tombstone. The process may end as soon as the store has the tombstone, and
        // then only this note leads to the remaining sessions.
        let noted = if state.is_remote() {
            state.deleted_users().note_deletion(user_id.clone(), moment).await
        } else {
            Ok(None)
        };
        let mut gone = DeletionReport::default();
        // The tombstone is written before the sessions are listed. A session that begins after it is new and is kept;
        // the store has every earlier session by then, so the list contains it.
        match state.tracker().delete_user(user_id.clone()) {
            Ok(accepted) => delete_all(&state, &user_id, accepted, &mut gone).await?,
            Err(refused) => {
                let put_back = state.deleted_users().put_back(user_id.clone(), moment, noted.ok().flatten());
                put_back.await.map_err(|error| not_noted(&error))?;
                return Err(refused.into());
            }
        }
        if gone.is_done() {
            due_users::clear_note(&state, user_id, moment).await;
        } else {
            noted.map_err(|error| not_noted(&error))?;
        }
        gone.remaining = remaining::find_remaining(&state).await;
        Ok(gone)
    })
    .await
}

async fn delete_all(
    state: &AppState,
    user_id: &UserId,
    Deletion { here, in_store, .. }: Deletion,
    gone: &mut DeletionReport,
) -> Result<(), Problem> {
    here.durable().await?;
    if done_in_time(state, in_store).await?.is_none() {
        gone.store = InStore::Pending;
    }
    let mut done = HashSet::new();
    loop {
        let found = sessions_of(state, user_id, gone).await?;
        let left: Vec<SessionId> = found.into_iter().filter(|session_id| done.insert(*session_id)).collect();
        if left.is_empty() {
            break;
        }
        delete_some(state, &left, user_id, gone).await?;
    }
    // Dead letters of sessions that never belonged to the user.
    let letters =
        state.local().dead_letters().seqs_of_user(user_id).await.map_err(|error| unreadable(&error))?;
    gone.dead_letters += state.tracker().delete_dead_letters(letters).await?.len() as u64;
    Ok(())
}

async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    let stopped = |_| Problem::from(NotDurable::Stopped);
    tokio::spawn(work).await.map_err(stopped)?
}

async fn delete_some(
    state: &AppState,
    sessions: &[SessionId],
    user_id: &UserId,
    gone: &mut DeletionReport,
) -> Result<(), Problem> {
    for some in sessions.chunks(TOGETHER) {
        delete_together(state, some, user_id, gone).await?;
    }
    Ok(())
}

async fn delete_together(
    state: &AppState,
    sessions: &[SessionId],
    user_id: &UserId,
    gone: &mut DeletionReport,
) -> Result<(), Problem> {
    let deletions = sessions.iter().map(|session_id| async move {
        let mut gone = DeletionReport::default();
        let deleted = async {
            let accepted = state.tracker().delete_session(*session_id, Some(user_id.clone()))?;
            delete_one(state, *session_id, accepted, &mut gone).await
        };
        (deleted.await, gone)
    });
    for (deleted, one) in join_all(deletions).await {
        match deleted {
            // The user only claimed this session; it belongs to another user.
            Err(problem) if problem.code() == NotDurable::OtherUser.code() => {}
            deleted => deleted?,
        }
        let DeletionReport { sessions, messages, dead_letters, journal, audio, store, .. } = one;
        gone.add(DeletionCounts { sessions, messages, dead_letters, journal });
        gone.audio += audio;
        if store == InStore::Pending {
            gone.store = store;
        }
    }
    Ok(())
}

async fn delete_one(
    state: &AppState,
    session_id: SessionId,
    deletion: Deletion,
    gone: &mut DeletionReport,
) -> Result<(), Problem> {
    remove_rows(state, deletion, gone).await?;
    match recordings::remove(state, session_id).await {
        Some(count) => gone.audio += count,
        None => gone.store = InStore::Pending,
    }
    Ok(())
}

/// Waits until an accepted deletion is done on this node and in the store, and counts what it removed.
async fn remove_rows(
    state: &AppState,
    Deletion { here, in_store, .. }: Deletion,
    gone: &mut DeletionReport,
) -> Result<(), Problem> {
    gone.add(here.durable().await?);
    if timeout(ERASE_TIMEOUT, state.tracker().wait_until_erased()).await.is_err() {
        gone.store = InStore::Pending;
    }
    match done_in_time(state, in_store).await? {
        Some(removed) => gone.add(removed),
        None => gone.store = InStore::Pending,
    }
    // After the store confirms the deletion, further records may be purged here.
    if gone.is_done() && timeout(ERASE_TIMEOUT, state.tracker().wait_until_erased()).await.is_err() {
        gone.store = InStore::Pending;
    }
    Ok(())
}

/// Returns what the store removed; `None` if the store does so later.
async fn done_in_time(
    state: &AppState,
    in_store: SessionReceipt<DeletionCounts>,
) -> Result<Option<DeletionCounts>, Problem> {
    let is_away = state.tracker().health().store.is_some();
    match timeout(if is_away { AWAY_TIMEOUT } else { ERASE_TIMEOUT }, in_store.durable()).await {
        Ok(Ok(removed)) => Ok(Some(removed)),
        Ok(Err(NotDurable::Stopped)) | Err(_) => Ok(None),
        Ok(Err(why)) => Err(why.into()),
    }
}

/// Returns the sessions of a user that are in memory, waiting for the store, or stored. If the store cannot answer,
/// marks the deletion as pending and returns only the others.
async fn sessions_of(
    state: &AppState,
    user_id: &UserId,
    gone: &mut DeletionReport,
) -> Result<HashSet<SessionId>, Problem> {
    let mut found: HashSet<SessionId> = state.tracker().sessions_of_user(user_id).into_iter().collect();
    found.extend(
        state.local().outbox().journaled_sessions_of(user_id).await.map_err(|error| unreadable(&error))?,
    );
    if state.is_remote() && state.tracker().health().store.is_some() {
        gone.store = InStore::Pending;
        return Ok(found);
    }
    match timeout(ERASE_TIMEOUT, sessions_in_store(state, user_id)).await {
        Ok(Ok(stored)) => found.extend(stored),
        Ok(Err(error)) if !state.is_remote() => return Err(unreadable(&error)),
        Ok(Err(_)) | Err(_) => gone.store = InStore::Pending,
    }
    Ok(found)
}

/// Returns the stored sessions of a user.
async fn sessions_in_store(state: &AppState, user_id: &UserId) -> Result<Vec<SessionId>, ReadError> {
    let reader = state.tracker().reader();
    let filter = SessionFilter::default().with_user_id(user_id.clone());
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = reader.sessions(filter.clone(), after, PAGE).await?;
        found.extend(page.iter().map(|row| row.session_id));
        match page.last_before_more() {
            Some(last) => after = Some(last.cursor()),
            None => return Ok(found),
        }
    }
}

/// Converts a failed query to the response.
fn unreadable(error: &ReadError) -> Problem {
    Problem::read_failed(error)
}

fn not_noted(error: &std::io::Error) -> Problem {
    tracing::error!("cannot record the deletion of a user: {error}");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::JournalFull,
        "the server cannot write the deletion to its disk now",
    )
}
