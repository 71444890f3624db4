//! The bodies of requests, for the description of the API. They are read by [`crate::wire`], by the rules of the frames of the
//! same fields; what is written here is what `/openapi.json` tells.

#![expect(dead_code, reason = "read as a description alone")]

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

/// A session that begins.
#[derive(ToSchema)]
pub(crate) struct SessionStart {
    /// Minted where it is left out.
    session_id: Option<Uuid>,
    /// Your own id; without `session_id`, that is derived from it.
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// Whose it is. With a user's token it may be left out.
    user_id: Option<Uuid>,
    /// Yours alone.
    metadata: Option<Map<String, Value>>,
    /// When it began; now where it is left out.
    #[schema(format = DateTime)]
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
    #[schema(format = DateTime)]
    ended_at: Option<String>,
}

/// One message, or several, which are answered in their order.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum NewMessages {
    One(Box<NewMessage>),
    Several(Vec<NewMessage>),
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
    id: Option<Uuid>,
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// When it was said; now where it is left out.
    #[schema(format = DateTime)]
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
    metrics: Option<Map<String, Value>>,
    /// Your mark, a string or a number; the answer repeats it.
    #[serde(rename = "ref")]
    reference: Option<Value>,
}

/// A sound file.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
pub(crate) struct Recording(Vec<u8>);
