//! What `session.start` and `session.update` frames ask for, over every interface: which session a start means, whether it
//! exists already, and what changes.

use serde_json::{Map, Value};
use talktrack::store::SessionRow;
use talktrack::{Dimensions, JsonObject, NewSession, SessionChanges, SessionId, Stored};
use talktrack_protocol::{ClientFrame, Frame, SessionStartFrame, SessionUpdateFrame};

use crate::access::{self, SessionName};
use crate::auth::Caller;
use crate::error::Problem;
use crate::state::AppState;

/// The maximum number of differences that an answer names.
const MAX_DIFFERENCES: usize = 16;

/// A start that is ready to be handed to the tracker, or that has nothing to do.
pub(crate) enum PreparedStart {
    /// The session is new, or the start resumes it.
    New(NewSession),
    /// The session exists, and the start does not resume it.
    Repeated {
        session: NewSession,
        /// The fields that differ, each with what the session has.
        warnings: Vec<String>,
    },
}

/// Returns the session that a `session.start` frame means. If the frame does not name it, the session has the `derived` id,
/// or one that the server generates.
///
/// # Errors
/// As [`access::to_start`]; 400 if a key that is limited to several users names none.
pub(crate) async fn new_session(
    state: &AppState,
    caller: &Caller,
    derived: Option<SessionId>,
    frame: Frame,
) -> Result<NewSession, Problem> {
    let user_id = caller.resolve_user(frame.user_id)?;
    let ClientFrame::SessionStart(SessionStartFrame {
        external_id,
        metadata,
        dimensions,
        started_at,
        resume,
        ..
    }) = frame.body
    else {
        return Err(Problem::invalid("type: must be session.start here, or left out"));
    };
    let name = frame.session_id;
    let derived = derived.filter(|_| name.is_none() && external_id.is_none());
    let name = name.or(derived.filter(|_| caller.user().is_none()).map(SessionName::from));
    let session = access::to_start(state, caller, user_id, name.as_ref(), external_id).await?;
    let session_id = derived.unwrap_or(session.session_id);
    Ok(session
        .with_session_id(session_id)
        .with_metadata(metadata)
        .with_dimensions(dimensions)
        .with_started_at(started_at)
        .with_resume(resume))
}

/// Finds out whether the session exists already, or was deleted.
///
/// # Errors
/// If the tracker would refuse the start; 410 or 404 if the session was deleted.
pub(crate) async fn prepare_start(
    state: &AppState,
    caller: &Caller,
    mut session: NewSession,
) -> Result<PreparedStart, Problem> {
    state.tracker().check_start(&mut session)?;
    if !session.resume
        && let Some(row) = access::find_existing(state, caller, &session).await
    {
        let warnings = find_differences(&session, &row);
        return Ok(PreparedStart::Repeated { session, warnings });
    }
    access::check_store(state, caller, session).await.map(PreparedStart::New)
}

/// Returns the changes that an update asks for.
pub(crate) fn to_changes(update: SessionUpdateFrame) -> SessionChanges {
    SessionChanges::new()
        .with_metadata(update.metadata.unwrap_or_default())
        .with_dimensions(update.dimensions)
}

fn as_fields(dimensions: &Dimensions) -> Map<String, Value> {
    serde_json::to_value(dimensions).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
}

/// Returns what a repeated start says otherwise than the session.
fn find_differences(session: &NewSession, row: &SessionRow) -> Vec<String> {
    let mut differences = Vec::new();
    if session.external_id.is_some() && session.external_id != row.external_id {
        let kept = row.external_id.as_deref().map_or("none".to_owned(), |id| format!("{id:?}"));
        differences.push(format!("external_id: the session has {kept}"));
    }
    if let Some(started_at) = session.started_at
        && row.started_at.known() != Some(started_at)
    {
        differences.push(format!("started_at: the session has {}", row.started_at));
    }
    let stored = as_fields(&row.dimensions);
    for (name, _) in
        as_fields(&session.dimensions).iter().filter(|(name, value)| stored.get(*name) != Some(*value))
    {
        let kept = stored.get(name).map_or("none".to_owned(), Value::to_string);
        differences.push(format!("{name}: the session has {kept}"));
    }
    let stored = row.metadata.as_ref().and_then(Stored::as_object).unwrap_or_default().to_value();
    let given = session.metadata.as_ref().map(JsonObject::to_value).unwrap_or_default();
    for (key, _) in given.iter().filter(|(key, value)| stored.get(*key) != Some(*value)) {
        let what = if stored.contains_key(key) { "another value" } else { "no such key" };
        differences.push(format!("metadata.{}: the session has {what}", key.escape_debug()));
    }
    differences.truncate(MAX_DIFFERENCES);
    differences
}
