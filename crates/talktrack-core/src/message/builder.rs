//! Sets the fields of a message one by one, so that a message with more fields needs no change where it is made.

use crate::clock::Timestamp;
use crate::ids::{MessageId, SessionId};
use crate::json::{JsonArray, JsonObject};
use crate::message::{Kind, Message, MessageStatus, Role, TurnMetrics};

impl Message {
    /// Creates a message with only its text.
    pub fn new(session_id: SessionId, role: Role, content: impl Into<String>) -> Self {
        Self {
            session_id,
            role,
            content: content.into(),
            id: None,
            external_id: None,
            created_at: None,
            name: None,
            kind: Kind::Message,
            status: MessageStatus::Final,
            revision: 0,
            interrupted: false,
            audio_url: None,
            metadata: None,
            content_generated: None,
            parts: None,
            metrics: None,
            extra: None,
        }
    }

    /// Sets the session that the message belongs to.
    #[must_use]
    pub fn with_session_id(self, session_id: SessionId) -> Self {
        Self { session_id, ..self }
    }

    /// Sets who wrote the message.
    #[must_use]
    pub fn with_role(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Sets the text that was spoken and heard.
    #[must_use]
    pub fn with_content(self, content: impl Into<String>) -> Self {
        Self { content: content.into(), ..self }
    }

    /// Sets the idempotency key.
    #[must_use]
    pub fn with_id(self, id: impl Into<Option<MessageId>>) -> Self {
        Self { id: id.into(), ..self }
    }

    /// Sets the caller's own id, from which the message's id is derived if it has none.
    #[must_use]
    pub fn with_external_id(self, external_id: impl Into<String>) -> Self {
        Self { external_id: Some(external_id.into()), ..self }
    }

    /// Sets when the message was spoken or written.
    #[must_use]
    pub fn with_created_at(self, created_at: impl Into<Option<Timestamp>>) -> Self {
        Self { created_at: created_at.into(), ..self }
    }

    /// Sets who spoke.
    #[must_use]
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Sets the kind of the transcript entry.
    #[must_use]
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// Sets how far the message has come.
    #[must_use]
    pub fn with_status(self, status: MessageStatus) -> Self {
        Self { status, ..self }
    }

    /// Sets the revision. A later revision of the same id replaces an earlier one.
    #[must_use]
    pub fn with_revision(self, revision: u32) -> Self {
        Self { revision, ..self }
    }

    /// Sets whether the user interrupted the agent while it spoke this message.
    #[must_use]
    pub fn with_interrupted(self, interrupted: bool) -> Self {
        Self { interrupted, ..self }
    }

    /// Sets the address of the recording.
    #[must_use]
    pub fn with_audio_url(self, audio_url: impl Into<String>) -> Self {
        Self { audio_url: Some(audio_url.into()), ..self }
    }

    /// Sets the caller's own data.
    #[must_use]
    pub fn with_metadata(self, metadata: impl Into<Option<JsonObject>>) -> Self {
        Self { metadata: metadata.into(), ..self }
    }

    /// Sets the text that the model generated, if the user heard less than that.
    #[must_use]
    pub fn with_content_generated(self, content_generated: impl Into<String>) -> Self {
        Self { content_generated: Some(content_generated.into()), ..self }
    }

    /// Sets the OpenTelemetry GenAI message parts.
    #[must_use]
    pub fn with_parts(self, parts: impl Into<Option<JsonArray>>) -> Self {
        Self { parts: parts.into(), ..self }
    }

    /// Sets the metrics of the turn.
    #[must_use]
    pub fn with_metrics(self, metrics: impl Into<Option<TurnMetrics>>) -> Self {
        Self { metrics: metrics.into(), ..self }
    }

    /// Sets data that belongs to no other field.
    #[must_use]
    pub fn with_extra(self, extra: impl Into<Option<JsonObject>>) -> Self {
        Self { extra: extra.into(), ..self }
    }
}
