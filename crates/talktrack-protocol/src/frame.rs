//! Frames from the client. A text is parsed in one pass. Only if that fails does a second, slower pass find the invalid
//! field.

#[cfg(test)]
mod tests;

use serde_json::value::RawValue;
use talktrack_core::error::Invalid;
use talktrack_core::ids::UserId;
use talktrack_core::{Dimensions, JsonObject, Status, Timestamp, json};

use crate::borrowed::Word;
use crate::dimensions;
use crate::explain::{explain, unread_frame};
use crate::fields::{FrameFields, missing_field, parse_bool, parse_object, parse_string, parse_time};
use crate::message::MessageFrame;
use crate::reference::{FrameRef, WireError};
use crate::secret::Secret;
use crate::session_name::SessionName;
use crate::warnings::Warnings;

/// A frame with the fields that every frame may have.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Frame {
    /// The contents of the frame.
    pub body: ClientFrame,
    /// Required in files and on a feed, optional on the connection of one session.
    pub session_id: Option<SessionName>,
    /// Given on the first line of a session in a file.
    pub user_id: Option<UserId>,
    /// Echoed in the answer.
    pub reference: Option<FrameRef>,
    /// What the sender should know.
    pub warnings: Warnings,
}

/// The contents of a frame by type.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientFrame {
    /// A message was said.
    Message(MessageFrame),
    /// A session starts. Only in files and on a feed: any other connection starts its session when it is opened.
    SessionStart(SessionStartFrame),
    /// A session changes.
    SessionUpdate(SessionUpdateFrame),
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

/// The first line of a session in a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SessionStartFrame {
    /// The caller's own id of the session.
    pub external_id: Option<String>,
    /// The caller's own metadata.
    pub metadata: Option<JsonObject>,
    /// What sessions are filtered and grouped by.
    pub dimensions: Dimensions,
    /// When the session started.
    pub started_at: Option<Timestamp>,
    /// True if the session continues even if it has ended.
    pub resume: bool,
}

/// Changes of a session.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct SessionUpdateFrame {
    /// Keys to merge into the session's metadata. A key with the value `null` is removed.
    pub metadata: Option<JsonObject>,
    /// The dimensions to change.
    pub dimensions: Dimensions,
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
        if let ClientFrame::Message(message) = &mut frame.body {
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
        // A `ref` is echoed exactly as it was sent, or refused.
        let as_sent = |raw: &RawValue| {
            let start = raw.get().as_ptr().addr() - text.as_ptr().addr();
            FrameRef::from_json(&sent[start..start + raw.get().len()])
        };
        let reference = match fields.reference.map(as_sent) {
            Some(Err(problem)) => {
                return Err(WireError::message(format!("ref: {problem}"), None, fields.session_id));
            }
            Some(Ok(reference)) => Some(reference),
            None => None,
        };
        let session_id = fields.session_id.clone();
        let user_id = fields.user_id.clone();
        let mut warnings = Warnings::default();
        match fields.into_body(known, &mut warnings) {
            Ok(body) => Ok(Self { body, session_id, user_id, reference, warnings }),
            Err(invalid) => Err(WireError::message(invalid.to_string(), reference, session_id)),
        }
    }
}

impl FrameFields<'_> {
    fn into_body(self, known: Option<&'static str>, warnings: &mut Warnings) -> Result<ClientFrame, Invalid> {
        let told = self.frame_type.as_ref().map(|Word(told)| told.as_ref());
        match told.or(known).ok_or(missing_field("type"))? {
            _ if known.is_some_and(|known| told.is_some_and(|told| told != known)) => {
                Err(Invalid::new("type", format!("must be {} here, or left out", known.unwrap_or_default())))
            }
            "message" => MessageFrame::from_fields(self, warnings).map(ClientFrame::Message),
            "ping" => Ok(ClientFrame::Ping),
            "auth" => self.parse_token().map(|token| ClientFrame::Auth { token }),
            "session.update" => self.into_update(),
            "session.end" => self.into_end(),
            "session.start" => self.into_start(),
            _ => Err(Invalid::new("type", "must be one of message session.update session.end auth ping")),
        }
    }

    fn into_start(self) -> Result<ClientFrame, Invalid> {
        let own = [&["external_id", "metadata", "started_at", "resume"][..], &dimensions::NAMES].concat();
        self.check_only("session.start", &own)?;
        Ok(ClientFrame::SessionStart(SessionStartFrame {
            metadata: parse_object("metadata", self.metadata)?,
            started_at: parse_time("started_at", self.started_at)?,
            resume: parse_bool("resume", self.resume)?.unwrap_or(false),
            dimensions: self.parse_dimensions()?,
            external_id: self.external_id,
        }))
    }

    fn into_update(self) -> Result<ClientFrame, Invalid> {
        self.check_only("session.update", &[&["metadata"][..], &dimensions::NAMES].concat())?;
        let dimensions = self.parse_dimensions()?;
        let metadata = parse_object("metadata", self.metadata)?;
        if metadata.is_none() && dimensions.is_empty() {
            return Err(missing_field("metadata"));
        }
        Ok(ClientFrame::SessionUpdate(SessionUpdateFrame { metadata, dimensions }))
    }

    fn into_end(self) -> Result<ClientFrame, Invalid> {
        self.check_only("session.end", &["reason", "ended_at", "status"])?;
        let reason = parse_string("reason", self.reason)?;
        let ended_at = parse_time("ended_at", self.ended_at)?;
        let status = match self.status.map(|raw| serde_json::from_str(raw.get())) {
            None => None,
            Some(Ok(status @ (Status::Ended | Status::Abandoned))) => Some(status),
            Some(_) => return Err(Invalid::new("status", "must be one of ended abandoned")),
        };
        Ok(ClientFrame::SessionEnd { reason, ended_at, status })
    }

    fn parse_token(&self) -> Result<Secret, Invalid> {
        // The error does not repeat the value, because it may be a secret.
        let token = parse_string("token", self.token)?.ok_or(missing_field("token"))?;
        Ok(token.trim().into())
    }
}

/// True if the JSON is nested too deeply. Counting brackets decides this for nearly every frame and is much cheaper
/// than measuring the depth.
fn is_too_deep(text: &str) -> bool {
    let opening = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    opening > json::MAX_DEPTH && json::depth(text) > json::MAX_DEPTH
}
