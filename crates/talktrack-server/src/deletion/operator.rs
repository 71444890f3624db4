//! Deletions that a command asks for on a data directory. Whoever may enter the directory may delete everything in it.

use serde_json::{Value, json};
use talktrack::{NotDurable, SessionId, UserId};

use crate::access::SessionName;
use crate::auth::Caller;
use crate::deletion::{DeletionReport, delete_session, delete_user};
use crate::error::Problem;
use crate::state::AppState;

/// What a command deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DeletionTarget {
    /// A session with everything that was said in it.
    Session(SessionId),
    /// All data of a user.
    User(UserId),
}

/// Deletes the target. Returns the answer of the HTTP API to such a request, or `None` if there is no such session. Records of
/// the session that another node delivers later are refused in either case.
///
/// # Errors
/// Fails if the deletion cannot be accepted now.
pub(crate) async fn delete(state: &AppState, target: DeletionTarget) -> Result<Option<Value>, Problem> {
    match target {
        DeletionTarget::Session(session_id) => {
            match delete_session(state, &Caller::Anyone, &SessionName::from(session_id)).await {
                Ok((session_id, removed)) => Ok(Some(with_id("session_id", json!(session_id), &removed))),
                Err(problem) if problem.code() == NotDurable::UnknownSession.code() => Ok(None),
                Err(problem) => Err(problem),
            }
        }
        DeletionTarget::User(user_id) => {
            let removed = delete_user(state, user_id.clone()).await?;
            Ok(Some(with_id("user_id", json!(user_id), &removed)))
        }
    }
}

fn with_id(name: &str, id: Value, removed: &DeletionReport) -> Value {
    let mut document = json!(removed);
    document[name] = id;
    document
}
