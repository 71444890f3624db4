//! Finds proof that a caller may use a session.

use std::time::Duration;

use talktrack::store::{DeletedSession, Read as _, SessionRow};
use talktrack::{ReadError, SessionId, StoredTime, Timestamp, UserId};
use tokio::time::timeout;

use super::{Granted, SessionName, rows_for};
use crate::auth::{Caller, User};
use crate::error::Problem;
use crate::state::AppState;

/// How long the store may take to answer whose a session is.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the store may take to answer whether a session was deleted. If it does not answer in time, the store
/// reports the deletion when the record is written.
pub(super) const QUICK_LOOKUP_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a caller may not use a session.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The store answered that the session does not exist or is another user's. A user's token cannot tell the two
    /// apart.
    NotFound,
    /// The session was permanently deleted. Only its user, and keys that act for that user, learn this.
    Deleted(DeletedSession),
    /// This node has no proof, and the store cannot answer.
    Unavailable(ReadError),
}

impl Denied {
    /// Converts the refusal to what a reader is told: a deleted session has nothing to read, so it is reported as not
    /// found.
    pub(super) fn for_reader(self) -> Self {
        match self {
            Self::Deleted(_) => Self::NotFound,
            denied => denied,
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotFound => Self::session_not_found(),
            Denied::Deleted(_) => talktrack::NotDurable::Deleted.into(),
            Denied::Unavailable(error) => Self::read_failed(&error),
        }
    }
}

/// Finds the session that the caller names, if the caller may use it.
pub(super) async fn find_session(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Denied> {
    find_row(state, caller, name).await.map(|(granted, _)| granted)
}

/// Finds the session as [`find`] does, and also returns the stored row if the store was asked.
pub(super) async fn find_row(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<(Granted, Option<SessionRow>), Denied> {
    match caller.user() {
        Some(user) => find_for_user(state, caller, user, name).await,
        None => find_for_key(state, caller, name.id_for_key()).await,
    }
}

/// Returns a grant for a session of which nothing is known. Only a key may use one.
pub(super) fn unknown_session(name: &SessionName) -> Granted {
    let session_id = name.id_for_key();
    Granted { session_id, claim: None, owner: None, is_stored: false, last_event_at: None }
}

/// Returns a grant to delete an already deleted session again, for a caller who may know that it was deleted.
pub(super) fn deleted_session(caller: &Caller, deleted: DeletedSession) -> Granted {
    let DeletedSession { session_id, user_id: owner } = deleted;
    let claim = owner.clone().filter(|_| !caller.acts_for_all());
    Granted { session_id, claim, owner, is_stored: false, last_event_at: None }
}

/// Returns the tombstone of a session that was permanently deleted. Asks this node first, then a remote store for up to
/// [`QUICK_LOOKUP_TIMEOUT`]. `None` if neither knows of a deletion.
pub(super) async fn find_deletion(state: &AppState, session_id: SessionId) -> Option<DeletedSession> {
    let first =
        |found: Result<Vec<DeletedSession>, ReadError>| found.ok().and_then(|found| found.first().cloned());
    let here = first(state.local().deleted_sessions(&[session_id]).await);
    let is_known = here.as_ref().is_some_and(|deleted| deleted.user_id.is_some());
    if is_known || !state.is_remote() || state.tracker().health().store.is_some() {
        return here;
    }
    let reader = state.tracker().reader();
    let asked = timeout(QUICK_LOOKUP_TIMEOUT, reader.deleted_sessions(&[session_id])).await;
    asked.ok().and_then(first).or(here)
}

/// Returns the refusal for a session that is absent: that it was deleted if the caller may know this, otherwise that it
/// was not found.
pub(super) fn deny_absent(caller: &Caller, deletion: Option<DeletedSession>) -> Denied {
    match deletion {
        Some(deleted) if caller.acts_for_all() => Denied::Deleted(deleted),
        Some(deleted) if deleted.user_id.as_ref().is_some_and(|user_id| caller.can_act_for(user_id)) => {
            Denied::Deleted(deleted)
        }
        _ => Denied::NotFound,
    }
}

/// Returns a grant for a session that the store does not have, but of which this node still keeps something, such as a
/// dead letter.
pub(super) async fn find_remains(state: &AppState, name: &SessionName) -> Result<Granted, Denied> {
    let keeps =
        state.local().outbox().has_records_of(name.id_for_key()).await.map_err(Denied::Unavailable)?;
    if keeps { Ok(unknown_session(name)) } else { Err(Denied::NotFound) }
}

/// True if records of this session that name no user wait on this node for a remote store.
pub(super) async fn waits_here(state: &AppState, name: &SessionName) -> Result<bool, Denied> {
    if !state.is_remote() {
        return Ok(false);
    }
    let waits = state.local().outbox().has_pending_without_owner(name.id_for_key()).await;
    waits.map_err(Denied::Unavailable)
}

async fn find_for_user(
    state: &AppState,
    caller: &Caller,
    user: &User,
    name: &SessionName,
) -> Result<(Granted, Option<SessionRow>), Denied> {
    let user_id = &user.user_id;
    let granted = |session_id, row: Option<SessionRow>| {
        let owner = Some(user_id.clone());
        let last_event_at = row.as_ref().and_then(last_event);
        (Granted { session_id, claim: owner.clone(), owner, is_stored: row.is_some(), last_event_at }, row)
    };
    let candidates = name.ids_for_user(user_id);
    if let Some(id) = candidates.iter().find(|id| state.tracker().is_proven(**id, user_id)) {
        return Ok(granted(*id, None));
    }
    for id in &candidates {
        if pending_claims(state, *id).await?.contains(user_id) {
            return Ok(granted(*id, None));
        }
    }
    let rows = rows_for(state, caller);
    for id in &candidates {
        let row = with_timeout(rows.session(*id)).await?.filter(|row| row.user_id.as_ref() == Some(user_id));
        if row.is_some() {
            return Ok(granted(*id, row));
        }
    }
    if let SessionName::External(external_id) = name
        && let Some(row) = with_timeout(rows.session_by_external_id(user_id, external_id)).await?
    {
        return Ok(granted(row.session_id, Some(row)));
    }
    for id in candidates {
        if let denied @ Denied::Deleted(_) = deny_absent(caller, find_deletion(state, id).await) {
            return Err(denied);
        }
    }
    Err(Denied::NotFound)
}

fn last_event(row: &SessionRow) -> Option<Timestamp> {
    row.last_event_at.as_ref().and_then(StoredTime::known)
}

async fn find_for_key(
    state: &AppState,
    caller: &Caller,
    session_id: SessionId,
) -> Result<(Granted, Option<SessionRow>), Denied> {
    // Two users may claim a session until the store decides whose it is. A record of a key that acts for all users is
    // then written for the user of the stored row. A limited key is refused: its record could end up with a third user.
    let claimed = |claims: &[UserId]| match claims {
        [_, _, ..] if !caller.acts_for_all() => Err(Denied::Unavailable(ReadError::unavailable(
            "the store has not answered yet which user the session belongs to",
        ))),
        claims => {
            let owner = if let [one] = claims { Some(one.clone()) } else { None };
            let claim = owner.clone();
            Ok((Granted { session_id, claim, owner, is_stored: false, last_event_at: None }, None))
        }
    };
    let mut claims = state.tracker().proven_owners(session_id);
    claims.retain(|user_id| caller.can_act_for(user_id));
    if !claims.is_empty() {
        return claimed(&claims);
    }
    if caller.acts_for_all() {
        let deleted = state.local().deleted_sessions(&[session_id]).await.map_err(Denied::Unavailable)?;
        if let Some(deleted) = deleted.first() {
            return Err(Denied::Deleted(deleted.clone()));
        }
    }
    let mut claims = pending_claims(state, session_id).await?;
    claims.retain(|user_id| caller.can_act_for(user_id));
    if !claims.is_empty() {
        return claimed(&claims);
    }
    let Some(row) = with_timeout(rows_for(state, caller).session(session_id)).await? else {
        return Err(deny_absent(caller, find_deletion(state, session_id).await));
    };
    let claim = caller.limited_to().and(row.user_id.clone());
    let last_event_at = last_event(&row);
    let granted = Granted { session_id, claim, owner: row.user_id.clone(), is_stored: true, last_event_at };
    Ok((granted, Some(row)))
}

/// Returns the users for whom a start of this session is durable on this node and waits for a remote store.
async fn pending_claims(state: &AppState, session_id: SessionId) -> Result<Vec<UserId>, Denied> {
    if !state.is_remote() {
        return Ok(Vec::new());
    }
    state.local().outbox().pending_claims(session_id).await.map_err(Denied::Unavailable)
}

/// Returns the answer of the store, or [`Denied::Unavailable`] if it takes longer than [`LOOKUP_TIMEOUT`].
pub(super) async fn with_timeout(
    question: impl Future<Output = Result<Option<SessionRow>, ReadError>>,
) -> Result<Option<SessionRow>, Denied> {
    match timeout(LOOKUP_TIMEOUT, question).await {
        Ok(answer) => answer.map_err(Denied::Unavailable),
        Err(_) => Err(Denied::Unavailable(ReadError::unavailable("the store did not answer in time"))),
    }
}
