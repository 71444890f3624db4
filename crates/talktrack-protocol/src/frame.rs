//! Frames from the client. A text is parsed in one pass. Only if that fails does a second, slower pass find the invalid
//! field.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use talktrack_core::error::Invalid;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::{JsonArray, JsonObject, Kind, Message, Role, Status, Timestamp, TurnMetrics, json};

use super::explain::{NOT_AN_OBJECT, explain, unread_frame};
use super::reference::{FrameRef, WireError};
use crate::secret::Secret;

/// A frame with the fields that every frame may have.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Frame {
    /// The contents of the frame.
    pub body: ClientFrame,
    /// Required in files, optional on a connection.
    pub session_id: Option<SessionId>,
    /// Given on the first line of a session in a file.
    pub user_id: Option<UserId>,
    /// Echoed in the answer.
    pub reference: Option<FrameRef>,
}

/// The contents of a frame by type.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// A message was said.
    Message(MessageFrame),
    /// A session starts. Only in files: a connection starts its session when it is opened.
    SessionStart(SessionStartFrame),
    /// Keys to merge into the session's metadata.
    SessionUpdate {
        /// The keys with their values.
        metadata: JsonObject,
    },
    /// The session ends.
    SessionEnd {
        /// The caller's reason.
        reason: Option<String>,
        /// When the session ended. Only in files.
        ended_at: Option<Timestamp>,
        /// `abandoned` if the session was never explicitly ended. Only in files.
        status: Option<Status>,
    },
    /// Renews the connection with this key or token.
    Auth {
        /// Never shown in logs or errors.
        token: Secret,
    },
    /// Requests a pong.
    Ping,
}

/// A message without its session.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageFrame(Message);

impl MessageFrame {
    /// Returns the message with this session.
    pub fn in_session(self, session_id: SessionId) -> Message {
        self.0.with_session_id(session_id)
    }
}

/// The first line of a session in a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionStartFrame {
    /// The caller's own id of the session.
    pub external_id: Option<String>,
    /// The caller's own metadata.
    pub metadata: Option<JsonObject>,
    /// When the session started.
    pub started_at: Option<Timestamp>,
}

impl Frame {
    /// Parses a frame.
    ///
    /// # Errors
    /// Says what is wrong, with the frame's `ref` if that is readable.
    pub fn parse(text: &str) -> Result<Self, WireError> {
        Self::parse_as(None, text)
    }

    /// Parses a frame whose type is known from the context and may be left out.
    ///
    /// # Errors
    /// As [`Self::parse`]; also fails if the frame names another type.
    pub fn parse_as(known: Option<&'static str>, text: &str) -> Result<Self, WireError> {
        let Some(clean) = json::replace_lone_surrogates(text) else {
            return Self::parse_clean(known, text, text);
        };
        let mut frame = Self::parse_clean(known, &clean, text)?;
        if let ClientFrame::Message(MessageFrame(message)) = &mut frame.body {
            message.note_replaced_surrogates();
        }
        Ok(frame)
    }

    /// Parses `text`, which is `sent` with lone surrogates replaced. All byte positions are the same in both.
    fn parse_clean(known: Option<&'static str>, text: &str, sent: &str) -> Result<Self, WireError> {
        if is_too_deep(text) {
            return Err(unread_frame(text, format!("nested deeper than {} levels", json::MAX_DEPTH)));
        }
        let fields: FrameFields<'_> = serde_json::from_str(text).map_err(|error| explain(text, &error))?;
        // serde would also accept an array as a struct and take its values as the fields in order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(WireError::json(NOT_AN_OBJECT));
        }
        // A `ref` is echoed exactly as it was sent, or refused.
        let as_sent = |raw: &RawValue| {
            let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
            FrameRef::from_json(&sent[start..start + raw.get().len()])
        };
        let reference = match fields.reference.map(as_sent) {
            Some(Err(problem)) => return Err(WireError::message(format!("ref: {problem}"), None)),
            Some(Ok(reference)) => Some(reference),
            None => None,
        };
        let session_id = fields.session_id;
        let user_id = fields.user_id.clone();
        match fields.into_body(known) {
            Ok(body) => Ok(Self { body, session_id, user_id, reference }),
            Err(invalid) => Err(WireError::message(invalid.to_string(), reference)),
        }
    }
}

/// The fields of all frames. `null` is the same as a missing field; unknown fields are ignored.
#[derive(Deserialize)]
struct FrameFields<'a> {
    #[serde(borrow, rename = "type")]
    frame_type: Option<Word<'a>>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
    session_id: Option<SessionId>,
    user_id: Option<UserId>,
    role: Option<Role>,
    content: Option<String>,
    id: Option<MessageId>,
    external_id: Option<String>,
    created_at: Option<Timestamp>,
    kind: Option<Kind>,
    revision: Option<u32>,
    interrupted: Option<bool>,
    audio_url: Option<String>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    content_generated: Option<String>,
    #[serde(borrow)]
    parts: Option<&'a RawValue>,
    #[serde(borrow)]
    metrics: Option<&'a RawValue>,
    reason: Option<String>,
    started_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    // A secret, so it is parsed only in `auth` frames.
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    // Messages of other protocols have a field with this name too, so it is parsed only in `session.end` frames.
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// Borrows from the text, which `Option<Cow<str>>` alone would not do.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

impl FrameFields<'_> {
    fn into_body(self, known: Option<&'static str>) -> Result<ClientFrame, Invalid> {
        let told = self.frame_type.as_ref().map(|Word(told)| told.as_ref());
        match told.or(known).ok_or(missing_field("type"))? {
            _ if known.is_some_and(|known| told.is_some_and(|told| told != known)) => {
                Err(Invalid::new("type", format!("must be {} here, or left out", known.unwrap_or_default())))
            }
            "message" => self.into_message().map(ClientFrame::Message),
            "ping" => Ok(ClientFrame::Ping),
            "auth" => self.parse_token().map(|token| ClientFrame::Auth { token }),
            "session.update" => match self.parse_object("metadata", self.metadata)? {
                Some(metadata) => Ok(ClientFrame::SessionUpdate { metadata }),
                None => Err(missing_field("metadata")),
            },
            "session.end" => {
                let status = self.parse_end_status()?;
                Ok(ClientFrame::SessionEnd { reason: self.reason, ended_at: self.ended_at, status })
            }
            "session.start" => Ok(ClientFrame::SessionStart(SessionStartFrame {
                metadata: self.parse_object("metadata", self.metadata)?,
                external_id: self.external_id,
                started_at: self.started_at,
            })),
            _ => Err(Invalid::new("type", "must be one of message session.update session.end auth ping")),
        }
    }

    fn into_message(self) -> Result<MessageFrame, Invalid> {
        let metadata = self.parse_object("metadata", self.metadata)?;
        let metrics = self.parse_object("metrics", self.metrics)?.map(TurnMetrics::try_from).transpose()?;
        let parts = self.parts.map(|raw| JsonArray::parse(raw.get())).transpose();
        let parts = parts.map_err(|error| Invalid::new("parts", error.to_string()))?;
        let role = self.role.ok_or(missing_field("role"))?;
        let content = self.content.ok_or(missing_field("content"))?;
        let mut message = Message::new(SessionId::nil(), role, content)
            .with_id(self.id)
            .with_created_at(self.created_at)
            .with_kind(self.kind.unwrap_or(Kind::Message))
            .with_revision(self.revision.unwrap_or(0))
            .with_interrupted(self.interrupted.unwrap_or(false))
            .with_metadata(metadata)
            .with_parts(parts)
            .with_metrics(metrics);
        message.external_id = self.external_id;
        message.audio_url = self.audio_url;
        message.content_generated = self.content_generated;
        Ok(MessageFrame(message))
    }

    fn parse_token(&self) -> Result<Secret, Invalid> {
        let raw = self.token.ok_or(missing_field("token"))?;
        let token = serde_json::from_str::<String>(raw.get());
        // The error does not repeat the value, because it may be a secret.
        token.map(|token| token.trim().into()).map_err(|_| Invalid::new("token", "must be a string"))
    }

    fn parse_end_status(&self) -> Result<Option<Status>, Invalid> {
        match self.status.map(|raw| serde_json::from_str(raw.get())) {
            None => Ok(None),
            Some(Ok(status @ (Status::Ended | Status::Abandoned))) => Ok(Some(status)),
            Some(_) => Err(Invalid::new("status", "must be one of ended abandoned")),
        }
    }

    fn parse_object(
        &self,
        field: &'static str,
        raw: Option<&RawValue>,
    ) -> Result<Option<JsonObject>, Invalid> {
        let object = raw.map(|raw| JsonObject::parse(raw.get())).transpose();
        object.map_err(|error| Invalid::new(field, error.to_string()))
    }
}

fn missing_field(field: &'static str) -> Invalid {
    Invalid::new(field, "missing")
}

/// True if the JSON is nested too deeply. Counting brackets decides this for nearly every frame and is much cheaper
/// than measuring the depth.
fn is_too_deep(text: &str) -> bool {
    let opening = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    opening > json::MAX_DEPTH && json::depth(text) > json::MAX_DEPTH
}
