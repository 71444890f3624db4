//! What proves that a caller may use a session.

use std::time::Duration;

use talktrack::store::{DeletedSession, Read as _, SessionRow};
use talktrack::{ReadError, StoredTime, Timestamp};
use tokio::time::timeout;
use uuid::Uuid;

use super::{Granted, SessionName, seen_by};
use crate::auth::{Caller, User};
use crate::error::Problem;
use crate::state::AppState;

/// How long the store may take to say whose a session is.
const LOOK: Duration = Duration::from_secs(5);

/// How long the store may take to say that a session was deleted. Without an answer, it will say so when it is written to.
pub(super) const QUICK_LOOK: Duration = Duration::from_millis(500);

/// Why a session cannot be used.
#[derive(Debug)]
pub(crate) enum Denied {
    /// The store answered: there is none, or it is another user's. The two are the same to a user's token.
    NotFound,
    /// It was deleted for good. Only keys that act for its user, and its user, learn that.
    Deleted(DeletedSession),
    /// This node has no proof, and the store cannot be asked.
    Unavailable(ReadError),
}

impl Denied {
    /// What a reader is told: of a deleted session there is nothing to read.
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
            Denied::Unavailable(error) => Self::store_unavailable(&error),
        }
    }
}

/// The session that the caller names, if they may use it.
pub(super) async fn find(state: &AppState, caller: &Caller, name: &SessionName) -> Result<Granted, Denied> {
    find_row(state, caller, name).await.map(|(granted, _)| granted)
}

/// The same, with the stored row if the store was asked.
pub(super) async fn find_row(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<(Granted, Option<SessionRow>), Denied> {
    match caller.user() {
        Some(user) => of_user(state, caller, user, name).await,
        None => of_key(state, caller, name.id_for_key()).await,
    }
}

/// Nothing is known of the session, and a key may name it all the same.
pub(super) fn unknown(name: &SessionName) -> Granted {
    let session_id = name.id_for_key();
    Granted { session_id, claim: None, owner: None, is_stored: false, last_event_at: None }
}

/// The session was deleted before: the caller, who may know that, deletes it again.
pub(super) fn deleted(caller: &Caller, deleted: DeletedSession) -> Granted {
    let DeletedSession { session_id, user_id: owner } = deleted;
    let claim = owner.filter(|_| !caller.acts_for_all());
    Granted { session_id, claim, owner, is_stored: false, last_event_at: None }
}

/// The mark of a session that was deleted for good, as far as this node knows or the store says in time.
pub(super) async fn deletion(state: &AppState, session_id: Uuid) -> Option<DeletedSession> {
    let first =
        |found: Result<Vec<DeletedSession>, ReadError>| found.ok().and_then(|found| found.first().copied());
    let here = first(state.local().deleted_sessions(&[session_id]).await);
    let is_known = here.is_some_and(|deleted| deleted.user_id.is_some());
    if is_known || !state.is_remote() || state.tracker().health().store.is_some() {
        return here;
    }
    let reader = state.tracker().reader();
    let asked = timeout(QUICK_LOOK, reader.deleted_sessions(&[session_id])).await;
    asked.ok().and_then(first).or(here)
}

/// What the caller is told of a session that is not there: that it was deleted, if they may know.
pub(super) fn absent(caller: &Caller, deletion: Option<DeletedSession>) -> Denied {
    match deletion {
        Some(deleted) if caller.acts_for_all() => Denied::Deleted(deleted),
        Some(deleted) if deleted.user_id.is_some_and(|user_id| caller.may_act_for(user_id)) => {
            Denied::Deleted(deleted)
        }
        _ => Denied::NotFound,
    }
}

/// A session of which the store has nothing, and this node something: a dead letter, say.
pub(super) async fn remains(state: &AppState, name: &SessionName) -> Result<Granted, Denied> {
    let keeps = state.local().keeps_something_of(name.id_for_key()).await.map_err(Denied::Unavailable)?;
    if keeps { Ok(unknown(name)) } else { Err(Denied::NotFound) }
}

/// True if records of this session that name no user wait here for a remote store.
pub(super) async fn waits_here(state: &AppState, name: &SessionName) -> Result<bool, Denied> {
    if !state.is_remote() {
        return Ok(false);
    }
    let waits = state.local().anything_unowned_on_the_way(name.id_for_key()).await;
    waits.map_err(Denied::Unavailable)
}

async fn of_user(
    state: &AppState,
    caller: &Caller,
    user: &User,
    name: &SessionName,
) -> Result<(Granted, Option<SessionRow>), Denied> {
    let user_id = user.user_id;
    let granted = |session_id, row: Option<SessionRow>| {
        let owner = Some(user_id);
        let last_event_at = row.as_ref().and_then(last_event);
        (Granted { session_id, claim: owner, owner, is_stored: row.is_some(), last_event_at }, row)
    };
    let candidates = name.ids_for_user(user_id);
    if let Some(id) = candidates.iter().find(|id| state.tracker().is_proven(**id, user_id)) {
        return Ok(granted(*id, None));
    }
    for id in &candidates {
        if claims_on_the_way(state, *id).await?.contains(&user_id) {
            return Ok(granted(*id, None));
        }
    }
    let rows = seen_by(state, caller);
    for id in &candidates {
        let row = asked(rows.session(*id)).await?.filter(|row| row.user_id == Some(user_id));
        if row.is_some() {
            return Ok(granted(*id, row));
        }
    }
    if let SessionName::External(external_id) = name
        && let Some(row) = asked(rows.session_by_external_id(user_id, external_id)).await?
    {
        return Ok(granted(row.session_id, Some(row)));
    }
    for id in candidates {
        if let denied @ Denied::Deleted(_) = absent(caller, deletion(state, id).await) {
            return Err(denied);
        }
    }
    Err(Denied::NotFound)
}

fn last_event(row: &SessionRow) -> Option<Timestamp> {
    row.last_event_at.as_ref().and_then(StoredTime::known)
}

async fn of_key(
    state: &AppState,
    caller: &Caller,
    session_id: Uuid,
) -> Result<(Granted, Option<SessionRow>), Denied> {
    // Two users' claims mean that nobody knows yet whose it is. What a key of all users writes then takes the stored row's user;
    // a limited key could reach a third user so.
    let claimed = |claims: &[Uuid]| match claims {
        [_, _, ..] if !caller.acts_for_all() => {
            Err(Denied::Unavailable(ReadError("the store has not said yet whose the session is".into())))
        }
        claims => {
            let claim = if let [one] = claims { Some(*one) } else { None };
            Ok((Granted { session_id, claim, owner: claim, is_stored: false, last_event_at: None }, None))
        }
    };
    let mut claims = state.tracker().proven_owners(session_id);
    claims.retain(|user_id| caller.may_act_for(*user_id));
    if !claims.is_empty() {
        return claimed(&claims);
    }
    if caller.acts_for_all() {
        let deleted = state.local().deleted_sessions(&[session_id]).await.map_err(Denied::Unavailable)?;
        if let Some(deleted) = deleted.first() {
            return Err(Denied::Deleted(*deleted));
        }
    }
    let mut claims = claims_on_the_way(state, session_id).await?;
    claims.retain(|user_id| caller.may_act_for(*user_id));
    if !claims.is_empty() {
        return claimed(&claims);
    }
    let Some(row) = asked(seen_by(state, caller).session(session_id)).await? else {
        return Err(absent(caller, deletion(state, session_id).await));
    };
    let claim = caller.limited_to().and(row.user_id);
    let last_event_at = last_event(&row);
    let granted = Granted { session_id, claim, owner: row.user_id, is_stored: true, last_event_at };
    Ok((granted, Some(row)))
}

/// The users for whom starts of this session are durable here and on their way to a remote store.
async fn claims_on_the_way(state: &AppState, session_id: Uuid) -> Result<Vec<Uuid>, Denied> {
    if !state.is_remote() {
        return Ok(Vec::new());
    }
    state.local().claims_on_the_way(session_id).await.map_err(Denied::Unavailable)
}

/// The store's answer, if it comes in time.
pub(super) async fn asked(
    question: impl Future<Output = Result<Option<SessionRow>, ReadError>>,
) -> Result<Option<SessionRow>, Denied> {
    match timeout(LOOK, question).await {
        Ok(answer) => answer.map_err(Denied::Unavailable),
        Err(_) => Err(Denied::Unavailable(ReadError("no answer in time".into()))),
    }
}
