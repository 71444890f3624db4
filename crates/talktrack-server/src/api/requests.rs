//! The bodies of requests, as `/openapi.json` describes them. The types here only describe: [`crate::wire`] parses the
//! bodies, by the same rules as the frames with the same fields.

#![expect(dead_code, reason = "read as a description alone")]

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// A session that begins.
#[derive(ToSchema)]
pub(crate) struct SessionStart {
    /// Minted where it is left out.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    session_id: Option<Uuid>,
    /// Your own id; without `session_id`, that is derived from it.
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// Whose it is. A user's token says so by itself: there it may be left out.
    user_id: Uuid,
    /// Yours alone.
    metadata: Option<Map<String, Value>>,
    /// When it began; now where it is left out.
    #[schema(format = DateTime, min_length = 20)]
    started_at: Option<String>,
}

/// Keys for a session's metadata.
#[derive(ToSchema)]
pub(crate) struct SessionUpdate {
    metadata: Map<String, Value>,
}

/// The end of a session.
#[derive(ToSchema)]
pub(crate) struct SessionEnd {
    /// Your word for why; `completed` where it is left out.
    #[schema(min_length = 1, max_length = 256)]
    reason: Option<String>,
    /// When; now where it is left out.
    #[schema(format = DateTime, min_length = 20)]
    ended_at: Option<String>,
    /// `abandoned` says that nobody ended it: then its end is its last message, whatever `ended_at` says. For conversations
    /// that are carried over from elsewhere.
    #[schema(pattern = "^(ended|abandoned)$")]
    status: Option<String>,
}

/// One message, or several, which are answered in their order.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum NewMessages {
    One(Box<NewMessage>),
    Several(SeveralMessages),
}

/// Messages in the order in which they were said; 1,000 at most.
#[derive(Deserialize, ToSchema)]
#[schema(min_items = 1)]
pub(crate) struct SeveralMessages(Vec<NewMessage>);

/// The numbers of a turn, in milliseconds where the name says `_ms`. Other keys are kept, too.
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

/// Something that was said. Its fields are those of the `message` frame.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewMessage {
    #[schema(pattern = "^(user|assistant|system|developer|tool)$")]
    role: String,
    /// What was said, and heard. Must not be empty, unless `kind` is another than `message`, or `content_generated` or
    /// `parts` is there.
    content: String,
    /// The idempotency key; derived from `external_id` or minted where it is left out.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    id: Option<Uuid>,
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// When it was said; now where it is left out.
    #[schema(format = DateTime, min_length = 20)]
    created_at: Option<String>,
    #[schema(pattern = "^(message|tool_call|tool_result|event)$")]
    kind: Option<String>,
    /// A higher one replaces what stands under the same id.
    #[schema(minimum = 0, maximum = 2147483647)]
    revision: Option<i32>,
    interrupted: Option<bool>,
    content_generated: Option<String>,
    audio_url: Option<String>,
    metadata: Option<Map<String, Value>>,
    parts: Option<Vec<Value>>,
    metrics: Option<Metrics>,
    /// Your mark, a string or a number; the answer repeats it.
    #[serde(rename = "ref")]
    reference: Option<Reference>,
}

/// A mark.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Reference {
    Text(String),
    Number(f64),
}

/// A sound file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct Recording(Vec<u8>);
