//! Frames from the server to the client.

#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use serde::ser::SerializeMap as _;
use serde::{Deserialize, Serialize, Serializer};
use talktrack_core::Timestamp;
use talktrack_core::ids::{MessageId, SessionId, UserId};

use super::reference::FrameRef;
use super::session_name::SessionName;

/// A frame that the server sends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ServerFrame {
    /// The session is durable, and messages may follow.
    SessionStarted {
        /// The session. The server has generated or derived the id if the client gave none.
        session_id: SessionId,
        /// The user that the session belongs to.
        user_id: UserId,
        /// True if the session existed before.
        resumed: bool,
        /// True if the session existed before, and the start changed nothing. Only for `session.start` frames.
        repeated: bool,
        /// The fields of a repeated start that differ from the session, each with what the session has.
        warnings: Vec<String>,
        /// The `ref` of the `session.start` frame.
        reference: Option<FrameRef>,
    },
    /// An update of the session is durable. Sent only for the lines of a request: on a connection, an update is answered only
    /// if it fails.
    SessionUpdated {
        /// The session.
        session_id: SessionId,
        /// The `ref` of the frame.
        reference: Option<FrameRef>,
    },
    /// Messages are durable. The server writes these frames with [`AckWriter`].
    Ack {
        /// The durable messages.
        acks: Vec<Ack>,
    },
    /// A frame was refused, and nothing of it is kept.
    Error {
        /// One of the error codes of the protocol.
        code: String,
        /// The reason in words, which begins with the field.
        message: String,
        /// The `ref` of the frame.
        reference: Option<FrameRef>,
        /// The session that the error is about, as the frame names it. Only where there are several sessions.
        session_id: Option<SessionName>,
    },
    /// The end of the session is durable.
    SessionEnded {
        /// The session that has ended.
        session_id: SessionId,
        /// The time from start to end in seconds.
        duration_seconds: f64,
        /// The number of messages in the session.
        message_count: u64,
        /// The `ref` of the frame that requested the end.
        reference: Option<FrameRef>,
    },
    /// The client's token or key expires soon.
    TokenExpiring {
        /// The token or key is no longer accepted from this time on.
        expires_at: Timestamp,
    },
    /// The answer to a ping.
    Pong {
        /// The `ref` of the ping.
        reference: Option<FrameRef>,
    },
}

/// One durable message.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Ack {
    /// The id of the message in the store.
    pub id: MessageId,
    /// The `ref` of the frame.
    #[serde(default, rename = "ref")]
    pub reference: Option<FrameRef>,
    /// The session of the message. Only where there are several sessions.
    #[serde(default)]
    pub session_id: Option<SessionId>,
    /// What the sender should know although the message is durable.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Why a text is not a frame of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidServerFrame {
    /// The text is not a JSON object, has no type, or has a field with a value that the field cannot have.
    #[error("{problem}")]
    Json {
        /// What is wrong, and where.
        problem: String,
    },
    /// This version does not know the type. Ignore the frame: later versions may add types.
    #[error("type: unknown: {frame_type}")]
    UnknownType {
        /// The type of the frame.
        frame_type: String,
    },
    /// A field is missing that frames of this type always have.
    #[error("{frame_type}: a field is missing")]
    MissingField {
        /// The type of the frame.
        frame_type: String,
    },
}

impl ServerFrame {
    /// Serializes the frame for the wire.
    pub fn to_text(&self) -> String {
        // Every part of a frame is serializable, so this cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Parses a frame.
    ///
    /// # Errors
    /// Says what is wrong with the frame. An unknown type is an error, too.
    pub fn parse(text: &str) -> Result<Self, InvalidServerFrame> {
        let fields: ServerFrameFields =
            serde_json::from_str(text).map_err(|error| explain_unread(text, &error))?;
        let frame_type = fields.frame_type.clone();
        let known = match frame_type.as_str() {
            "ack" => fields.acks.map(|acks| Self::Ack { acks }),
            "error" => fields.into_error(),
            "session.started" => fields.into_started(),
            "session.updated" => fields.into_updated(),
            "session.ended" => fields.into_ended(),
            "token.expiring" => fields.expires_at.map(|expires_at| Self::TokenExpiring { expires_at }),
            "pong" => Some(Self::Pong { reference: fields.reference }),
            _ => return Err(InvalidServerFrame::UnknownType { frame_type }),
        };
        known.ok_or(InvalidServerFrame::MissingField { frame_type })
    }
}

/// A frame of a later version may have a field of this version with another type.
fn explain_unread(text: &str, error: &serde_json::Error) -> InvalidServerFrame {
    #[derive(Serialize, Deserialize)]
    struct TypeField {
        r#type: String,
    }
    // A frame with its type alone tells whether the type is known.
    let alone = serde_json::from_str::<TypeField>(text).and_then(|field| serde_json::to_string(&field));
    match alone.map(|alone| ServerFrame::parse(&alone)) {
        Ok(Err(unknown @ InvalidServerFrame::UnknownType { .. })) => unknown,
        _ => InvalidServerFrame::Json { problem: error.to_string() },
    }
}

/// The fields of all frames.
#[derive(Deserialize)]
struct ServerFrameFields {
    #[serde(rename = "type")]
    frame_type: String,
    acks: Option<Vec<Ack>>,
    code: Option<String>,
    message: Option<String>,
    session_id: Option<SessionName>,
    user_id: Option<UserId>,
    resumed: Option<bool>,
    #[serde(default)]
    repeated: bool,
    #[serde(default)]
    warnings: Vec<String>,
    duration_seconds: Option<f64>,
    message_count: Option<u64>,
    expires_at: Option<Timestamp>,
    #[serde(default, rename = "ref")]
    reference: Option<FrameRef>,
}

impl ServerFrameFields {
    fn into_error(self) -> Option<ServerFrame> {
        let Self { code, message, reference, session_id, .. } = self;
        Some(ServerFrame::Error { code: code?, message: message?, reference, session_id })
    }

    fn into_started(self) -> Option<ServerFrame> {
        Some(ServerFrame::SessionStarted {
            session_id: self.session_id?.into_id()?,
            user_id: self.user_id?,
            resumed: self.resumed?,
            repeated: self.repeated,
            warnings: self.warnings,
            reference: self.reference,
        })
    }

    fn into_updated(self) -> Option<ServerFrame> {
        let session_id = self.session_id?.into_id()?;
        Some(ServerFrame::SessionUpdated { session_id, reference: self.reference })
    }

    fn into_ended(self) -> Option<ServerFrame> {
        Some(ServerFrame::SessionEnded {
            session_id: self.session_id?.into_id()?,
            duration_seconds: self.duration_seconds?,
            message_count: self.message_count?,
            reference: self.reference,
        })
    }
}

impl Serialize for ServerFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Self::SessionStarted { session_id, user_id, resumed, repeated, warnings, .. } => {
                map.serialize_entry("type", "session.started")?;
                map.serialize_entry("session_id", session_id)?;
                map.serialize_entry("user_id", user_id)?;
                map.serialize_entry("resumed", resumed)?;
                if *repeated {
                    map.serialize_entry("repeated", repeated)?;
                }
                if !warnings.is_empty() {
                    map.serialize_entry("warnings", warnings)?;
                }
            }
            Self::SessionUpdated { session_id, .. } => {
                map.serialize_entry("type", "session.updated")?;
                map.serialize_entry("session_id", session_id)?;
            }
            Self::Ack { acks } => {
                map.serialize_entry("type", "ack")?;
                map.serialize_entry("acks", acks)?;
            }
            Self::Error { code, message, session_id, .. } => {
                map.serialize_entry("type", "error")?;
                map.serialize_entry("code", code)?;
                map.serialize_entry("message", message)?;
                if let Some(session_id) = session_id {
                    map.serialize_entry("session_id", session_id)?;
                }
            }
            Self::SessionEnded { session_id, duration_seconds, message_count, .. } => {
                map.serialize_entry("type", "session.ended")?;
                map.serialize_entry("session_id", session_id)?;
                map.serialize_entry("duration_seconds", duration_seconds)?;
                map.serialize_entry("message_count", message_count)?;
            }
            Self::TokenExpiring { expires_at } => {
                map.serialize_entry("type", "token.expiring")?;
                map.serialize_entry("expires_at", expires_at)?;
            }
            Self::Pong { .. } => map.serialize_entry("type", "pong")?,
        }
        if let Some(reference) = self.reference() {
            map.serialize_entry("ref", reference)?;
        }
        map.end()
    }
}

impl ServerFrame {
    fn reference(&self) -> Option<&FrameRef> {
        match self {
            Self::Error { reference, .. }
            | Self::SessionStarted { reference, .. }
            | Self::SessionUpdated { reference, .. }
            | Self::SessionEnded { reference, .. }
            | Self::Pong { reference } => reference.as_ref(),
            Self::Ack { .. } | Self::TokenExpiring { .. } => None,
        }
    }
}

impl Ack {
    /// Creates the ack of a message.
    pub fn new(id: MessageId, reference: Option<FrameRef>) -> Self {
        Self { id, reference, session_id: None, warnings: Vec::new() }
    }

    /// Names the session of the message, where there are several.
    #[must_use]
    pub fn in_session(self, session_id: SessionId) -> Self {
        Self { session_id: Some(session_id), ..self }
    }

    /// Sets what the sender should know.
    #[must_use]
    pub fn with_warnings(self, warnings: Vec<String>) -> Self {
        Self { warnings, ..self }
    }
}

impl Serialize for Ack {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        if let Some(reference) = &self.reference {
            map.serialize_entry("ref", reference)?;
        }
        if let Some(session_id) = &self.session_id {
            map.serialize_entry("session_id", session_id)?;
        }
        if !self.warnings.is_empty() {
            map.serialize_entry("warnings", &self.warnings)?;
        }
        map.end()
    }
}

/// Writes an ack frame directly, because there is one for every few messages.
#[derive(Debug)]
pub struct AckWriter {
    text: String,
    count: usize,
}

impl AckWriter {
    /// Starts a frame with room for `expected` acks.
    pub fn new(expected: usize) -> Self {
        let mut text = String::with_capacity(32 + 72 * expected);
        text.push_str(r#"{"type":"ack","acks":["#);
        Self { text, count: 0 }
    }

    /// Adds a durable message. `session_id` is given only where there are several sessions.
    pub fn push(
        &mut self,
        id: MessageId,
        reference: Option<&FrameRef>,
        session_id: Option<SessionId>,
        warnings: &[String],
    ) {
        let comma = if self.count == 0 { "" } else { "," };
        self.count += 1;
        // Writing to a string cannot fail.
        let _ = write!(self.text, r#"{comma}{{"id":"{id}""#);
        if let Some(reference) = reference {
            let _ = write!(self.text, r#","ref":{}"#, reference.as_json());
        }
        if let Some(session_id) = session_id {
            let _ = write!(self.text, r#","session_id":"{session_id}""#);
        }
        if !warnings.is_empty() {
            let warnings = serde_json::to_string(warnings).unwrap_or_default();
            let _ = write!(self.text, r#","warnings":{warnings}"#);
        }
        self.text.push('}');
    }

    /// Returns the size of the frame so far in bytes.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Returns the frame; `None` if it contains no acks.
    pub fn finish(mut self) -> Option<String> {
        self.text.push_str("]}");
        (self.count > 0).then_some(self.text)
    }
}
