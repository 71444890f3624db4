//! What an answer needs of the frame that it answers: the `ref`, the session, and what was wrong with the frame.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::value::RawValue;
use talktrack_core::ErrorCode;

use crate::session_name::SessionName;

/// The maximum length of a `ref` in bytes. It is kept in memory until the answer.
const MAX_REF_BYTES: usize = 256;

/// The sender's own reference on a frame: a JSON string or number that the answer echoes exactly as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FrameRef(Box<str>);

impl FrameRef {
    /// Makes a reference for one of the client's own frames.
    pub fn number(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// Takes the JSON text of a value if it is a valid `ref`.
    pub(super) fn from_json(text: &str) -> Result<Self, &'static str> {
        let fit = match text.as_bytes() {
            // JSON can contain a lone surrogate, and only a full parse detects it.
            [b'"', ..] => !text.contains("\\u") || serde_json::from_str::<String>(text).is_ok(),
            [b'-' | b'0'..=b'9', ..] => true,
            _ => false,
        };
        match fit && text.len() <= MAX_REF_BYTES {
            true => Ok(Self(text.into())),
            false => Err("must be a string or a number of at most 256 bytes"),
        }
    }

    /// Returns the JSON text, including quotes.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for FrameRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for FrameRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for FrameRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::from_json(raw.get()).map_err(de::Error::custom)
    }
}

/// Why a text is not a frame. The connection stays open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct WireError {
    /// [`ErrorCode::InvalidJson`] if the text is not a JSON object, otherwise [`ErrorCode::InvalidMessage`].
    pub code: ErrorCode,
    /// The field and what is wrong with it: `content: missing`.
    pub message: String,
    /// The frame's `ref`, if it was readable.
    pub reference: Option<FrameRef>,
    /// The session that the frame names, if that was readable.
    pub session_id: Option<SessionName>,
}

impl WireError {
    /// Creates the error for a text that is not a JSON object.
    pub fn json(message: impl Into<String>) -> Self {
        Self { code: ErrorCode::InvalidJson, message: message.into(), reference: None, session_id: None }
    }

    pub(super) fn message(
        message: impl Into<String>,
        reference: Option<FrameRef>,
        session_id: Option<SessionName>,
    ) -> Self {
        Self { code: ErrorCode::InvalidMessage, message: message.into(), reference, session_id }
    }
}
