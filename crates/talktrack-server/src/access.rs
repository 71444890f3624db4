//! Which sessions a caller may use: the one check behind every route and every socket.
//!
//! A user's token uses sessions that are proven to be that user's: by a start that is durable on this node and that the store
//! has not refused, or by the stored row. A token never chooses the id of a new session: the server mints it, or derives it from
//! the user and an `external_id`. For a token a session that is absent and one of another user are the same thing, in every
//! answer. A key speaks for all users; it names sessions that this node or the store knows.

mod view;
mod name;
mod proof;
mod start;

use std::sync::Arc;

use talktrack::store::{LimitedRows, Rows, SessionRow, Viewer};
use talktrack::{Author, NewSession, NotDurable, SessionRef, Timestamp};
use uuid::Uuid;

pub(crate) use name::{SessionName, UserId};
pub(crate) use proof::Denied;
pub(crate) use start::meet_store;
pub(crate) use view::SessionView;

use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::state::AppState;

/// For a user's token that names a session which is not there, or not that user's.
const HOW_TO_START: &str =
    "a user's token cannot choose the id of a new session: leave session_id out, or give an external_id";

/// A session that the caller may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) session_id: Uuid,
    /// The user for whom records are accepted. `None` if a key names a session that this node does not know: then they take
    /// the stored row's user.
    pub(crate) claim: Option<Uuid>,
    /// Whose the session is, as far as that is known.
    pub(crate) owner: Option<Uuid>,
    /// The store confirmed it. Otherwise it rests on what is durable on this node, or on nothing yet.
    pub(crate) is_stored: bool,
    /// When something last happened in it, if the store was asked.
    last_event_at: Option<Timestamp>,
}

impl Granted {
    /// The session, in the claim that the caller uses.
    pub(crate) fn session(&self) -> SessionRef {
        SessionRef { session_id: self.session_id, user_id: self.claim }
    }

    /// What the caller says next without a time of its own is placed after this moment: the latest that the store has of the
    /// session, if this node does not know it and something happened in it a moment ago.
    pub(crate) async fn said_until(&self, state: &AppState) -> Option<Timestamp> {
        start::said_until(state, self.session_id, self.last_event_at?).await
    }

    /// On whose authority the caller writes messages into it.
    pub(crate) fn author(&self, caller: &Caller) -> Author {
        author(caller, self.claim)
    }
}

/// On whose authority a caller writes, in the claim of this user if there is one.
pub(crate) fn author(caller: &Caller, claim: Option<Uuid>) -> Author {
    match (caller.user(), claim) {
        (Some(user), _) => Author::User(user.user_id),
        (None, Some(user_id)) => Author::ProgramFor(user_id),
        (None, None) => Author::Program,
    }
}

/// Lets the caller write into a session.
///
/// # Errors
/// 404 if the session is absent or not the caller's; 503 if the store has to be asked and cannot be.
pub(crate) async fn to_write(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require(Scope::Write)?;
    match proof::find(state, caller, name).await {
        // What a key writes waits for a store that is away: whose it is will be found when it is written.
        Err(Denied::Unavailable(_)) if caller.acts_for_all() => Ok(proof::unknown(name)),
        // Another node may deliver the session's start later: what this node acknowledged of it goes on.
        Err(Denied::NotFound) if caller.acts_for_all() => {
            let waits_here = proof::waits_here(state, name).await?;
            if waits_here { Ok(proof::unknown(name)) } else { Err(Denied::NotFound.into()) }
        }
        found => Ok(found?),
    }
}

/// Lets the caller read what belongs to a session.
///
/// # Errors
/// As [`to_write`].
pub(crate) async fn to_read(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require(Scope::Read)?;
    Ok(proof::find(state, caller, name).await.map_err(Denied::for_reader)?)
}

/// Lets the caller delete a session: one of their own, or any with a key for administration, whoever's it is: then the claim is
/// empty.
///
/// # Errors
/// As [`to_write`].
pub(crate) async fn to_delete(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require_delete()?;
    match proof::find(state, caller, name).await {
        Err(Denied::Deleted(deleted)) => Ok(proof::deleted(caller, deleted)),
        Err(Denied::Unavailable(_)) if caller.acts_for_all() => Ok(proof::unknown(name)),
        Err(Denied::NotFound) if caller.acts_for_all() => {
            proof::remains(state, name).await.map_err(Problem::from)
        }
        found => {
            let granted = found?;
            let claim = granted.owner.filter(|_| !caller.acts_for_all());
            Ok(Granted { claim, ..granted })
        }
    }
}

/// What a caller deletes who names a session that is not there, or not theirs: each session that they may mean, with the user
/// whose records of it are refused from now on, or for a key that acts for all users, the whole session.
pub(crate) fn absent_to_delete(caller: &Caller, name: &SessionName) -> Vec<(Uuid, Option<Uuid>)> {
    match (caller.user(), caller.limited_to()) {
        (Some(user), _) => {
            let ids = name.ids_for_user(user.user_id).into_iter();
            ids.map(|session_id| (session_id, Some(user.user_id))).collect()
        }
        (None, Some(users)) => users.iter().map(|user_id| (name.id_for_key(), Some(*user_id))).collect(),
        (None, None) => vec![(name.id_for_key(), None)],
    }
}

/// The session that a caller starts or resumes for this user. `name` is what the caller calls an existing session.
///
/// # Errors
/// As [`to_write`], if a user's token names a session.
pub(crate) async fn to_start(
    state: &AppState,
    caller: &Caller,
    user_id: Uuid,
    name: Option<&SessionName>,
    external_id: Option<String>,
) -> Result<NewSession, Problem> {
    caller.require(Scope::Write)?;
    let session_id = match (name, caller.user()) {
        (Some(name), Some(_)) => {
            let granted = to_write(state, caller, name).await;
            Some(granted.map_err(|problem| problem.with_advice(HOW_TO_START))?.session_id)
        }
        (Some(name), None) => Some(name.id_for_key()),
        (None, _) => None,
    };
    let session = match external_id {
        Some(external_id) if caller.user().is_some() => NewSession::named_by_user(external_id, user_id),
        Some(external_id) => NewSession::named(external_id, user_id),
        // Chance from its first character on: people tell sessions apart by the first eight.
        None => NewSession::new(Uuid::new_v4(), user_id),
    };
    Ok(NewSession { session_id: session_id.unwrap_or(session.session_id), ..session })
}

/// The row of a session that the caller may use, from the store and the journal. `None` if neither can tell.
pub(crate) async fn row(state: &AppState, caller: &Caller, granted: &Granted) -> Option<SessionRow> {
    let view = SessionView::find(state, caller, &SessionName::from(granted.session_id)).await;
    view.ok().map(|view| view.session)
}

/// True if the store has the session, as the caller may see it.
///
/// # Errors
/// 503 if the store cannot be asked.
pub(crate) async fn is_stored(state: &AppState, caller: &Caller, session_id: Uuid) -> Result<bool, Problem> {
    Ok(proof::asked(seen_by(state, caller).session(session_id)).await?.is_some())
}

/// What a refusal of a record means to a caller: a user's token, or a key of some users, does not learn that a session is
/// another user's.
pub(crate) fn refusal(caller: &Caller, why: NotDurable) -> NotDurable {
    match why {
        NotDurable::OtherUser if !caller.acts_for_all() => NotDurable::UnknownSession,
        why => why,
    }
}

/// The rows that the caller may see.
///
/// # Errors
/// If the caller may not read at all.
pub(crate) fn rows(state: &AppState, caller: &Caller) -> Result<Arc<dyn Rows>, Problem> {
    caller.require(Scope::Read)?;
    Ok(seen_by(state, caller))
}

fn seen_by(state: &AppState, caller: &Caller) -> Arc<dyn Rows> {
    let reader = state.tracker().reader();
    match caller.user() {
        Some(user) => {
            let claims = talktrack::JsonObject::parse(&user.claims).unwrap_or_default();
            reader.seen_by(Viewer { user_id: user.user_id, claims })
        }
        None => match caller.limited_to() {
            Some(users) => Arc::new(LimitedRows::new(reader, Arc::clone(users))),
            None => reader,
        },
    }
}
