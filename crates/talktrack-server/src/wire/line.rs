//! Into a file, or from our own client: frames as they are written. What is not there, or is as always, is left out.

use serde::Serialize;
use talktrack::record::{Body, Record};
use talktrack::store::{MessageRow, SessionRow};
use talktrack::{JsonArray, JsonObject, Kind, Message, Role, Status, Timestamp};
use uuid::Uuid;

use super::reference::FrameRef;

/// A frame for what was once accepted, as it was.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum RecordLine<'a> {
    Start(StartLine<'a>),
    Update(UpdateLine<'a>),
    End(EndLine<'a>),
    Message(Box<MessageLine<'a>>),
}

impl<'a> RecordLine<'a> {
    /// `None` for a sign of life and a deletion, which nobody tells in a frame.
    pub(crate) fn of(record: &'a Record) -> Option<Self> {
        Some(match &record.body {
            Body::Start(start) => Self::Start(StartLine {
                session_id: start.session_id,
                user_id: start.user_id,
                external_id: start.external_id.as_deref(),
                started_at: start.started_at,
                metadata: start.metadata.as_ref(),
            }),
            Body::Update(update) => {
                Self::Update(UpdateLine { session_id: update.session_id, metadata: &update.metadata })
            }
            Body::End(end) => Self::End(EndLine {
                session_id: end.session_id,
                reason: Some(&end.reason),
                ended_at: end.ended_at,
                status: (end.status == Status::Abandoned).then_some(end.status),
            }),
            Body::Message(stamped) => Self::Message(Box::new(MessageLine {
                session_id: Some(stamped.message.session_id),
                id: Some(stamped.id),
                created_at: Some(stamped.created_at),
                ..MessageLine::of_message(&stamped.message, None)
            })),
            Body::Alive(_) | Body::Delete(_) => return None,
        })
    }
}

/// A `message` frame.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "message")]
pub(crate) struct MessageLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Uuid>,
    role: Role,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    #[serde(skip_serializing_if = "is_plain")]
    kind: Kind,
    #[serde(skip_serializing_if = "is_first")]
    revision: u32,
    #[serde(skip_serializing_if = "is_false")]
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_generated: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a JsonObject>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<&'a JsonArray>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<&'a JsonObject>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a FrameRef>,
}

impl<'a> MessageLine<'a> {
    /// A stored message, for a file.
    pub(crate) fn of_row(row: &'a MessageRow) -> Self {
        Self {
            session_id: Some(row.session_id),
            id: Some(row.id),
            role: row.role,
            content: &row.content,
            created_at: Some(row.created_at),
            external_id: row.external_id.as_deref(),
            kind: row.kind,
            revision: row.revision,
            interrupted: row.interrupted,
            audio_url: row.audio_url.as_deref(),
            content_generated: row.content_generated.as_deref(),
            metadata: row.metadata.as_ref(),
            parts: row.parts.as_ref(),
            metrics: row.metrics.as_ref(),
            reference: None,
        }
    }

    /// A message to be sent over a connection, which knows the session by itself.
    pub(crate) fn of_message(message: &'a Message, reference: Option<&'a FrameRef>) -> Self {
        Self {
            session_id: None,
            id: message.id,
            role: message.role,
            content: &message.content,
            created_at: message.created_at,
            external_id: message.external_id.as_deref(),
            kind: message.kind,
            revision: message.revision,
            interrupted: message.interrupted,
            audio_url: message.audio_url.as_deref(),
            content_generated: message.content_generated.as_deref(),
            metadata: message.metadata.as_ref(),
            parts: message.parts.as_ref(),
            metrics: message.metrics.as_ref().map(talktrack::TurnMetrics::as_json),
            reference,
        }
    }
}

/// A `session.start` frame: the first line of a session in a file.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "session.start")]
pub(crate) struct StartLine<'a> {
    session_id: Uuid,
    user_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    started_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a JsonObject>,
}

impl<'a> StartLine<'a> {
    /// The start of a stored session.
    pub(crate) fn of_row(row: &'a SessionRow) -> Self {
        Self {
            session_id: row.session_id,
            user_id: row.user_id,
            external_id: row.external_id.as_deref(),
            started_at: row.started_at,
            metadata: row.metadata.as_ref(),
        }
    }
}

/// A `session.update` frame.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "session.update")]
pub(crate) struct UpdateLine<'a> {
    session_id: Uuid,
    metadata: &'a JsonObject,
}

/// A `session.end` frame: the last line of a session that has ended.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "session.end")]
pub(crate) struct EndLine<'a> {
    session_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    ended_at: Timestamp,
    /// Said of sessions that nobody ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl<'a> EndLine<'a> {
    /// The end of a stored session, where it has one.
    pub(crate) fn of_row(row: &'a SessionRow) -> Option<Self> {
        let ended_at = row.ended_at?;
        let status = (row.status == Status::Abandoned).then_some(row.status);
        Some(Self { session_id: row.session_id, reason: row.end_reason.as_deref(), ended_at, status })
    }
}

fn is_plain(kind: &Kind) -> bool {
    *kind == Kind::Message
}

fn is_first(revision: &u32) -> bool {
    *revision == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::super::{ClientFrame, Frame};
    use super::*;

    #[test]
    fn what_is_written_reads_back_as_the_same_message() {
        let mut message = Message::new(Uuid::from_u128(9), Role::Assistant, "Hello \"you\"\n");
        let reference = FrameRef::number(1);
        let text = serde_json::to_string(&MessageLine::of_message(&message, Some(&reference))).unwrap();
        assert_eq!(text, r#"{"type":"message","role":"assistant","content":"Hello \"you\"\n","ref":1}"#);

        message.id = Some(Uuid::from_u128(5));
        message.created_at = Timestamp::from_micros(1_700_000_000_000_001);
        (message.kind, message.revision, message.interrupted) = (Kind::ToolCall, 3, true);
        message.metadata = Some(JsonObject::parse(r#"{"a":[1.0]}"#).unwrap());
        let text = serde_json::to_string(&MessageLine::of_message(&message, None)).unwrap();
        let ClientFrame::Message(back) = Frame::parse(&text).unwrap().body else {
            panic!("not a message: {text}")
        };
        assert_eq!(back.in_session(message.session_id), message);
    }
}
