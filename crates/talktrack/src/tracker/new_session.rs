//! A session that a caller starts.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::json::JsonObject;
use crate::message;

/// A session for [`Tracker::start_session`](crate::Tracker::start_session).
#[derive(Debug, Clone, PartialEq)]
pub struct NewSession {
    /// Its id.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The caller's own id, up to 256 bytes.
    pub external_id: Option<String>,
    /// The caller's own remarks; merged where the session is known.
    pub metadata: Option<JsonObject>,
    /// When it began; now if it is left out, or more than 60 s ahead.
    pub started_at: Option<Timestamp>,
    /// When something was last said in it on another node, as far as the caller knows: what is said without a time of its own is
    /// placed after it. More than a day ahead of this node's clock it counts for nothing.
    pub said_until: Option<Timestamp>,
}

impl NewSession {
    /// A session with nothing but its ids.
    pub fn new(session_id: Uuid, user_id: Uuid) -> Self {
        Self { session_id, user_id, external_id: None, metadata: None, started_at: None, said_until: None }
    }

    /// A session known by the caller's own name for it, from which its id is derived.
    pub fn named(external_id: impl Into<String>, user_id: Uuid) -> Self {
        let external_id = external_id.into();
        let session_id = message::program_session_id(&external_id);
        Self { external_id: Some(external_id), ..Self::new(session_id, user_id) }
    }

    /// The same for a user who starts it with a token: no other user's name for a session leads to the same id.
    pub fn named_by_user(external_id: impl Into<String>, user_id: Uuid) -> Self {
        let external_id = external_id.into();
        let session_id = message::user_session_id(user_id, &external_id);
        Self { external_id: Some(external_id), ..Self::new(session_id, user_id) }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.external_id.as_ref().map_or(0, String::len)
            + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
    }

    pub(super) fn replace_nul(&mut self) {
        self.external_id.as_mut().map(message::clean);
        if let Some(metadata) = self.metadata.as_ref().and_then(JsonObject::without_nul) {
            self.metadata = Some(metadata);
        }
    }
}
