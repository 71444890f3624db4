//! The header `Idempotency-Key`: a request with the same key is the same request, sent again.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use talktrack::{MessageId, SessionId};
use uuid::Uuid;

use crate::auth::Caller;
use crate::error::Problem;

const HEADER: &str = "idempotency-key";
/// The maximum length of a key in bytes.
const MAX_BYTES: usize = 256;

/// The namespace from which the UUID of a session is derived that is started with a key and without an id or a name.
const SESSION_NAMESPACE: Uuid = Uuid::from_u128(0x3b0f_64f2_0c1e_5d0c_8d1e_6964_656d_706f);

/// The key of a request, if it has one.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey(Option<Arc<[u8]>>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(key) = parts.headers.get(HEADER) else { return Ok(Self(None)) };
        match key.len() {
            1..=MAX_BYTES => Ok(Self(Some(key.as_bytes().into()))),
            _ => Err(Problem::invalid(format_args!("Idempotency-Key: must be 1 to {MAX_BYTES} bytes"))),
        }
    }
}

impl IdempotencyKey {
    /// Returns the id of the session that this caller starts with the key. It differs from the id of every other caller.
    pub(super) fn session_id(&self, caller: &Caller) -> Option<SessionId> {
        let key = self.0.as_deref()?;
        let caller = match caller {
            Caller::Anyone => vec![0],
            Caller::Key(holder) => [&[1], holder.name.as_bytes(), &[0]].concat(),
            Caller::User(user) => [&[2], &user.user_id.as_bytes()[..]].concat(),
        };
        Some(Uuid::new_v5(&SESSION_NAMESPACE, &[&caller, key].concat()).into())
    }

    /// Returns the id of the message at this place of the request.
    pub(super) fn message_id(&self, session_id: SessionId, place: usize) -> Option<MessageId> {
        let name = [b"idempotency-key:", self.0.as_deref()?, format!(":{place}").as_bytes()].concat();
        Some(Uuid::new_v5(&session_id.as_uuid(), &name).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> IdempotencyKey {
        IdempotencyKey(Some(text.as_bytes().into()))
    }

    #[test]
    fn an_id_of_a_message_depends_on_its_session_its_place_and_the_key() {
        let id = |session, text, place| key(text).message_id(SessionId::from_u128(session), place);
        assert_eq!(id(1, "k", 0), id(1, "k", 0));
        let all = [id(1, "k", 0), id(1, "k", 1), id(1, "l", 0), id(2, "k", 0), None];
        assert!(all.iter().enumerate().all(|(place, id)| !all[..place].contains(id)), "{all:?}");
        assert_eq!(IdempotencyKey(None).message_id(SessionId::from_u128(1), 0), None);
    }
}
