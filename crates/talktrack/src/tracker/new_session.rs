//! A session that a caller starts.

use talktrack_core::clock::Timestamp;
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::message;
use talktrack_core::record::SessionStart;

/// A session for [`Tracker::start_session`](crate::Tracker::start_session).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NewSession {
    /// The session's id.
    pub session_id: SessionId,
    /// The user who owns the session.
    pub user_id: UserId,
    /// The caller's own id, up to 256 bytes.
    pub external_id: Option<String>,
    /// The caller's own data. It is merged into the metadata of a known session.
    pub metadata: Option<JsonObject>,
    /// What lists and statistics filter and group sessions by.
    pub dimensions: Dimensions,
    /// When the session started. The current time if it is omitted or more than 60 s ahead.
    pub started_at: Option<Timestamp>,
    /// True if the session continues even if it has ended, which is the default. A start without it only adds what a session that
    /// exists does not have, such as an `external_id` or keys of the metadata, and an end stays.
    pub resume: bool,
    /// The time of the last message on another node, if the caller knows it. Messages without a time of their own are
    /// placed after it. It is ignored if it is more than a day ahead of this node's clock.
    pub said_until: Option<Timestamp>,
}

impl NewSession {
    /// Creates a session with only its ids.
    pub fn new(session_id: SessionId, user_id: UserId) -> Self {
        Self {
            session_id,
            user_id,
            external_id: None,
            metadata: None,
            dimensions: Dimensions::default(),
            started_at: None,
            resume: true,
            said_until: None,
        }
    }

    /// Creates a session whose user is not known: its owner is a guest, who has no other session.
    pub fn of_guest(session_id: SessionId) -> Self {
        Self::new(session_id, UserId::guest_of(session_id))
    }

    /// Creates a session that the caller knows by its own name. The session id is derived from that name.
    pub fn named(external_id: impl Into<String>, user_id: UserId) -> Self {
        let external_id = external_id.into();
        let session_id = message::program_session_id(&external_id);
        Self { external_id: Some(external_id), ..Self::new(session_id, user_id) }
    }

    /// Creates a named session for a user who starts it with a token. The id also depends on the user, so that another
    /// user's name never leads to the same id.
    pub fn named_by_user(external_id: impl Into<String>, user_id: UserId) -> Self {
        let external_id = external_id.into();
        let session_id = message::user_session_id(&user_id, &external_id);
        Self { external_id: Some(external_id), ..Self::new(session_id, user_id) }
    }

    /// Sets the session's id. If the owner is the guest of the session, it is the guest of the new id from then on.
    #[must_use]
    pub fn with_session_id(self, session_id: SessionId) -> Self {
        let is_guests = self.user_id.is_guest_of(self.session_id);
        let user_id = if is_guests { UserId::guest_of(session_id) } else { self.user_id };
        Self { session_id, user_id, ..self }
    }

    /// Sets the caller's own id. The session's id stays as it is: [`Self::named`] derives it from the name.
    #[must_use]
    pub fn with_external_id(self, external_id: impl Into<String>) -> Self {
        Self { external_id: Some(external_id.into()), ..self }
    }

    /// Sets the caller's own data.
    #[must_use]
    pub fn with_metadata(self, metadata: impl Into<Option<JsonObject>>) -> Self {
        Self { metadata: metadata.into(), ..self }
    }

    /// Sets what lists and statistics filter and group sessions by.
    #[must_use]
    pub fn with_dimensions(self, dimensions: Dimensions) -> Self {
        Self { dimensions, ..self }
    }

    /// Sets when the session started.
    #[must_use]
    pub fn with_started_at(self, started_at: impl Into<Option<Timestamp>>) -> Self {
        Self { started_at: started_at.into(), ..self }
    }

    /// Sets whether the session continues even if it has ended.
    #[must_use]
    pub fn with_resume(self, resume: bool) -> Self {
        Self { resume, ..self }
    }

    /// Sets the time of the last message on another node.
    #[must_use]
    pub fn with_said_until(self, said_until: impl Into<Option<Timestamp>>) -> Self {
        Self { said_until: said_until.into(), ..self }
    }

    /// Returns the record of the start. The session starts `now` if the caller gave no start.
    pub(super) fn into_start(self, now: Timestamp, is_known: bool) -> SessionStart {
        SessionStart {
            session_id: self.session_id,
            user_id: self.user_id,
            external_id: self.external_id,
            metadata: self.metadata,
            dimensions: self.dimensions,
            started_at: self.started_at.unwrap_or(now),
            has_given_start: self.started_at.is_some(),
            resumed: is_known,
            reopens: self.resume,
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.external_id.as_ref().map_or(0, String::len)
            + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
            + self.dimensions.heap_bytes()
    }

    pub(super) fn replace_nul(&mut self) {
        self.external_id.as_mut().map(message::replace_nul_in);
        self.dimensions.replace_nul();
        if let Some(metadata) = self.metadata.as_ref().and_then(JsonObject::without_nul) {
            self.metadata = Some(metadata);
        }
    }
}
