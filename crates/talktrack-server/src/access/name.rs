//! How a request names a session or a user.

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use serde::Deserialize;
use talktrack::message::{MAX_EXTERNAL_ID_BYTES, program_session_id, user_session_id};
use talktrack::{SessionId, UserId};

use crate::error::Problem;

/// The prefix of a session name that the caller chose.
const EXTERNAL: &str = "external:";

/// How a request names a session: by its UUID, or as `external:NAME` with a name that the caller chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionName {
    Id(SessionId),
    External(String),
}

impl SessionName {
    /// Parses a session name.
    ///
    /// # Errors
    /// Returns what the name must be, as a clause that follows the field's name.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        match text.strip_prefix(EXTERNAL) {
            Some(name) if (1..=MAX_EXTERNAL_ID_BYTES).contains(&name.len()) && !name.contains('\0') => {
                Ok(Self::External(name.to_owned()))
            }
            Some(_) => Err("the name after external: must be 1 to 256 bytes without U+0000"),
            None => text.parse().map(Self::Id).map_err(|_| "must be a UUID or external:NAME"),
        }
    }

    /// Returns the session that this name means to an API key.
    pub(crate) fn id_for_key(&self) -> SessionId {
        match self {
            Self::Id(id) => *id,
            Self::External(name) => program_session_id(name),
        }
    }

    /// Returns the sessions that a user may mean, the more likely one first: the session that the user started under
    /// this name, then the one that a key started under it.
    pub(super) fn ids_for_user(&self, user_id: &UserId) -> Vec<SessionId> {
        match self {
            Self::Id(id) => vec![*id],
            Self::External(name) => vec![user_session_id(user_id, name), program_session_id(name)],
        }
    }
}

impl From<SessionId> for SessionName {
    fn from(id: SessionId) -> Self {
        Self::Id(id)
    }
}

/// Extracts only `session_id`, because the path may have further parameters.
#[derive(Deserialize)]
struct Named {
    session_id: String,
}

impl<S: Send + Sync> FromRequestParts<S> for SessionName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<Named>, PathRejection> = Path::from_request_parts(parts, state).await;
        let invalid = |problem: &str| Problem::invalid(format_args!("session_id: {problem}"));
        let Path(path) = path.map_err(|_| invalid("must be a UUID or external:NAME"))?;
        Self::parse(&path.session_id).map_err(invalid)
    }
}

/// The user that the path names.
pub(crate) struct UserInPath(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path: Result<Path<UserId>, PathRejection> = Path::from_request_parts(parts, state).await;
        path.map(|Path(id)| Self(id)).map_err(|_| Problem::invalid("user_id: must be a UUID"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_named_by_its_id_or_by_the_callers_own_name() {
        let id = SessionId::from_u128(7);
        assert_eq!(SessionName::parse(&id.to_string()), Ok(SessionName::Id(id)));
        assert_eq!(SessionName::parse("external:a/b"), Ok(SessionName::External("a/b".into())));
        let long = format!("external:{}", "x".repeat(257));
        for text in ["external:", "external:a\0b", "7", "", "External:a", &long] {
            assert!(SessionName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_two_users_mean_the_same_session_by_a_name_of_their_own() {
        let name = SessionName::parse("external:mail@example.com").unwrap();
        let one = name.ids_for_user(&UserId::from_u128(1));
        let other = name.ids_for_user(&UserId::from_u128(2));
        assert_ne!(one[0], other[0]);
        assert_eq!((one[1], other[1]), (name.id_for_key(), name.id_for_key()));
    }
}
