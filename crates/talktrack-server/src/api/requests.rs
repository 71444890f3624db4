//! The bodies of requests, as `/openapi.json` describes them. The types here only describe: [`crate::wire`] parses the
//! bodies, by the same rules as the frames with the same fields.

#![expect(dead_code, reason = "read as a description alone")]

use serde::Deserialize;
use serde_json::{Map, Value};
use talktrack::{MessageId, SessionId, UserId};
use utoipa::ToSchema;

/// A session to start or to resume.
#[derive(ToSchema)]
pub(crate) struct SessionStart {
    /// Defaults to an id that the server derives from `external_id`, or generates.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    session_id: Option<SessionId>,
    /// Your own id of the session. Without `session_id`, the server derives the session's id from it.
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// The user of the session. Optional with a user's token, which names the user.
    #[schema(value_type = Uuid)]
    user_id: UserId,
    /// Your own data; the server stores it as it is.
    metadata: Option<Map<String, Value>>,
    /// When the session began. Defaults to now.
    #[schema(format = DateTime, min_length = 20)]
    started_at: Option<String>,
}

/// An update of a session's metadata.
#[derive(ToSchema)]
pub(crate) struct SessionUpdate {
    /// The keys to add or to replace.
    metadata: Map<String, Value>,
}

/// The end of a session.
#[derive(ToSchema)]
pub(crate) struct SessionEnd {
    /// The reason, in your own word. Defaults to `completed`.
    #[schema(min_length = 1, max_length = 256)]
    reason: Option<String>,
    /// When the session ended. Defaults to now.
    #[schema(format = DateTime, min_length = 20)]
    ended_at: Option<String>,
    /// `ended` (the default), or `abandoned` for conversations that you transfer from another system: the session was never
    /// ended explicitly. Its end is then its last message, and `ended_at` is ignored.
    #[schema(pattern = "^(ended|abandoned)$")]
    status: Option<String>,
}

/// One message, or several. The answer has their outcomes in the same order.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum NewMessages {
    One(Box<NewMessage>),
    Several(SeveralMessages),
}

/// Messages in the order in which they were said, at most 1,000.
#[derive(Deserialize, ToSchema)]
#[schema(min_items = 1)]
pub(crate) struct SeveralMessages(Vec<NewMessage>);

/// Measurements of a turn. Values of keys that end in `_ms` are in milliseconds. Other keys are stored as well.
#[derive(Deserialize, ToSchema)]
pub(crate) struct Metrics {
    stt_ms: Option<f64>,
    eou_ms: Option<f64>,
    llm_ttft_ms: Option<f64>,
    tts_ttfb_ms: Option<f64>,
    e2e_ms: Option<f64>,
    heard_ms: Option<f64>,
    audio_start_ms: Option<f64>,
    audio_end_ms: Option<f64>,
    input_tokens: Option<f64>,
    output_tokens: Option<f64>,
    confidence: Option<f64>,
    model: Option<String>,
    provider: Option<String>,
    language: Option<String>,
}

/// A message to add. Its fields are those of the `message` frame.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewMessage {
    #[schema(pattern = "^(user|assistant|system|developer|tool)$")]
    role: String,
    /// What was said and heard. Must not be empty, unless `kind` is not `message`, or `content_generated` or `parts` is given.
    content: String,
    /// The idempotency key. Defaults to an id that the server derives from `external_id`, or generates.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    id: Option<MessageId>,
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// When the message was said. Defaults to now.
    #[schema(format = DateTime, min_length = 20)]
    created_at: Option<String>,
    #[schema(pattern = "^(message|tool_call|tool_result|event)$")]
    kind: Option<String>,
    /// A message with a higher revision replaces the stored message with the same id. Defaults to 0.
    #[schema(minimum = 0, maximum = 2147483647)]
    revision: Option<i32>,
    interrupted: Option<bool>,
    content_generated: Option<String>,
    audio_url: Option<String>,
    metadata: Option<Map<String, Value>>,
    parts: Option<Vec<Value>>,
    metrics: Option<Metrics>,
    /// Your own reference, a string or a number. The answer repeats it.
    #[serde(rename = "ref")]
    reference: Option<Reference>,
}

/// A reference of the caller: a string or a number.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Reference {
    Text(String),
    Number(f64),
}

/// An audio file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct Recording(Vec<u8>);
