//! What a caller may reach: rows to read, sessions to write into.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::Deserialize;
use talktrack::store::{Rows, SessionRow, Viewer};
use talktrack::{NotDurable, ReadError};
use tokio::time::timeout;
use uuid::Uuid;

use crate::auth::Caller;
use crate::config::Scope;
use crate::error::Problem;
use crate::state::AppState;

/// How long a write waits for the store to say whose a session is, which this node has not in memory.
const LOOK: Duration = Duration::from_secs(5);

/// The session that the path names.
pub(crate) struct SessionId(pub(crate) Uuid);

/// The path may name more.
#[derive(Deserialize)]
struct Named {
    session_id: Uuid,
}

impl<S: Send + Sync> FromRequestParts<S> for SessionId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<Named>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(path)| Self(path.session_id))
            .map_err(|_| Problem::invalid("session_id: must be a UUID"))
    }
}

/// The user that the path names.
pub(crate) struct UserId(pub(crate) Uuid);

impl<S: Send + Sync> FromRequestParts<S> for UserId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<Uuid>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Problem::invalid("user_id: must be a UUID"))
    }
}

/// The rows that the caller may see.
///
/// # Errors
/// Where the caller may not read at all.
pub(crate) fn rows(state: &AppState, caller: &Caller) -> Result<Arc<dyn Rows>, Problem> {
    caller.require(Scope::Read)?;
    Ok(seen(state, caller))
}

fn seen(state: &AppState, caller: &Caller) -> Arc<dyn Rows> {
    let reader = state.tracker().reader();
    match caller.user() {
        Some(user) => {
            let claims = talktrack::JsonObject::parse(&user.claims).unwrap_or_default();
            reader.seen_by(Viewer { user_id: user.user_id, claims })
        }
        None => reader,
    }
}

/// A session that the caller may see.
///
/// # Errors
/// Where there is none; and where the store cannot be asked.
pub(crate) async fn session(rows: &dyn Rows, session_id: Uuid) -> Result<SessionRow, Problem> {
    rows.session(session_id).await.map_err(unreadable)?.ok_or_else(no_such_session)
}

/// Lets the caller read what hangs on a session that is there and theirs. What this node knows already need not have reached the
/// store.
///
/// # Errors
/// Where there is none; and where the store cannot be asked.
pub(crate) async fn check_readable(
    state: &AppState,
    caller: &Caller,
    session_id: Uuid,
) -> Result<(), Problem> {
    let rows = rows(state, caller)?;
    match state.tracker().owner_of(session_id) {
        Some(owner) if caller.may_see(owner) => Ok(()),
        Some(_) => Err(no_such_session()),
        None => session(&*rows, session_id).await.map(drop),
    }
}

/// Lets the caller write into a session that is there and theirs.
///
/// # Errors
/// Where there is none; and where nobody can tell whose it is.
pub(crate) async fn check_writable(
    state: &AppState,
    caller: &Caller,
    session_id: Uuid,
) -> Result<(), Problem> {
    caller.require(Scope::Write)?;
    if let Some(owner) = state.tracker().owner_of(session_id) {
        return if caller.may_see(owner) { Ok(()) } else { Err(no_such_session()) };
    }
    if state.local().is_deleted(session_id).await.map_err(unreadable)? {
        return Err(NotDurable::Deleted.into());
    }
    match timeout(LOOK, seen(state, caller).session(session_id)).await {
        Ok(Ok(Some(_))) => Ok(()),
        Ok(Ok(None)) => Err(no_such_session()),
        // A store that is away keeps no server waiting: whose it is will be found when it is written.
        Ok(Err(_)) | Err(_) if caller.user().is_none() => Ok(()),
        Ok(Err(error)) => Err(unreadable(error)),
        Err(_) => Err(unreadable(ReadError("no answer in time".into()))),
    }
}

/// The store cannot be asked now.
#[expect(clippy::needless_pass_by_value, reason = "so that `map_err` takes it as it is")]
pub(crate) fn unreadable(error: ReadError) -> Problem {
    tracing::warn!("{error}");
    // The store's words may tell of its insides: they are for the log.
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "internal",
        "the store cannot be read at present; try again later",
    )
}

/// Lets the caller delete a session that is there: one of their own, or any with a key for administration. Says whose it has
/// to be.
///
/// # Errors
/// Where there is none; and where nobody can tell whether it is theirs.
pub(crate) async fn check_deletable(
    state: &AppState,
    caller: &Caller,
    session_id: Uuid,
) -> Result<Option<Uuid>, Problem> {
    let Some(user) = caller.user() else {
        caller.require(Scope::Admin)?;
        return owner_anywhere(state, session_id).await;
    };
    caller.require(Scope::Write)?;
    let owner = Some(user.user_id);
    if seen(state, caller).session(session_id).await.map_err(unreadable)?.is_some() {
        return Ok(owner);
    }
    // A claim that the store has not confirmed counts only where nobody else has the session.
    let is_free = state.tracker().reader().session(session_id).await.map_err(unreadable)?.is_none();
    let is_theirs = is_free && state.tracker().owner_of(session_id) == owner;
    if is_theirs { Ok(owner) } else { Err(no_such_session()) }
}

/// Whose a session is, if there is anything of it, or was, and if that can be told. While the store cannot be asked, there may be.
async fn owner_anywhere(state: &AppState, session_id: Uuid) -> Result<Option<Uuid>, Problem> {
    let (tracker, local) = (state.tracker(), state.local());
    match timeout(LOOK, tracker.reader().session(session_id)).await {
        Ok(Ok(Some(row))) => return Ok(Some(row.user_id)),
        Ok(Ok(None)) => {}
        Ok(Err(_)) | Err(_) => return Ok(None),
    }
    // A claim that the store has not confirmed counts where nobody else has the session.
    if let Some(owner) = tracker.owner_of(session_id) {
        return Ok(Some(owner));
    }
    let is_known = local.is_deleted(session_id).await.map_err(unreadable)?
        || local.keeps_something_of(session_id).await.map_err(unreadable)?;
    is_known.then_some(None).ok_or_else(no_such_session)
}

pub(super) fn no_such_session() -> Problem {
    Problem::without_code(StatusCode::NOT_FOUND, "no such session")
}
