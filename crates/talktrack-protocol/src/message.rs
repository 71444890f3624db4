//! The `message` frame: how its fields become a message.

use serde_json::value::RawValue;
use talktrack_core::error::Invalid;
use talktrack_core::ids::SessionId;
use talktrack_core::json::InvalidJson;
use talktrack_core::{JsonArray, Kind, Message, MessageStatus, Role, Timestamp, TurnMetrics};

use crate::content::{ReadContent, SentContent};
use crate::extra::Extra;
use crate::fields::{FrameFields, missing_field, parse_object, parse_string, shown};
use crate::sent_role::SentRole;
use crate::tool_call;
use crate::warnings::Warnings;

/// A message without its session.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageFrame(Message);

impl MessageFrame {
    /// Returns the message with this session.
    pub fn in_session(self, session_id: SessionId) -> Message {
        self.0.with_session_id(session_id)
    }

    pub(crate) fn note_replaced_surrogates(&mut self) {
        self.0.note_replaced_surrogates();
    }

    /// Makes the message of a frame's fields. What talktrack has no column for is kept in `extra`, with a warning.
    pub(crate) fn from_fields(mut fields: FrameFields<'_>, warnings: &mut Warnings) -> Result<Self, Invalid> {
        fields.check_spelling(&OF_OTHER_FRAMES)?;
        let SentRole { role, translated_from } = fields.role.take().ok_or(missing_field("role"))?;
        if let Some(word) = translated_from {
            warnings.push(format_args!("role: {} is recorded as {role}", shown(&word)));
        }
        let content = fields.content.take().map_or_else(|| Ok(ReadContent::default()), SentContent::read)?;
        // The name of a tool belongs to its result.
        let name = parse_string("name", fields.name)?.filter(|_| role != Role::Tool);
        let metrics = parse_object("metrics", fields.metrics)?.map(TurnMetrics::try_from).transpose()?;
        let metadata = parse_object("metadata", fields.metadata)?;
        let tools = fields.read_tools(role)?;
        let status = fields.read_status();
        let extra = fields.collect_extra()?.finish(warnings)?;
        let kind = fields.kind.unwrap_or_else(|| tools.implied_kind(&content));
        let parts = join_parts(&content.parts, fields.parts, &tools.into_parts())?;
        let mut message = Message::new(SessionId::nil(), role, content.text)
            .with_id(fields.id)
            .with_created_at(fields.created_at.map(Timestamp::from))
            .with_kind(kind)
            .with_status(status.unwrap_or_default())
            .with_revision(fields.revision.unwrap_or(0))
            .with_interrupted(fields.interrupted.unwrap_or(false))
            .with_metadata(metadata)
            .with_parts(parts)
            .with_metrics(metrics);
        message.external_id = fields.external_id;
        message.name = name;
        message.audio_url = fields.audio_url;
        message.content_generated = fields.content_generated;
        message.extra = extra;
        Ok(Self(message))
    }
}

impl<'a> FrameFields<'a> {
    fn read_tools(&self, role: Role) -> Result<ToolFields, Invalid> {
        let mut calls = self.tool_calls.map_or_else(|| Ok(Vec::new()), tool_call::read_calls)?;
        calls.extend(self.function_call.map(tool_call::read_single_call).transpose()?);
        let answered = parse_string("tool_call_id", self.tool_call_id)?;
        let name = parse_string("name", self.name)?;
        Ok(ToolFields { calls, answered, tool: name.filter(|_| role == Role::Tool) })
    }

    /// Returns the values of [`OF_OTHER_FRAMES`].
    fn values_of_other_frames(&self) -> [Option<&'a RawValue>; 12] {
        [
            self.reason,
            self.resume,
            self.started_at,
            self.ended_at,
            self.status,
            self.token,
            self.agent,
            self.agent_version,
            self.channel,
            self.environment,
            self.parent_session_id,
            self.tags,
        ]
    }

    /// Takes the status, if it is one of talktrack's. Other tools use other words, which are kept in `extra`.
    fn read_status(&mut self) -> Option<MessageStatus> {
        let status = serde_json::from_str(self.status?.get()).ok()?;
        self.status = None;
        Some(status)
    }

    /// Takes the fields that a message has no column for.
    fn collect_extra(&mut self) -> Result<Extra<'a>, Invalid> {
        let mut extra = Extra::new(parse_object("extra", self.extra)?);
        for (field, value) in OF_OTHER_FRAMES.into_iter().zip(self.values_of_other_frames()) {
            if let Some(value) = value {
                extra.add(field.into(), value)?;
            }
        }
        for (name, value) in std::mem::take(&mut self.unknown) {
            extra.add(name, value)?;
        }
        Ok(extra)
    }
}

/// The fields that only other frames have. Tools use their names for other things.
const OF_OTHER_FRAMES: [&str; 12] = [
    "reason",
    "resume",
    "started_at",
    "ended_at",
    "status",
    "token",
    "agent",
    "agent_version",
    "channel",
    "environment",
    "parent_session_id",
    "tags",
];

/// What a message says of tools.
struct ToolFields {
    /// The JSON of each call.
    calls: Vec<String>,
    /// The id of the call that the message answers.
    answered: Option<String>,
    /// The tool that answers.
    tool: Option<String>,
}

impl ToolFields {
    /// Returns the kind of a message whose sender says nothing of its kind.
    fn implied_kind(&self, content: &ReadContent) -> Kind {
        if self.answered.is_some() || self.tool.is_some() {
            Kind::ToolResult
        } else if !self.calls.is_empty() && content.text.is_empty() {
            Kind::ToolCall
        } else {
            content.implied_kind.unwrap_or(Kind::Message)
        }
    }

    fn into_parts(self) -> Vec<String> {
        let mut parts = self.calls;
        if self.answered.is_some() || self.tool.is_some() {
            parts.push(tool_call::to_response(self.answered.as_deref(), self.tool.as_deref()));
        }
        parts
    }
}

/// Joins the parts of the content, those of `parts`, and those of the tools.
fn join_parts(
    content: &[String],
    given: Option<&RawValue>,
    tools: &[String],
) -> Result<Option<JsonArray>, Invalid> {
    let invalid = |error: InvalidJson| Invalid::new("parts", error.to_string());
    let given = given.map(|raw| JsonArray::parse(raw.get())).transpose().map_err(invalid)?;
    if content.is_empty() && tools.is_empty() {
        return Ok(given);
    }
    let given: Vec<&RawValue> = match &given {
        Some(given) => serde_json::from_str(given.as_str()).unwrap_or_default(),
        None => Vec::new(),
    };
    let given = given.into_iter().map(RawValue::get);
    let all: Vec<_> =
        content.iter().map(String::as_str).chain(given).chain(tools.iter().map(String::as_str)).collect();
    JsonArray::parse(&format!("[{}]", all.join(","))).map(Some).map_err(invalid)
}
