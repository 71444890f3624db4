//! Frames that this program writes to a file or sends as a client. Missing values and defaults are left out.

use std::borrow::Cow;

use serde::Serialize;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{Body, Record};
use talktrack_core::store::{MessageRow, SessionRow};
use talktrack_core::{
    Dimensions, JsonArray, JsonObject, Kind, Message, MessageStatus, Role, Status, Stored, StoredTime,
};

use super::reference::FrameRef;

/// The frame that describes a record as it was accepted.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum RecordLine<'a> {
    /// A session starts.
    Start(StartLine<'a>),
    /// The metadata of a session change.
    Update(UpdateLine<'a>),
    /// A session ends.
    End(EndLine<'a>),
    /// A message was said.
    Message(Box<MessageLine<'a>>),
}

impl<'a> RecordLine<'a> {
    /// Returns the frame for a record; `None` for a heartbeat or a deletion, which have no frame.
    pub fn from_record(record: &'a Record) -> Option<Self> {
        Some(match &record.body {
            Body::Start(start) => Self::Start(StartLine {
                session_id: start.session_id,
                user_id: Some(&start.user_id),
                external_id: start.external_id.as_deref(),
                started_at: start.started_at.into(),
                dimensions: &start.dimensions,
                metadata: start.metadata.as_ref().map(JsonSource::Given),
            }),
            Body::Update(update) => Self::Update(UpdateLine {
                session_id: update.session_id,
                dimensions: &update.dimensions,
                metadata: &update.metadata,
            }),
            Body::End(end) => Self::End(EndLine {
                session_id: end.session_id,
                reason: Some(&end.reason),
                ended_at: end.ended_at.into(),
                status: (end.status == Status::Abandoned).then_some(end.status),
            }),
            Body::Message(stamped) => Self::Message(Box::new(MessageLine {
                session_id: Some(stamped.message.session_id),
                id: Some(stamped.id),
                created_at: Some(stamped.created_at.into()),
                ..MessageLine::from_message(&stamped.message, None)
            })),
            Body::Heartbeat(_) | Body::EditMessages(_) | Body::Delete(_) | Body::DeleteUser(_) => {
                return None;
            }
        })
    }
}

/// JSON in a frame: from a caller, or as stored.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum JsonSource<'a, T: Serialize> {
    Given(&'a T),
    Stored(&'a Stored<T>),
}

/// A `message` frame.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "message")]
pub struct MessageLine<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<SessionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<MessageId>,
    role: Cow<'a, Stored<Role>>,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<StoredTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "is_plain")]
    kind: Cow<'a, Stored<Kind>>,
    #[serde(skip_serializing_if = "is_final")]
    status: Cow<'a, Stored<MessageStatus>>,
    #[serde(skip_serializing_if = "is_first")]
    revision: i64,
    #[serde(skip_serializing_if = "is_false")]
    interrupted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    audio_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_generated: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<JsonSource<'a, JsonObject>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<JsonSource<'a, JsonArray>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<JsonSource<'a, JsonObject>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extra: Option<JsonSource<'a, JsonObject>>,
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a FrameRef>,
}

impl<'a> MessageLine<'a> {
    /// Makes the frame of a stored message, for a file.
    pub fn from_row(row: &'a MessageRow) -> Self {
        Self {
            session_id: Some(row.session_id),
            id: Some(row.id),
            role: Cow::Borrowed(&row.role),
            content: &row.content,
            created_at: Some(row.created_at.clone()),
            external_id: row.external_id.as_deref(),
            name: row.name.as_deref(),
            kind: Cow::Borrowed(&row.kind),
            status: Cow::Borrowed(&row.status),
            revision: row.revision,
            interrupted: row.interrupted,
            audio_url: row.audio_url.as_deref(),
            content_generated: row.content_generated.as_deref(),
            metadata: row.metadata.as_ref().map(JsonSource::Stored),
            parts: row.parts.as_ref().map(JsonSource::Stored),
            metrics: row.metrics.as_ref().map(JsonSource::Stored),
            extra: row.extra.as_ref().map(JsonSource::Stored),
            reference: None,
        }
    }

    /// Makes the frame of a message to send over a connection, which implies the session.
    pub fn from_message(message: &'a Message, reference: Option<&'a FrameRef>) -> Self {
        Self {
            session_id: None,
            id: message.id,
            role: Cow::Owned(message.role.into()),
            content: &message.content,
            created_at: message.created_at.map(StoredTime::Known),
            external_id: message.external_id.as_deref(),
            name: message.name.as_deref(),
            kind: Cow::Owned(message.kind.into()),
            status: Cow::Owned(message.status.into()),
            revision: message.revision.into(),
            interrupted: message.interrupted,
            audio_url: message.audio_url.as_deref(),
            content_generated: message.content_generated.as_deref(),
            metadata: message.metadata.as_ref().map(JsonSource::Given),
            parts: message.parts.as_ref().map(JsonSource::Given),
            metrics: message.metrics.as_ref().map(|metrics| JsonSource::Given(metrics.as_json())),
            extra: message.extra.as_ref().map(JsonSource::Given),
            reference,
        }
    }
}

/// A `session.start` frame: the first line of a session in a file.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "session.start")]
pub struct StartLine<'a> {
    session_id: SessionId,
    user_id: Option<&'a UserId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'a str>,
    started_at: StoredTime,
    #[serde(flatten)]
    dimensions: &'a Dimensions,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<JsonSource<'a, JsonObject>>,
}

impl<'a> StartLine<'a> {
    /// Makes the start frame of a stored session.
    pub fn from_row(row: &'a SessionRow) -> Self {
        Self {
            session_id: row.session_id,
            user_id: row.user_id.as_ref(),
            external_id: row.external_id.as_deref(),
            started_at: row.started_at.clone(),
            dimensions: &row.dimensions,
            metadata: row.metadata.as_ref().map(JsonSource::Stored),
        }
    }
}

/// A `session.update` frame.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "session.update")]
pub struct UpdateLine<'a> {
    session_id: SessionId,
    #[serde(flatten)]
    dimensions: &'a Dimensions,
    metadata: &'a JsonObject,
}

/// A `session.end` frame: the last line of a session that has ended.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "session.end")]
pub struct EndLine<'a> {
    session_id: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    ended_at: StoredTime,
    /// Set only for abandoned sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

impl<'a> EndLine<'a> {
    /// Makes the end frame of a stored session; `None` if the session has not ended.
    pub fn from_row(row: &'a SessionRow) -> Option<Self> {
        let ended_at = row.ended_at.clone()?;
        let status = (row.status == Status::Abandoned).then_some(Status::Abandoned);
        Some(Self { session_id: row.session_id, reason: row.end_reason.as_deref(), ended_at, status })
    }
}

fn is_plain(kind: &Stored<Kind>) -> bool {
    *kind == Kind::Message
}

fn is_final(status: &Stored<MessageStatus>) -> bool {
    *status == MessageStatus::Final
}

fn is_first(revision: &i64) -> bool {
    *revision == 0
}

fn is_false(value: &bool) -> bool {
    !*value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{ClientFrame, Frame};

    #[test]
    fn what_is_written_reads_back_as_the_same_message() {
        let mut message = Message::new(SessionId::from_u128(9), Role::Assistant, "Hello \"you\"\n");
        let reference = FrameRef::number(1);
        let text = serde_json::to_string(&MessageLine::from_message(&message, Some(&reference))).unwrap();
        assert_eq!(text, r#"{"type":"message","role":"assistant","content":"Hello \"you\"\n","ref":1}"#);

        message.id = Some(MessageId::from_u128(5));
        message.created_at = talktrack_core::Timestamp::from_micros(1_700_000_000_000_001);
        (message.kind, message.revision, message.interrupted) = (Kind::ToolCall, 3, true);
        (message.status, message.name) = (MessageStatus::InProgress, Some("Front desk".to_owned()));
        message.metadata = Some(JsonObject::parse(r#"{"a":[1.0]}"#).unwrap());
        let text = serde_json::to_string(&MessageLine::from_message(&message, None)).unwrap();
        let ClientFrame::Message(back) = Frame::parse(&text).unwrap().body else {
            panic!("not a message: {text}")
        };
        assert_eq!(back.in_session(message.session_id), message);
    }
}
