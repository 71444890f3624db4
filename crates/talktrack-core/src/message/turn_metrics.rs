//! The metrics of one turn.

use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::json::JsonObject;

/// The metrics of one turn: a JSON object. The known keys have the right type, and unknown keys are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TurnMetrics(pub(super) JsonObject);

impl TurnMetrics {
    /// The keys with measured values: times in milliseconds, token counts, a probability. The statistics cover these
    /// keys.
    pub const MEASURES: [&str; 9] = [
        "stt_ms",
        "eou_ms",
        "llm_ttft_ms",
        "tts_ttfb_ms",
        "e2e_ms",
        "heard_ms",
        "input_tokens",
        "output_tokens",
        "confidence",
    ];
    /// The keys that give the start and the end of a message in the audio, in milliseconds.
    const PLACES: [&str; 2] = ["audio_start_ms", "audio_end_ms"];
    /// The keys that name something.
    const TEXTS: [&str; 3] = ["model", "provider", "language"];

    /// Returns the JSON object.
    pub fn as_json(&self) -> &JsonObject {
        &self.0
    }
}

impl TryFrom<JsonObject> for TurnMetrics {
    type Error = Invalid;

    fn try_from(json: JsonObject) -> Result<Self, Invalid> {
        for (key, value) in json.members() {
            let first = value.get().as_bytes().first().copied();
            let is_null = first == Some(b'n');
            if Self::TEXTS.contains(&key.as_str()) && !is_null && first != Some(b'"') {
                return Err(Invalid::new("metrics", format!("{key}: must be a string")));
            }
            let is_number = first.is_some_and(|byte| byte == b'-' || byte.is_ascii_digit());
            let means_number = Self::MEASURES.contains(&key.as_str()) || Self::PLACES.contains(&key.as_str());
            if means_number && !is_null && !is_number {
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
