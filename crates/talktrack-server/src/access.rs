//! Decides which sessions a caller may use. Every route and every WebSocket makes this one check.
//!
//! A user's token may use only sessions that are proven to be that user's. The proof is either a start that is durable
//! on this node and that the store has not refused, or the stored row. A token never chooses the id of a new session:
//! the server generates the id, or derives it from the user and an `external_id`. A token cannot tell an absent session
//! from a session of another user: every answer is the same for both. A key acts for all users, or for those it is
//! limited to, and names sessions that this node or the store knows.

mod session_list;
mod message_list;
mod view;
mod pending_messages;
mod pending_edits;
mod name;
mod proof;
mod start;

use std::collections::HashSet;
use std::sync::Arc;

use talktrack::message::program_session_id;
use talktrack::store::{LimitedRows, Rows, SessionRow, Viewer};
use talktrack::{Author, NewSession, NotDurable, SessionId, SessionRef, Timestamp, UserId};
pub(crate) use talktrack_protocol::SessionName;
use tokio::time::timeout;
use uuid::Uuid;

pub(crate) use message_list::{ListedStatus, MessageFilter};
pub(crate) use name::{MessageInPath, UserInPath};
pub(crate) use pending_messages::ListOrder;
pub(crate) use proof::Denied;
pub(crate) use session_list::list_sessions;
pub(crate) use start::check_store;
pub(crate) use view::SessionView;

use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::state::AppState;

/// The advice for a user's token that names a session which is absent or another user's.
const HOW_TO_START: &str =
    "a user's token cannot choose the id of a new session: leave session_id out, or give an external_id";

/// A session that the caller may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) session_id: SessionId,
    /// The user that records are accepted for. `None` if a key names a session that this node does not know: its
    /// records then belong to the user of the stored row.
    pub(crate) claim: Option<UserId>,
    /// The user that the session belongs to, or `None` if this is not known.
    pub(crate) owner: Option<UserId>,
    /// True if the store has confirmed the session. If false, access rests on what is durable on this node, or nothing
    /// is known about the session yet.
    pub(crate) is_stored: bool,
    /// The time of the session's last event, if the store was asked.
    last_event_at: Option<Timestamp>,
}

impl Granted {
    /// Returns the session together with the user that the caller's records claim.
    pub(crate) fn session(&self) -> SessionRef {
        SessionRef { session_id: self.session_id, user_id: self.claim.clone() }
    }

    /// Returns the time of the session's last stored message, if this node does not know the session and its last event
    /// is recent. The server gives the caller's next messages later times, unless the caller sets them.
    pub(crate) async fn said_until(&self, state: &AppState) -> Option<Timestamp> {
        start::said_until(state, self.session_id, self.last_event_at?).await
    }

    /// Returns on whose authority the caller writes messages into this session.
    pub(crate) fn author(&self, caller: &Caller) -> Author {
        author(caller, self.claim.clone())
    }
}

/// Returns on whose authority a caller writes, for the claimed user if there is one.
pub(crate) fn author(caller: &Caller, claim: Option<UserId>) -> Author {
    match (caller.user(), claim) {
        (Some(user), _) => Author::User(user.user_id.clone()),
        (None, Some(user_id)) => Author::ProgramFor(user_id),
        (None, None) => Author::Program,
    }
}

/// Checks that the caller may write into a session.
///
/// # Errors
/// 404 if the session is absent or another user's; 503 if the store must be asked and cannot answer.
pub(crate) async fn to_write(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require(Scope::Write)?;
    match proof::find_session(state, caller, name).await {
        // A key may write while the store is unavailable. The session's user is found out when the record is written to
        // the store.
        Err(Denied::Unavailable(_)) if caller.acts_for_all() => Ok(proof::unknown_session(name)),
        // Another node may still deliver the session's start. Until then, a session for which this node has
        // acknowledged records stays writable.
        Err(Denied::NotFound) if caller.acts_for_all() => {
            let waits_here = proof::waits_here(state, name).await?;
            if waits_here { Ok(proof::unknown_session(name)) } else { Err(Denied::NotFound.into()) }
        }
        found => Ok(found?),
    }
}

/// Checks that the caller may read a session.
///
/// # Errors
/// As [`to_write`].
pub(crate) async fn to_read(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require(Scope::Read)?;
    Ok(proof::find_session(state, caller, name).await.map_err(Denied::for_reader)?)
}

/// Checks that the caller may delete a session. A user may delete their own sessions; an API key with the scope `admin`
/// may delete the sessions of every user it acts for. If the caller acts for all users, the claim is empty.
///
/// # Errors
/// As [`to_write`].
pub(crate) async fn to_delete(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require_delete()?;
    match proof::find_session(state, caller, name).await {
        Err(Denied::Deleted(deleted)) => Ok(proof::deleted_session(caller, deleted)),
        Err(Denied::Unavailable(_)) if caller.acts_for_all() => Ok(proof::unknown_session(name)),
        Err(Denied::NotFound) if caller.acts_for_all() => {
            proof::find_remains(state, name).await.map_err(Problem::from)
        }
        found => {
            let granted = found?;
            let claim = granted.owner.clone().filter(|_| !caller.acts_for_all());
            Ok(Granted { claim, ..granted })
        }
    }
}

/// Checks that the caller may remove or replace messages of a session, which needs the same right as to delete the session.
/// If the caller acts for all users, the claim is empty.
///
/// # Errors
/// As [`to_write`], and 410 if the session was deleted and the caller may know.
pub(crate) async fn to_edit(
    state: &AppState,
    caller: &Caller,
    name: &SessionName,
) -> Result<Granted, Problem> {
    caller.require_delete()?;
    let granted = proof::find_session(state, caller, name).await?;
    let claim = granted.owner.clone().filter(|_| !caller.acts_for_all());
    Ok(Granted { claim, ..granted })
}

/// Returns what to delete if the named session is absent or not the caller's: each session id that the caller may mean,
/// with the user whose records of that session are refused from now on. The user is `None` for a caller that acts for
/// all users: then the whole session is deleted.
pub(crate) fn absent_to_delete(caller: &Caller, name: &SessionName) -> Vec<(SessionId, Option<UserId>)> {
    match (caller.user(), caller.limited_to()) {
        (Some(user), _) => {
            let ids = name.ids_for_user(&user.user_id).into_iter();
            ids.map(|session_id| (session_id, Some(user.user_id.clone()))).collect()
        }
        (None, Some(users)) => {
            users.iter().map(|user_id| (name.id_for_key(), Some(user_id.clone()))).collect()
        }
        (None, None) => vec![(name.id_for_key(), None)],
    }
}

/// Returns the session that a caller starts or resumes for this user. `name` is the caller's name of an existing
/// session. A session that a key starts without a user is the known owner's if it exists, and otherwise a guest's.
///
/// # Errors
/// As [`to_write`], if a user's token names a session.
pub(crate) async fn to_start(
    state: &AppState,
    caller: &Caller,
    user_id: Option<UserId>,
    name: Option<&SessionName>,
    external_id: Option<String>,
) -> Result<NewSession, Problem> {
    caller.require(Scope::Write)?;
    let (session_id, external_id) = match (name, caller.user()) {
        (Some(name), Some(_)) => {
            let granted = to_write(state, caller, name).await;
            let granted = granted.map_err(|problem| problem.with_advice(HOW_TO_START))?;
            (Some(granted.session_id), external_id)
        }
        (Some(name), None) => {
            let external_id = external_id.or_else(|| name.external_id().map(str::to_owned));
            (Some(name.id_for_key()), external_id)
        }
        (None, _) => (None, external_id),
    };
    let Some(user_id) = user_id else {
        return Ok(start_without_user(state, caller, session_id, external_id).await);
    };
    let session = match external_id {
        Some(external_id) if caller.user().is_some() => NewSession::named_by_user(external_id, user_id),
        Some(external_id) => NewSession::named(external_id, user_id),
        None => NewSession::new(new_session_id(), user_id),
    };
    Ok(match session_id {
        Some(session_id) => session.with_session_id(session_id),
        None => session,
    })
}

/// True if this may be the caller's name of the session.
pub(crate) fn can_mean(caller: &Caller, name: &SessionName, session_id: SessionId) -> bool {
    match caller.user() {
        Some(user) => name.ids_for_user(&user.user_id).contains(&session_id),
        None => name.id_for_key() == session_id,
    }
}

/// Random from the first character on: people tell sessions apart by their first eight characters.
fn new_session_id() -> SessionId {
    Uuid::new_v4().into()
}

/// Returns the session that a key starts without a user. If the store does not answer quickly whose the session is, the start
/// is a guest's, and the store refuses it if the session is a user's.
async fn start_without_user(
    state: &AppState,
    caller: &Caller,
    session_id: Option<SessionId>,
    external_id: Option<String>,
) -> NewSession {
    let named = session_id.or(external_id.as_deref().map(program_session_id));
    let session_id = named.unwrap_or_else(new_session_id);
    let mut session = NewSession::of_guest(session_id);
    if named.is_some() {
        let name = SessionName::from(session_id);
        let known = timeout(proof::QUICK_LOOKUP_TIMEOUT, proof::find_session(state, caller, &name)).await;
        let owner = known.ok().and_then(Result::ok).and_then(|granted| granted.owner);
        session.user_id = owner.unwrap_or(session.user_id);
    }
    match external_id {
        Some(external_id) => session.with_external_id(external_id),
        None => session,
    }
}

/// Returns the row of a session that the caller may use, merged from the store and the journal. `None` if neither has
/// an answer.
pub(crate) async fn find_row(state: &AppState, caller: &Caller, granted: &Granted) -> Option<SessionRow> {
    let view = SessionView::find(state, caller, &SessionName::from(granted.session_id)).await;
    view.ok().map(|view| view.session)
}

/// Returns the row of the session that a caller starts, if it exists and belongs to the same user. `None` also if the store
/// does not answer quickly: it then decides when the start reaches it.
pub(crate) async fn find_existing(
    state: &AppState,
    caller: &Caller,
    session: &NewSession,
) -> Option<SessionRow> {
    let name = SessionName::from(session.session_id);
    let view = timeout(proof::QUICK_LOOKUP_TIMEOUT, SessionView::find(state, caller, &name)).await;
    let row = view.ok()?.ok()?.session;
    (row.user_id.as_ref() == Some(&session.user_id)).then_some(row)
}

/// True if the store has the session and the caller may see it.
///
/// # Errors
/// 503 if the store cannot answer.
pub(crate) async fn is_stored(
    state: &AppState,
    caller: &Caller,
    session_id: SessionId,
) -> Result<bool, Problem> {
    Ok(proof::with_timeout(rows_for(state, caller).session(session_id)).await?.is_some())
}

/// Returns the reason of a refusal that the caller may know. A user's token, or a key that is limited to some users,
/// must not learn that a session belongs to another user.
pub(crate) fn mask_refusal(caller: &Caller, why: NotDurable) -> NotDurable {
    match why {
        NotDurable::OtherUser if !caller.acts_for_all() => NotDurable::UnknownSession,
        why => why,
    }
}

/// Removes the parent sessions that the caller may not read. A parent that the store does not know, or cannot be asked about, is
/// removed for everybody who does not act for all users.
pub(crate) async fn hide_foreign_parents(state: &AppState, caller: &Caller, sessions: &mut [SessionRow]) {
    if caller.acts_for_all() {
        return;
    }
    let rows = rows_for(state, caller);
    let parents: HashSet<_> = sessions.iter().filter_map(|row| row.dimensions.parent_session_id).collect();
    let mut readable = HashSet::new();
    for parent in parents {
        if matches!(proof::with_timeout(rows.session(parent)).await, Ok(Some(_))) {
            readable.insert(parent);
        }
    }
    for row in sessions {
        row.dimensions.parent_session_id.take_if(|parent| !readable.contains(parent));
    }
}

/// Returns a reader of the rows that the caller may see.
///
/// # Errors
/// 403 if the caller may not read at all.
pub(crate) fn open_rows(state: &AppState, caller: &Caller) -> Result<Arc<dyn Rows>, Problem> {
    caller.require(Scope::Read)?;
    Ok(rows_for(state, caller))
}

fn rows_for(state: &AppState, caller: &Caller) -> Arc<dyn Rows> {
    let reader = state.tracker().reader();
    match caller.user() {
        Some(user) => {
            let claims = talktrack::JsonObject::parse(&user.claims).unwrap_or_default();
            reader.as_user(Viewer::new(user.user_id.clone(), claims))
        }
        None => match caller.limited_to() {
            Some(users) => Arc::new(LimitedRows::new(reader, Arc::clone(users))),
            None => reader,
        },
    }
}
