//! From the client: a text becomes a frame in one pass. Only where that fails does a second, slower pass find the field to
//! blame.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use talktrack::error::Invalid;
use talktrack::{JsonArray, JsonObject, Kind, Message, Role, Status, Timestamp, TurnMetrics, json};
use uuid::Uuid;

use super::explain::{NOT_AN_OBJECT, explain, unread};
use super::reference::{FrameRef, WireError};

/// A longer reason is refused: it stands in a column that people read.
const MAX_REASON_BYTES: usize = 256;

/// One frame and what can stand on every one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    /// What it says.
    pub(crate) body: ClientFrame,
    /// Needed in files; on a connection it may be left out.
    pub(crate) session_id: Option<Uuid>,
    /// Stands on the first line of a session in a file.
    pub(crate) user_id: Option<Uuid>,
    /// To be echoed in the answer.
    pub(crate) reference: Option<FrameRef>,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ClientFrame {
    /// Something was said.
    Message(MessageFrame),
    /// A session begins. In files only: a connection starts its session by being made.
    SessionStart(SessionStartFrame),
    /// Keys to be merged into the session's metadata.
    SessionUpdate {
        /// The keys.
        metadata: JsonObject,
    },
    /// The session ends.
    SessionEnd {
        /// The caller's word for why.
        reason: Option<String>,
        /// When. In files only.
        ended_at: Option<Timestamp>,
        /// That nobody ended it, where it was abandoned. In files only.
        status: Option<Status>,
    },
    /// Asks for a pong.
    Ping,
}

/// A message that does not know its session yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MessageFrame(Message);

impl MessageFrame {
    /// The message, in this session.
    pub(crate) fn in_session(self, session_id: Uuid) -> Message {
        Message { session_id, ..self.0 }
    }
}

/// The first line of a session in a file.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionStartFrame {
    /// The caller's own id.
    pub(crate) external_id: Option<String>,
    /// The caller's own remarks.
    pub(crate) metadata: Option<JsonObject>,
    /// When it began.
    pub(crate) started_at: Option<Timestamp>,
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// Names what is wrong, with the frame's `ref` where that could be read.
    pub(crate) fn parse(text: &str) -> Result<Self, WireError> {
        Self::parse_as(None, text)
    }

    /// Reads a frame whose type is known from where it came, and may be left out in it.
    ///
    /// # Errors
    /// As [`Self::parse`]; and where it says that it is of another type.
    pub(crate) fn parse_as(known: Option<&'static str>, text: &str) -> Result<Self, WireError> {
        if is_too_deep(text) {
            return Err(unread(text, format!("nested deeper than {} levels", json::MAX_DEPTH)));
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| explain(text, &error))?;
        // serde takes an array for an object, its values for the fields in their order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(WireError::json(NOT_AN_OBJECT));
        }
        let reference = match fields.reference.map(|raw| FrameRef::from_json(raw.get())) {
            Some(Err(problem)) => return Err(WireError::message(format!("ref: {problem}"), None)),
            Some(Ok(reference)) => Some(reference),
            None => None,
        };
        let (session_id, user_id) = (fields.session_id, fields.user_id);
        match fields.body(known) {
            Ok(body) => Ok(Self { body, session_id, user_id, reference }),
            Err(invalid) => Err(WireError::message(invalid.to_string(), reference)),
        }
    }
}

/// Every field of every frame, as it comes: `null` is as good as left out, unknown fields are passed over.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    frame_type: Option<Word<'a>>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
    session_id: Option<Uuid>,
    user_id: Option<Uuid>,
    role: Option<Role>,
    content: Option<String>,
    id: Option<Uuid>,
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
    // Other protocols' messages have a field of this name too: looked at only where it is ours.
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

/// Borrows from the text, which `Option<Cow<str>>` alone would not.
#[derive(Deserialize)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

impl Fields<'_> {
    fn body(self, known: Option<&'static str>) -> Result<ClientFrame, Invalid> {
        let told = self.frame_type.as_ref().map(|Word(told)| told.as_ref());
        match told.or(known).ok_or(missing("type"))? {
            _ if known.is_some_and(|known| told.is_some_and(|told| told != known)) => {
                Err(Invalid::new("type", format!("must be {} here, or left out", known.unwrap_or_default())))
            }
            "message" => self.message().map(ClientFrame::Message),
            "ping" => Ok(ClientFrame::Ping),
            "session.update" => match self.object("metadata", self.metadata)? {
                Some(metadata) => Ok(ClientFrame::SessionUpdate { metadata }),
                None => Err(missing("metadata")),
            },
            "session.end" => {
                let status = self.end_status()?;
                Ok(ClientFrame::SessionEnd { reason: self.reason, ended_at: self.ended_at, status })
            }
            "session.start" => Ok(ClientFrame::SessionStart(SessionStartFrame {
                metadata: self.object("metadata", self.metadata)?,
                external_id: self.external_id,
                started_at: self.started_at,
            })),
            _ => Err(Invalid::new("type", "must be one of message session.update session.end ping")),
        }
    }

    fn message(self) -> Result<MessageFrame, Invalid> {
        let metadata = self.object("metadata", self.metadata)?;
        let metrics = self.object("metrics", self.metrics)?.map(TurnMetrics::try_from).transpose()?;
        let parts = self.parts.map(|raw| JsonArray::parse(raw.get())).transpose();
        let parts = parts.map_err(|error| Invalid::new("parts", error.to_string()))?;
        Ok(MessageFrame(Message {
            session_id: Uuid::nil(),
            role: self.role.ok_or(missing("role"))?,
            content: self.content.ok_or(missing("content"))?,
            id: self.id,
            external_id: self.external_id,
            created_at: self.created_at,
            kind: self.kind.unwrap_or(Kind::Message),
            revision: self.revision.unwrap_or(0),
            interrupted: self.interrupted.unwrap_or(false),
            audio_url: self.audio_url,
            metadata,
            content_generated: self.content_generated,
            parts,
            metrics,
        }))
    }

    fn end_status(&self) -> Result<Option<Status>, Invalid> {
        match self.status.map(|raw| serde_json::from_str(raw.get())) {
            None => Ok(None),
            Some(Ok(status @ (Status::Ended | Status::Abandoned))) => Ok(Some(status)),
            Some(_) => Err(Invalid::new("status", "must be one of ended abandoned")),
        }
    }

    fn object(&self, field: &'static str, raw: Option<&RawValue>) -> Result<Option<JsonObject>, Invalid> {
        let object = raw.map(|raw| JsonObject::parse(raw.get())).transpose();
        object.map_err(|error| Invalid::new(field, error.to_string()))
    }
}

/// Why a session ends, in the caller's word.
///
/// # Errors
/// Where the word does not fit into a column that people read.
pub(crate) fn reason_of_end(reason: Option<String>) -> Result<String, Invalid> {
    let reason = reason.unwrap_or_else(|| "completed".into());
    if (1..=MAX_REASON_BYTES).contains(&reason.len()) && !reason.contains('\0') {
        Ok(reason)
    } else {
        Err(Invalid::new("reason", "must be 1 to 256 bytes without U+0000"))
    }
}

fn missing(field: &'static str) -> Invalid {
    Invalid::new(field, "missing")
}

/// Counting brackets settles it for nearly every frame, at a fraction of the price of measuring the depth.
fn is_too_deep(text: &str) -> bool {
    let opening = text.bytes().filter(|byte| matches!(byte, b'{' | b'[')).count();
    opening > json::MAX_DEPTH && json::depth(text) > json::MAX_DEPTH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        match Frame::parse(text).unwrap().body {
            ClientFrame::Message(message) => message.in_session(Uuid::from_u128(7)),
            other => panic!("not a message: {other:?}"),
        }
    }

    fn problem(text: &str) -> (&'static str, String) {
        let error = Frame::parse(text).unwrap_err();
        (error.code, error.message)
    }

    #[test]
    fn role_and_content_are_enough_and_null_is_as_good_as_left_out() {
        let plain = message(r#"{"type":"message","role":"user","content":"Hello"}"#);
        assert_eq!(plain, Message::new(Uuid::from_u128(7), Role::User, "Hello"));
        let nulls = message(
            r#"{"type":"message","role":"user","content":"Hello","audio_url":null,"metadata":null,"created_at":null,
                "id":null,"external_id":null,"kind":null,"interrupted":null,"content_generated":null,"parts":null,
                "metrics":null,"revision":null,"ref":null,"session_id":null,"shoe_size":44}"#,
        );
        assert_eq!(nulls, plain);
    }

    #[test]
    fn every_field_arrives_as_it_was_sent() {
        let id = Uuid::from_u128(3);
        let full = message(&format!(
            r#"{{"type":"message","role":"tool","content":"4\u00b0","audio_url":"https://a/b","metadata":{{ "a" : 1.0 }},
                "created_at":"2026-11-23T09:00:00+01:00","id":"{id}","external_id":"x","kind":"tool_result",
                "interrupted":true,"content_generated":"five","parts":[1],"metrics":{{"stt_ms":12.5}},"revision":2}}"#,
        ));
        assert_eq!((full.role, full.kind, full.content.as_str()), (Role::Tool, Kind::ToolResult, "4°"));
        assert_eq!((full.id, full.external_id.as_deref()), (Some(id), Some("x")));
        assert_eq!(full.created_at.unwrap().to_string(), "2026-11-23T08:00:00.000000Z");
        assert_eq!(full.metadata.unwrap().as_str(), r#"{ "a" : 1.0 }"#);
        assert_eq!(
            (full.parts.unwrap().as_str(), full.metrics.unwrap().as_json().as_str()),
            ("[1]", r#"{"stt_ms":12.5}"#)
        );
        assert_eq!(
            (full.interrupted, full.revision, full.content_generated.as_deref()),
            (true, 2, Some("five"))
        );
    }

    #[test]
    fn a_ref_is_echoed_exactly_and_survives_a_bad_field() {
        for text in ["\"any\"", "7", "-1.50", "\"caf\\u00e9\""] {
            let frame = Frame::parse(&format!(r#"{{"type":"ping","ref":{text}}}"#)).unwrap();
            assert_eq!(frame.reference.unwrap().as_json(), text);
            let error =
                Frame::parse(&format!(r#"{{"type":"message","role":"user","ref":{text}}}"#)).unwrap_err();
            assert_eq!(
                (error.message.as_str(), error.reference.unwrap().as_json()),
                ("content: missing", text)
            );
            let error = Frame::parse(&format!(r#"{{"type":"message","role":7,"ref":{text}}}"#)).unwrap_err();
            assert_eq!(error.reference.unwrap().as_json(), text);
        }
        for text in ["true", "[]", "{}", &format!("\"{}\"", "x".repeat(255)), "\"\\ud800\""] {
            let (code, message) = problem(&format!(r#"{{"type":"ping","ref":{text}}}"#));
            assert_eq!(
                (code, message.as_str()),
                ("invalid_message", "ref: must be a string or a number of at most 256 bytes")
            );
        }
    }

    #[test]
    fn what_is_no_json_object_is_invalid_json() {
        let deep = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(100), "]".repeat(100));
        // As many values as a frame has fields, the type first.
        let array = format!(r#"["ping"{}]"#, ",null".repeat(21));
        for text in [
            "",
            "{",
            "[]",
            "7",
            "\"x\"",
            "{\"type\":\"ping\"} x",
            "null",
            &deep,
            &"[".repeat(100_000),
            &array,
        ] {
            assert_eq!(problem(text).0, "invalid_json", "{text:.40}");
        }
        assert!(problem(r#"{"type":"ping","\ud800":1}"#).1.starts_with("not valid JSON: "));
        let just_right = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(99), "]".repeat(99));
        assert_eq!(Frame::parse(&just_right).unwrap().body, ClientFrame::Ping);
    }

    /// A client that replays a file waited in vain for the answer to such a line, and gave the session up.
    #[test]
    fn a_frame_that_is_nested_too_deeply_is_answered_by_its_ref() {
        let deep = format!(r#"{{"ref":7,"type":"ping","x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(Frame::parse(&deep).unwrap_err().reference, Some(FrameRef::number(7)));
    }

    /// Each field was compared with every other: one frame kept a thread busy for most of a minute.
    #[test]
    fn a_bad_frame_of_a_hundred_thousand_fields_is_explained_at_once() {
        let fields: String = (0..100_000).map(|number| format!(r#""{number}":0,"#)).collect();
        let began = std::time::Instant::now();
        assert_eq!(problem(&format!(r#"{{{fields}"role":7}}"#)).1.split(' ').next(), Some("role:"));
        assert!(began.elapsed().as_secs() < 5, "took {:?}", began.elapsed());
    }

    #[test]
    fn a_bad_field_is_named() {
        let roles = "role: must be one of user assistant system developer tool";
        let time = "created_at: not an RFC 3339 time such as 2026-11-23T08:00:00Z";
        for (fields, expected) in [
            (r#""x":1"#, "type: missing"),
            (r#""type":7"#, "type: must be a string"),
            (r#""type":"shout""#, "type: must be one of message session.update session.end ping"),
            (r#""type":"message","content":"x""#, "role: missing"),
            (r#""type":"message","role":"user""#, "content: missing"),
            (r#""type":"message","role":"king","content":"x""#, roles),
            (r#""type":"message","role":7,"content":"x""#, roles),
            (r#""type":"message","role":"user","content":7"#, "content: must be a string"),
            (
                r#""type":"message","role":"user","content":"x","metadata":[]"#,
                "metadata: must be a JSON object",
            ),
            (r#""type":"message","role":"user","content":"x","parts":{}"#, "parts: must be a JSON array"),
            (
                r#""type":"message","role":"user","content":"x","metrics":{"stt_ms":"1"}"#,
                "metrics: stt_ms: must be a number",
            ),
            (r#""type":"message","role":"user","content":"x","created_at":"yesterday""#, time),
            (r#""type":"message","role":"user","content":"x","created_at":7"#, time),
            (r#""type":"message","role":"user","content":"x","id":"7""#, "id: must be a UUID"),
            (
                r#""type":"message","role":"user","content":"x","interrupted":1"#,
                "interrupted: must be true or false",
            ),
            (
                r#""type":"message","role":"user","content":"x","revision":-1"#,
                "revision: must be a whole number from 0 to 2147483647",
            ),
            (r#""type":"message","role":"user","role":"user","content":"x""#, "role: stands there twice"),
            (r#""type":"session.update""#, "metadata: missing"),
            (r#""type":"session.end","reason":7"#, "reason: must be a string"),
            (r#""type":"session.end","status":"active""#, "status: must be one of ended abandoned"),
        ] {
            let (code, message) = problem(&format!("{{{fields}}}"));
            assert_eq!((code, message.as_str()), ("invalid_message", expected), "{fields}");
        }
        let (code, message) = problem(r#"{"type":"message","role":"user","content":"\ud800"}"#);
        assert!(code == "invalid_message" && message.starts_with("content: "), "{message}");
    }
}
