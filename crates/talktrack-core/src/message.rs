//! A message as the caller hands it over: its text, its session and its author.

mod builder;
mod turn_metrics;

use crate::ids::{MessageId, SessionId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::Invalid;
use crate::json::{JsonArray, JsonObject};
use crate::words::words;

pub use turn_metrics::TurnMetrics;

/// The maximum length of an `external_id`, in bytes. A longer one is refused.
pub const MAX_EXTERNAL_ID_BYTES: usize = 256;

/// The maximum length of a `name`, in bytes. A longer one is refused.
pub const MAX_NAME_BYTES: usize = 256;

/// The namespace from which a session's UUID is derived if the caller only has a name for the session (`external_id`).
pub const SESSION_NAMESPACE: Uuid = Uuid::from_u128(0x8f5a_3c0e_6d1b_5b7e_9a42_7461_6c6b_7472);

/// The metadata key that is set to `true` if a U+0000 in the message was replaced by U+FFFD.
pub const NUL_REPLACED: &str = "talktrack.nul_replaced";

/// The key of `extra` that holds talktrack's own notes.
pub const NOTES: &str = "talktrack";

/// The note that says who wrote a message. Its only value means a user with a token.
const BY: &str = "by";
const BY_USER: &str = "user";
/// The note that a lone surrogate somewhere in the message was replaced by U+FFFD.
#[doc(hidden)]
pub const SURROGATES_REPLACED: &str = "surrogates_replaced";
/// The note of the `seq` of the record whose revision a row holds.
#[doc(hidden)]
pub const REVISION_SEQ: &str = "revision_seq";
/// The note that the end of the session made the message final.
const CLOSED: &str = "closed";
/// The note of the `created_at` that the caller sent, if it was too far in the future to be used.
const CLAIMED: &str = "created_at";

words! {
    /// Who wrote a message.
    Role, "role" {
        /// The human.
        User = "user",
        /// The agent.
        Assistant = "assistant",
        /// Instructions of the platform. Stored without a `user_id`.
        System = "system",
        /// Instructions of the agent's developer, which newer models take in place of system messages.
        Developer = "developer",
        /// The result of a tool.
        Tool = "tool"
    }
}

words! {
    /// The kind of an entry in the transcript.
    Kind, "kind" {
        /// Text.
        Message = "message",
        /// The agent calls a tool.
        ToolCall = "tool_call",
        /// The result of a tool call.
        ToolResult = "tool_result",
        /// An event without text of its own.
        Event = "event",
        /// Another agent takes over the conversation. `name` is its name.
        Handoff = "handoff"
    }
}

words! {
    /// How far a message has come.
    #[derive(Default)]
    MessageStatus, "status" {
        /// The message is still being said. A later revision makes it final or discards it; the end of its session makes it final.
        InProgress = "in_progress",
        /// The message was said.
        #[default]
        Final = "final",
        /// The message was never said. It is kept, but not shown.
        Discarded = "discarded"
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The authority on which a message is handed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Author {
    /// An API key or the embedding program, for the session as this process knows it.
    #[default]
    Program,
    /// An API key or the embedding program, in the claim of this user.
    ProgramFor(UserId),
    /// This user, with a token. The message's id is derived ([`user_message_id`]), its row says so
    /// (`extra.talktrack.by`), and the message can revise only messages that a user wrote.
    User(UserId),
}

impl Author {
    /// Returns the user in whose claim the message is written, if one is named.
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Program => None,
            Self::ProgramFor(user_id) | Self::User(user_id) => Some(user_id),
        }
    }

    /// True if a user wrote the message with a token.
    pub fn is_user(&self) -> bool {
        matches!(self, Self::User(_))
    }
}

/// An id that a caller gave to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenId<'a> {
    /// The `id` of the message.
    Id(MessageId),
    /// The `external_id` of the message.
    ExternalId(&'a str),
}

/// Returns the id under which a message written with a user's token is stored. It is a UUIDv5 with the session as its
/// namespace. Its name is the 16 bytes of the user's id, one byte (0 for `id`, 1 for `external_id`), and the 16 bytes
/// of the `id` or the bytes of the `external_id`. So no user can take an id that another user or an API key may use.
pub fn user_message_id(session_id: SessionId, user_id: &UserId, given: GivenId<'_>) -> MessageId {
    let mut name = Vec::with_capacity(17 + MAX_EXTERNAL_ID_BYTES);
    name.extend_from_slice(user_id.as_bytes());
    match given {
        GivenId::Id(id) => {
            name.push(0);
            name.extend_from_slice(id.as_bytes());
        }
        GivenId::ExternalId(text) => {
            name.push(1);
            name.extend_from_slice(text.as_bytes());
        }
    }
    Uuid::new_v5(&session_id.as_uuid(), &name).into()
}

/// Returns the id of a session that a user's token starts under an `external_id`: a UUIDv5 with the user as its
/// namespace.
pub fn user_session_id(user_id: &UserId, external_id: &str) -> SessionId {
    Uuid::new_v5(&user_id.as_uuid(), external_id.as_bytes()).into()
}

/// Returns the id of a session that an API key or the embedding program starts under an `external_id`.
pub fn program_session_id(external_id: &str) -> SessionId {
    Uuid::new_v5(&SESSION_NAMESPACE, external_id.as_bytes()).into()
}

/// A message for a tracker to record. Make one with [`Message::new`], and set the other fields with the methods that begin
/// with `with_`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// The session that the message belongs to.
    pub session_id: SessionId,
    /// Who wrote the message.
    pub role: Role,
    /// The text that was spoken and heard. It may be empty: a transcription that failed, an answer of which nothing was
    /// heard, a message that is only audio.
    pub content: String,
    /// The idempotency key. Without it, the id is derived from `external_id`, or a new UUIDv7 is generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<MessageId>,
    /// The caller's own id, up to [`MAX_EXTERNAL_ID_BYTES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// When the message was spoken or written. If omitted, the time of acceptance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// Who spoke: the name of the agent or of the participant, up to [`MAX_NAME_BYTES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The kind of the transcript entry.
    pub kind: Kind,
    /// How far the message has come.
    #[serde(default, skip_serializing_if = "is_default")]
    pub status: MessageStatus,
    /// The revision. A later revision of the same id replaces an earlier one. At most `i32::MAX`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: u32,
    /// True if the user interrupted the agent while it spoke this message.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interrupted: bool,
    /// The address of the recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_url: Option<String>,
    /// The caller's own data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonObject>,
    /// The text that the model generated, if the user heard less than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_generated: Option<String>,
    /// OpenTelemetry GenAI message parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<JsonArray>,
    /// The metrics of the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<TurnMetrics>,
    /// Data that belongs to no other field. It does not count when two messages are compared. The key `talktrack` is
    /// reserved: the tracker replaces what a caller puts there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<JsonObject>,
}

/// True if the notes in this `extra` say that a user wrote the message with a token.
pub(crate) fn notes_say_by_user(extra: &JsonObject) -> bool {
    extra.to_value().remove(NOTES).is_some_and(|notes| notes[BY] == BY_USER)
}

impl Message {
    /// Returns the bytes that the message occupies on the heap, without the struct itself. The byte limit of the queue
    /// counts them.
    pub fn heap_bytes(&self) -> usize {
        let text = |field: &Option<String>| field.as_ref().map_or(0, String::len);
        self.content.len()
            + text(&self.external_id)
            + text(&self.name)
            + text(&self.audio_url)
            + text(&self.content_generated)
            + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
            + self.parts.as_ref().map_or(0, |json| json.as_str().len())
            + self.metrics.as_ref().map_or(0, |json| json.as_json().as_str().len())
            + self.extra.as_ref().map_or(0, |json| json.as_str().len())
    }

    /// Returns an error that names the field if a field is invalid. The tracker checks the size limits.
    ///
    /// # Errors
    /// Names the first field that violates the contract.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.revision > i32::MAX.unsigned_abs() {
            return Err(Invalid::new("revision", "must be at most 2147483647"));
        }
        if self.name.as_ref().is_some_and(|name| name.len() > MAX_NAME_BYTES) {
            return Err(Invalid::new("name", "must be at most 256 bytes"));
        }
        self.external_id.as_deref().map_or(Ok(()), check_external_id)
    }

    /// Replaces U+0000, which PostgreSQL cannot store, by U+FFFD in all fields, and flags the replacement in the
    /// metadata.
    #[doc(hidden)]
    pub fn replace_nul(&mut self) {
        let mut found = replace_nul_in(&mut self.content);
        for field in [&mut self.external_id, &mut self.name, &mut self.audio_url, &mut self.content_generated]
        {
            found |= field.as_mut().is_some_and(replace_nul_in);
        }
        if let Some(parts) = self.parts.as_ref().and_then(JsonArray::without_nul) {
            (self.parts, found) = (Some(parts), true);
        }
        if let Some(metrics) = self.metrics.as_ref().and_then(|metrics| metrics.0.without_nul()) {
            (self.metrics, found) = (Some(TurnMetrics(metrics)), true);
        }
        if let Some(metadata) = self.metadata.as_ref().and_then(JsonObject::without_nul) {
            (self.metadata, found) = (Some(metadata), true);
        }
        if let Some(extra) = self.extra.as_ref().and_then(JsonObject::without_nul) {
            (self.extra, found) = (Some(extra), true);
        }
        if found {
            let flag = JsonObject::from(&Map::from_iter([(NUL_REPLACED.to_owned(), true.into())]));
            let metadata = self.metadata.take().unwrap_or_default();
            self.metadata = Some(metadata.merged(&flag));
        }
    }

    /// Notes in `extra` that lone surrogates in the message's JSON were replaced by U+FFFD.
    #[doc(hidden)]
    pub fn note_replaced_surrogates(&mut self) {
        let notes = Map::from_iter([(SURROGATES_REPLACED.to_owned(), true.into())]);
        let notes = JsonObject::from(&Map::from_iter([(NOTES.to_owned(), notes.into())]));
        self.extra = Some(self.extra.take().unwrap_or_default().merged(&notes));
    }

    /// True if the notes say that the end of the session made the message final.
    pub fn is_closed(&self) -> bool {
        let notes = self.extra.as_ref().and_then(|extra| extra.to_value().remove(NOTES));
        notes.is_some_and(|notes| notes[CLOSED] == true)
    }

    /// Replaces talktrack's own notes in `extra`: who wrote the message, and the `created_at` that the caller claimed
    /// if it was too far in the future. The note of replaced surrogates is kept.
    #[doc(hidden)]
    pub fn set_notes(&mut self, author: &Author, claimed: Option<Timestamp>) {
        let is_noted = |extra: &JsonObject| extra.members().iter().any(|(key, _)| key == NOTES);
        let mut replaced = None;
        if self.extra.as_ref().is_some_and(is_noted) {
            let mut fields = self.extra.take().unwrap_or_default().to_value();
            let notes = fields.remove(NOTES).unwrap_or_default();
            replaced =
                (notes[SURROGATES_REPLACED] == true).then(|| (SURROGATES_REPLACED.to_owned(), true.into()));
            self.extra = (!fields.is_empty()).then(|| JsonObject::from(&fields));
        }
        let by = author.is_user().then(|| (BY.to_owned(), BY_USER.into()));
        let claimed = claimed.map(|at| (CLAIMED.to_owned(), at.to_string().into()));
        let notes: Map<String, Value> = by.into_iter().chain(claimed).chain(replaced).collect();
        if !notes.is_empty() {
            let notes = JsonObject::from(&Map::from_iter([(NOTES.to_owned(), notes.into())]));
            self.extra = Some(self.extra.take().unwrap_or_default().merged(&notes));
        }
    }

    /// True if the notes say that a user wrote the message with a token.
    pub fn is_by_user(&self) -> bool {
        self.extra.as_ref().is_some_and(notes_say_by_user)
    }

    /// Returns the id under which the message is stored, if the caller's data determine it.
    #[doc(hidden)]
    pub fn given_id(&self, author: &Author) -> Option<MessageId> {
        if let Author::User(user_id) = author {
            let named = || self.external_id.as_deref().map(GivenId::ExternalId);
            let given = self.id.map(GivenId::Id).or_else(named);
            return given.map(|given| user_message_id(self.session_id, user_id, given));
        }
        let derive = |name: &String| Uuid::new_v5(&self.session_id.as_uuid(), name.as_bytes()).into();
        self.id.or_else(|| self.external_id.as_ref().map(derive))
    }
}

/// Replaces each U+0000 by U+FFFD. Returns true if there was one.
#[doc(hidden)]
pub fn replace_nul_in(text: &mut String) -> bool {
    let found = text.as_bytes().contains(&0);
    if found {
        *text = text.replace('\0', "\u{FFFD}");
    }
    found
}

/// Checks that an external id has 1 to [`MAX_EXTERNAL_ID_BYTES`] bytes.
///
/// # Errors
/// If it is empty or too long.
pub fn check_external_id(id: &str) -> Result<(), Invalid> {
    match id.len() {
        0 => Err(Invalid::new("external_id", "must not be empty")),
        1..=MAX_EXTERNAL_ID_BYTES => Ok(()),
        _ => Err(Invalid::new("external_id", "must be at most 256 bytes")),
    }
}
