//! Sessions and users that go, with everything that belongs to them: the one place that knows where that lies.

pub(crate) mod recordings;

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use talktrack::store::SessionFilter;
use talktrack::{Deletion, NotDurable, ReadError, Removed};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::error::Problem;
use crate::state::AppState;
use crate::store::PAGE;

/// How long a remote store is waited for, and one that is known to be away. It does it later all the same.
const PATIENCE: Duration = Duration::from_secs(10);
const LITTLE_PATIENCE: Duration = Duration::from_secs(1);

/// Sessions of a user that are deleted at once.
const TOGETHER: usize = 50;

/// What was removed.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub(crate) struct Gone {
    /// Sessions removed from the store.
    sessions: u64,
    /// Messages removed from the store.
    messages: u64,
    /// Dead letters removed.
    dead_letters: u64,
    /// Messages removed from the journal, which were on their way to the store.
    journal: u64,
    /// Recordings removed.
    audio: u64,
    /// `done`; or `pending` where the database, or the object store of recordings, cannot be reached: it is deleted there as soon
    /// as it can, and is not counted here.
    store: InStore,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum InStore {
    #[default]
    Done,
    Pending,
}

impl Gone {
    fn add(&mut self, removed: Removed) {
        self.sessions += removed.sessions;
        self.messages += removed.messages;
        self.dead_letters += removed.dead_letters;
        self.journal += removed.journal;
    }

    /// What there was, each with its number, where there was any: for people.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, &'static str)> {
        let parts = [
            (self.messages, "messages"),
            (self.audio, "recordings"),
            (self.dead_letters, "dead letters"),
            (self.journal, "messages on their way to the database"),
        ];
        parts.into_iter().filter(|(number, _)| *number > 0)
    }

    /// Whether nothing is left to do.
    pub(crate) fn is_done(&self) -> bool {
        self.store == InStore::Done
    }
}

/// Deletes a session. What was begun is finished though nobody waits for the answer any more.
///
/// # Errors
/// Where it cannot be accepted now, or is another user's than this one's.
pub(crate) async fn delete_session(
    state: &AppState,
    session_id: Uuid,
    owner: Option<Uuid>,
) -> Result<Gone, Problem> {
    let state = state.clone();
    finish(async move {
        let mut gone = Gone::default();
        delete(&state, session_id, owner, &mut gone).await?;
        Ok(gone)
    })
    .await
}

/// Deletes everything of a user: what is stored, what is under way, what waits.
///
/// # Errors
/// Where the store cannot say what there is.
pub(crate) async fn delete_user(state: &AppState, user_id: Uuid) -> Result<Gone, Problem> {
    let state = state.clone();
    finish(async move {
        let (mut gone, mut done) = (Gone::default(), HashSet::new());
        loop {
            let found = sessions_of(&state, user_id).await.map_err(|error| unreadable(&error))?;
            let left: Vec<Uuid> = found.into_iter().filter(|session_id| done.insert(*session_id)).collect();
            if left.is_empty() {
                break;
            }
            for some in left.chunks(TOGETHER) {
                delete_some(&state, some, user_id, &mut gone).await?;
            }
        }
        // What was laid aside of sessions that were never theirs.
        let letters = state.local().dead_letters_of(user_id).await.map_err(|error| unreadable(&error))?;
        gone.dead_letters += state.tracker().take_out_dead_letters(letters).await?.len() as u64;
        Ok(gone)
    })
    .await
}

async fn finish(work: impl Future<Output = Result<Gone, Problem>> + Send + 'static) -> Result<Gone, Problem> {
    let stopped = |_| Problem::from(NotDurable::Stopped);
    tokio::spawn(work).await.map_err(stopped)?
}

async fn delete_some(
    state: &AppState,
    sessions: &[Uuid],
    user_id: Uuid,
    gone: &mut Gone,
) -> Result<(), Problem> {
    let deletions = sessions.iter().map(|session_id| async move {
        let mut gone = Gone::default();
        let deleted = delete(state, *session_id, Some(user_id), &mut gone).await;
        (deleted, gone)
    });
    for (deleted, one) in join_all(deletions).await {
        match deleted {
            // It only claimed to be theirs.
            Err(problem) if problem.code() == NotDurable::OtherUser.code() => {}
            deleted => deleted?,
        }
        let Gone { sessions, messages, dead_letters, journal, audio, store } = one;
        gone.add(Removed { sessions, messages, dead_letters, journal });
        gone.audio += audio;
        if store == InStore::Pending {
            gone.store = store;
        }
    }
    Ok(())
}

async fn delete(
    state: &AppState,
    session_id: Uuid,
    owner: Option<Uuid>,
    gone: &mut Gone,
) -> Result<(), Problem> {
    let Deletion { here, in_store } = state.tracker().delete_session(session_id, owner)?;
    gone.add(here.durable().await?);
    let is_away = state.tracker().health().store.is_some();
    match timeout(if is_away { LITTLE_PATIENCE } else { PATIENCE }, in_store.durable()).await {
        Ok(Ok(removed)) => gone.add(removed),
        Ok(Err(NotDurable::Stopped)) | Err(_) => gone.store = InStore::Pending,
        Ok(Err(why)) => return Err(why.into()),
    }
    match recordings::remove(state, session_id).await {
        Some(count) => gone.audio += count,
        None => gone.store = InStore::Pending,
    }
    Ok(())
}

/// The sessions of a user that are stored, in memory, or on their way to the store.
async fn sessions_of(state: &AppState, user_id: Uuid) -> Result<HashSet<Uuid>, ReadError> {
    let mut found: HashSet<Uuid> = state.tracker().sessions_of(user_id).into_iter().collect();
    found.extend(state.local().waiting_sessions_of(user_id).await?);
    let reader = state.tracker().reader();
    let filter = SessionFilter { user_id: Some(user_id), ..SessionFilter::default() };
    let mut after = None;
    loop {
        let page = reader.sessions(filter.clone(), after, PAGE).await?;
        found.extend(page.iter().map(|row| row.session_id));
        match page.last().filter(|_| page.len() == PAGE) {
            Some(last) => after = Some(last.cursor()),
            None => return Ok(found),
        }
    }
}

fn unreadable(error: &ReadError) -> Problem {
    tracing::warn!("{error}");
    Problem::unavailable("the store cannot be read at present; what was not deleted yet is still there", 5)
}
