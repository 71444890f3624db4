//! A message as the caller hands it over: what was said, in which session, by whom.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Map;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::Invalid;
use crate::json::{JsonArray, JsonObject};

/// An `external_id` longer than this many bytes is refused.
pub const MAX_EXTERNAL_ID_BYTES: usize = 256;

/// The namespace from which a session's UUID is derived where the caller only has a name for it (`external_id`).
pub const SESSION_NAMESPACE: Uuid = Uuid::from_u128(0x8f5a_3c0e_6d1b_5b7e_9a42_7461_6c6b_7472);

/// Set to `true` in a message's metadata where a U+0000 in it was replaced by U+FFFD.
pub const NUL_REPLACED: &str = "talktrack.nul_replaced";

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $field:literal { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            /// The word that the wire and the database use.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(word: &str) -> Result<Self, Invalid> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(Invalid::new($field, concat!("must be one of", $(" ", $word),+))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// Who spoke.
    Role, "role" {
        /// The human.
        User = "user",
        /// The agent.
        Assistant = "assistant",
        /// Instructions; stored without a `user_id`.
        System = "system",
        /// Instructions of the agent's developer.
        Developer = "developer",
        /// What a tool answered.
        Tool = "tool"
    }
}

words! {
    /// What sort of entry in the transcript it is.
    Kind, "kind" {
        /// Words.
        Message = "message",
        /// The agent calls a tool.
        ToolCall = "tool_call",
        /// The tool's answer.
        ToolResult = "tool_result",
        /// Something that happened and has no words of its own.
        Event = "event"
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A message for [`Tracker::track_message`](crate::Tracker::track_message).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// The session it belongs to.
    pub session_id: Uuid,
    /// Who spoke.
    pub role: Role,
    /// What was said, and heard. May be empty only for another kind than [`Kind::Message`], or where
    /// `content_generated` or `parts` say more.
    pub content: String,
    /// The idempotency key. Without it the id is derived from `external_id`, or minted (UUIDv7).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Uuid>,
    /// The caller's own id, up to [`MAX_EXTERNAL_ID_BYTES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// When it was said; the moment of acceptance where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// What sort of entry it is.
    pub kind: Kind,
    /// A later revision of the same id replaces an earlier one. At most `i32::MAX`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: u32,
    /// The user cut in while it was spoken.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interrupted: bool,
    /// Where its sound lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audio_url: Option<String>,
    /// The caller's own remarks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<JsonObject>,
    /// What the model generated, where less was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_generated: Option<String>,
    /// OpenTelemetry GenAI message parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parts: Option<JsonArray>,
    /// Numbers of the turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<TurnMetrics>,
}

impl Message {
    /// A message with nothing but the words.
    pub fn new(session_id: Uuid, role: Role, content: impl Into<String>) -> Self {
        Self {
            session_id,
            role,
            content: content.into(),
            id: None,
            external_id: None,
            created_at: None,
            kind: Kind::Message,
            revision: 0,
            interrupted: false,
            audio_url: None,
            metadata: None,
            content_generated: None,
            parts: None,
            metrics: None,
        }
    }

    /// The bytes it keeps in memory beyond the struct itself: what the queue's byte budget counts.
    pub fn heap_bytes(&self) -> usize {
        let text = |field: &Option<String>| field.as_ref().map_or(0, String::len);
        self.content.len()
            + text(&self.external_id)
            + text(&self.audio_url)
            + text(&self.content_generated)
            + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
            + self.parts.as_ref().map_or(0, |json| json.as_str().len())
            + self.metrics.as_ref().map_or(0, |json| json.as_json().as_str().len())
    }

    /// Says which field breaks the contract, if one does. Size limits are the tracker's.
    pub(crate) fn check(&self, latest: Timestamp) -> Result<(), Invalid> {
        let says_more = self.content_generated.is_some() || self.parts.is_some();
        if self.content.is_empty() && self.kind == Kind::Message && !says_more {
            return Err(Invalid::new("content", "must not be empty"));
        }
        if self.created_at.is_some_and(|at| at > latest) {
            return Err(Invalid::new("created_at", "lies more than a day in the future"));
        }
        if self.revision > i32::MAX.unsigned_abs() {
            return Err(Invalid::new("revision", "must be at most 2147483647"));
        }
        self.external_id.as_deref().map_or(Ok(()), check_external_id)
    }

    /// Replaces U+0000, which PostgreSQL cannot store, by U+FFFD everywhere, and flags it in the metadata.
    pub(crate) fn replace_nul(&mut self) {
        let mut found = clean(&mut self.content);
        for field in [&mut self.external_id, &mut self.audio_url, &mut self.content_generated] {
            found |= field.as_mut().is_some_and(clean);
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
        if found {
            let flag = JsonObject::from(&Map::from_iter([(NUL_REPLACED.to_owned(), true.into())]));
            let metadata = self.metadata.take().unwrap_or_default();
            self.metadata = Some(metadata.merged(&flag));
        }
    }

    /// The id under which it is stored, where the caller's data fix it.
    pub(crate) fn given_id(&self) -> Option<Uuid> {
        let derived =
            || self.external_id.as_ref().map(|name| Uuid::new_v5(&self.session_id, name.as_bytes()));
        self.id.or_else(derived)
    }
}

/// Replaces each U+0000 by U+FFFD; says whether there was one.
pub(crate) fn clean(text: &mut String) -> bool {
    let found = text.as_bytes().contains(&0);
    if found {
        *text = text.replace('\0', "\u{FFFD}");
    }
    found
}

/// An external id is neither empty nor endless.
pub(crate) fn check_external_id(id: &str) -> Result<(), Invalid> {
    match id.len() {
        0 => Err(Invalid::new("external_id", "must not be empty")),
        1..=MAX_EXTERNAL_ID_BYTES => Ok(()),
        _ => Err(Invalid::new("external_id", "must be at most 256 bytes")),
    }
}

/// The numbers of one turn: a JSON object in which the known keys have the right type; unknown keys are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TurnMetrics(JsonObject);

impl TurnMetrics {
    /// The object itself.
    pub fn as_json(&self) -> &JsonObject {
        &self.0
    }
}

impl TryFrom<JsonObject> for TurnMetrics {
    type Error = Invalid;

    fn try_from(json: JsonObject) -> Result<Self, Invalid> {
        const TEXTS: [&str; 3] = ["model", "provider", "language"];
        const NUMBERS: [&str; 11] = [
            "stt_ms",
            "eou_ms",
            "llm_ttft_ms",
            "tts_ttfb_ms",
            "e2e_ms",
            "heard_ms",
            "audio_start_ms",
            "audio_end_ms",
            "input_tokens",
            "output_tokens",
            "confidence",
        ];
        for (key, value) in json.members() {
            let first = value.get().as_bytes().first().copied();
            let is_null = first == Some(b'n');
            if TEXTS.contains(&key.as_str()) && !is_null && first != Some(b'"') {
                return Err(Invalid::new("metrics", format!("{key}: must be a string")));
            }
            let is_number = first.is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
            if NUMBERS.contains(&key.as_str()) && !is_null && !is_number {
                return Err(Invalid::new("metrics", format!("{key}: must be a number")));
            }
        }
        Ok(Self(json))
    }
}

impl<'de> Deserialize<'de> for TurnMetrics {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = JsonObject::deserialize(deserializer)?;
        Self::try_from(json).map_err(serde::de::Error::custom)
    }
}
