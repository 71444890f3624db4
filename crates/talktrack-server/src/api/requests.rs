//! The bodies of requests, as `/openapi.json` describes them. The types here only describe: [`crate::wire`] parses the
//! bodies, by the same rules as the frames with the same fields.

#![expect(dead_code, reason = "read as a description alone")]

mod sent_time;

use serde::Deserialize;
use serde_json::{Map, Value};
use talktrack::{MessageId, SessionId, UserId};
use utoipa::ToSchema;

use sent_time::SentTime;

/// A session to start or to resume.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionStart {
    /// Defaults to an id that the server derives from `external_id`, or generates.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    session_id: Option<SessionId>,
    /// Your own id of the session. Without `session_id`, the server derives the session's id from it.
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// The user of the session. A user's token names the user. Without it, a session that a key starts is a guest's.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
    /// Your own data; the server stores it as it is.
    metadata: Option<Map<String, Value>>,
    /// The name of the agent.
    #[schema(min_length = 1, max_length = 256)]
    agent: Option<String>,
    #[schema(min_length = 1, max_length = 256)]
    agent_version: Option<String>,
    /// How the user talks to the agent, such as `phone` or `web`.
    #[schema(min_length = 1, max_length = 256)]
    channel: Option<String>,
    /// The environment in which the agent runs, such as `production`.
    #[schema(min_length = 1, max_length = 256)]
    environment: Option<String>,
    /// The session from which this one was transferred.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    parent_session_id: Option<SessionId>,
    /// At most 32 tags.
    #[schema(max_items = 32)]
    tags: Option<Vec<Tag>>,
    /// When the session began. Defaults to now.
    started_at: Option<SentTime>,
    /// `true` to continue the session even if it exists and has ended. By default, a start of a session that exists changes nothing.
    resume: Option<bool>,
}

/// Changes of a session: of its metadata, its tags or its other dimensions. At least one field is needed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionUpdate {
    /// The keys to add or to replace. A key with the value `null` is removed.
    metadata: Option<Map<String, Value>>,
    /// The name of the agent.
    #[schema(min_length = 1, max_length = 256)]
    agent: Option<String>,
    #[schema(min_length = 1, max_length = 256)]
    agent_version: Option<String>,
    /// How the user talks to the agent, such as `phone` or `web`.
    #[schema(min_length = 1, max_length = 256)]
    channel: Option<String>,
    /// The environment in which the agent runs, such as `production`.
    #[schema(min_length = 1, max_length = 256)]
    environment: Option<String>,
    /// The session from which this one was transferred.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    parent_session_id: Option<SessionId>,
    /// At most 32 tags, which replace all earlier ones.
    #[schema(max_items = 32)]
    tags: Option<Vec<Tag>>,
}

/// A tag of 1 to 64 bytes.
#[derive(Deserialize, ToSchema)]
#[schema(min_length = 1, max_length = 64)]
pub(crate) struct Tag(String);

/// The end of a session.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SessionEnd {
    /// The reason, in your own word. Defaults to `completed`.
    #[schema(min_length = 1, max_length = 256)]
    reason: Option<String>,
    /// When the session ended. Defaults to now.
    ended_at: Option<SentTime>,
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

/// Frames of sessions, one JSON object a line: `session.start`, `message`, `session.update` and `session.end`, as in files.
#[derive(ToSchema)]
#[schema(value_type = String, example = "{\"type\":\"message\",\"session_id\":\"external:call-7\",\"role\":\"user\",\"content\":\"Hello\"}")]
pub(crate) struct FrameLines(String);
/// All messages that the session is to have, in the order in which they were said, at most 1,000.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ReplacementMessages(Vec<NewMessage>);

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

/// A message to add. Its fields are those of the `message` frame. Other fields are kept in `extra`, with a warning.
#[derive(Deserialize, ToSchema)]
pub(crate) struct NewMessage {
    /// `user`, `assistant`, `system`, `developer` or `tool`. The words `agent`, `ai`, `bot`, `model`, `human` and `function` of other
    /// tools, and other cases, are translated, with a warning.
    #[schema(pattern = "^(user|assistant|system|developer|tool|agent|ai|bot|model|human|function)$")]
    role: String,
    /// What was said and heard. It may be empty. An array of parts, as chat APIs have it, is read: its texts become the content.
    content: Option<SentContent>,
    /// The idempotency key. Defaults to an id that the server derives from `external_id`, or generates.
    #[schema(value_type = Option<String>, format = Uuid, min_length = 36, max_length = 36)]
    id: Option<MessageId>,
    #[schema(min_length = 1, max_length = 256)]
    external_id: Option<String>,
    /// When the message was said. Defaults to now.
    created_at: Option<SentTime>,
    #[schema(pattern = "^(message|tool_call|tool_result|event|handoff)$")]
    kind: Option<String>,
    /// `in_progress` while the message is still being said; `final`, the default; or `discarded`: it was never said. A revision changes
    /// it, and the end of the session makes a message final that is in progress. Any other value is kept in `extra`, with a warning.
    status: Option<Value>,
    /// A message with a higher revision replaces the stored message with the same id. Defaults to 0.
    #[schema(minimum = 0, maximum = 2147483647)]
    revision: Option<i32>,
    interrupted: Option<bool>,
    content_generated: Option<String>,
    audio_url: Option<String>,
    metadata: Option<Map<String, Value>>,
    parts: Option<Vec<Value>>,
    metrics: Option<Metrics>,
    /// Your own fields, at most 64 KiB. They do not count when two messages with the same id are compared.
    extra: Option<Map<String, Value>>,
    /// The tool calls of an assistant's message, as chat APIs have them. They become parts.
    tool_calls: Option<Vec<Map<String, Value>>>,
    /// The same for a single call, in the older shape.
    function_call: Option<Map<String, Value>>,
    /// The id of the tool call that a `tool` message answers. It becomes a part.
    tool_call_id: Option<String>,
    /// Who spoke: the name of the agent or of the participant. On a `tool` message, the name of the tool; it becomes a part.
    #[schema(max_length = 256)]
    name: Option<String>,
    /// Your own reference, a string or a number. The answer repeats it.
    #[serde(rename = "ref")]
    reference: Option<Reference>,
}

/// A content: a text, or the array of parts that chat APIs have.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum SentContent {
    Text(String),
    Parts(Vec<ContentPart>),
}

/// A part of a content: a text, or an object such as `{"type": "text", "text": "Hello"}`.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum ContentPart {
    Text(String),
    Other(Map<String, Value>),
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
