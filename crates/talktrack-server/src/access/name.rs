//! How the path of a request names a session or a user.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use talktrack::{InvalidUserId, MessageId, UserId};
use talktrack_protocol::SessionName;

use crate::error::Problem;
use crate::state::AppState;

/// Extracts only `session_id`, because the path may have further parameters.
#[derive(Deserialize)]
struct Named {
    session_id: String,
}

impl FromRequestParts<AppState> for SessionName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let path: Result<Path<Named>, PathRejection> = Path::from_request_parts(parts, state).await;
        let invalid = |problem: &str| Problem::invalid(format_args!("session_id: {problem}"));
        let Path(path) = path.map_err(|_| invalid("must be a UUID or external:NAME"))?;
        Self::parse(&path.session_id).map_err(invalid)
    }
}

/// The message that the path names.
pub(crate) struct MessageInPath(pub(crate) MessageId);

impl<S: Send + Sync> FromRequestParts<S> for MessageInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<(String, MessageId)>, PathRejection> =
            Path::from_request_parts(parts, state).await;
        path.map(|Path((_, id))| Self(id)).map_err(|_| Problem::invalid("message_id: must be a UUID"))
    }
}

/// The user that the path names.
pub(crate) struct UserInPath(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<UserId>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Problem::invalid(format_args!("user_id: {InvalidUserId}")))
    }
}
