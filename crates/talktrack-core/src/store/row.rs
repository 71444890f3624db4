//! Rows in the form in which every store returns them.

use std::cmp::Ordering;

use crate::ids::{MessageId, SessionId, UserId};
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use crate::clock::Seq;
use crate::dimensions::{Dimensions, serialize_columns};
use crate::json::{JsonArray, JsonObject};
use crate::message::{
    Kind, Message, MessageStatus, NOTES, REVISION_SEQ, Role, TurnMetrics, notes_say_by_user,
};
use crate::record::{RevisionOrder, SessionDelete, SessionStart, StampedMessage, Status, Verdict};
use crate::store::{MessageCursor, SessionCursor};
use crate::stored::{Stored, StoredTime, deserialize_number, serialize_number};

/// A row of `conversation_sessions`. Another program may have written it: values that talktrack does not
/// know are kept unchanged.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns of the schema, described there")]
pub struct SessionRow {
    pub session_id: SessionId,
    pub user_id: Option<UserId>,
    pub external_id: Option<String>,
    pub status: Stored<Status>,
    pub end_reason: Option<String>,
    pub started_at: StoredTime,
    pub ended_at: Option<StoredTime>,
    #[serde(serialize_with = "serialize_number")]
    pub duration_seconds: Option<f64>,
    pub last_event_at: Option<StoredTime>,
    pub message_count: i64,
    #[serde(flatten, serialize_with = "serialize_columns")]
    pub dimensions: Dimensions,
    pub metadata: Option<Stored<JsonObject>>,
}

/// Reads what [`Serialize`] writes. The dimensions are read apart, because a flattened field cannot keep JSON unchanged.
impl<'de> Deserialize<'de> for SessionRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&RawValue>::deserialize(deserializer)?.get();
        let columns: SessionColumns = serde_json::from_str(text).map_err(de::Error::custom)?;
        Ok(Self {
            session_id: columns.session_id,
            user_id: columns.user_id,
            external_id: columns.external_id,
            status: columns.status,
            end_reason: columns.end_reason,
            started_at: columns.started_at,
            ended_at: columns.ended_at,
            duration_seconds: columns.duration_seconds,
            last_event_at: columns.last_event_at,
            message_count: columns.message_count,
            metadata: columns.metadata,
            dimensions: serde_json::from_str(text).map_err(de::Error::custom)?,
        })
    }
}

/// The columns of a [`SessionRow`] but its dimensions.
#[derive(Deserialize)]
struct SessionColumns {
    session_id: SessionId,
    user_id: Option<UserId>,
    external_id: Option<String>,
    status: Stored<Status>,
    end_reason: Option<String>,
    started_at: StoredTime,
    ended_at: Option<StoredTime>,
    #[serde(deserialize_with = "deserialize_number")]
    duration_seconds: Option<f64>,
    last_event_at: Option<StoredTime>,
    message_count: i64,
    metadata: Option<Stored<JsonObject>>,
}

impl SessionRow {
    /// Returns the row of a new session.
    pub fn from_start(start: &SessionStart, seq: Seq) -> Self {
        Self {
            session_id: start.session_id,
            user_id: Some(start.user_id.clone()),
            external_id: start.external_id.clone(),
            status: Status::Active.into(),
            end_reason: None,
            started_at: start.started_at.into(),
            ended_at: None,
            duration_seconds: None,
            last_event_at: Some(start.happened_at(seq).into()),
            message_count: 0,
            dimensions: start.dimensions.clone(),
            metadata: Some(start.metadata.clone().unwrap_or_default().into()),
        }
    }

    /// True if this deletion by age must spare the session: the session is too young, or its times do not
    /// tell its age.
    pub fn is_spared_by(&self, delete: &SessionDelete) -> bool {
        let heard = self.last_event_at.as_ref().unwrap_or(&self.started_at).known();
        let heard = heard.filter(|at| at.as_micros() > 0);
        !delete.is_permanent() && heard.is_none_or(|at| delete.spares(at))
    }

    /// Returns the cursor that continues a list after this row.
    pub fn cursor(&self) -> SessionCursor {
        SessionCursor { started_at: self.started_at.key(), session_id: self.session_id }
    }
}

/// A short summary of a session, for lists of sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionPreview {
    /// The session.
    pub session_id: SessionId,
    /// The role of the last speaker: the user or the assistant.
    pub last_role: Stored<Role>,
    /// The first [`PREVIEW_CHARS`] characters of the last message.
    pub last_words: String,
    /// Number of messages that were interrupted.
    pub interruptions: u64,
}

/// The longest excerpt of the last message in a [`SessionPreview`], in characters.
pub const PREVIEW_CHARS: usize = 200;

/// A row of `conversation_messages`. Another program may have written it: values that talktrack does not
/// know are kept unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the schema, described there")]
pub struct MessageRow {
    pub id: MessageId,
    pub session_id: SessionId,
    pub user_id: Option<UserId>,
    pub role: Stored<Role>,
    pub content: String,
    pub audio_url: Option<String>,
    pub metadata: Option<Stored<JsonObject>>,
    pub created_at: StoredTime,
    pub seq: Option<Seq>,
    pub external_id: Option<String>,
    pub name: Option<String>,
    pub kind: Stored<Kind>,
    pub status: Stored<MessageStatus>,
    pub revision: i64,
    pub interrupted: bool,
    pub content_generated: Option<String>,
    pub parts: Option<Stored<JsonArray>>,
    pub metrics: Option<Stored<JsonObject>>,
    pub extra: Option<Stored<JsonObject>>,
}

impl MessageRow {
    /// Returns the row of an accepted message in a session of this user. `owner` is `None` if the session's
    /// user is unknown.
    pub fn from_stamped(stamped: &StampedMessage, seq: Seq, owner: Option<&UserId>) -> Self {
        let message = &stamped.message;
        Self {
            id: stamped.id,
            session_id: message.session_id,
            user_id: owner.and_then(|owner| stamped.user_id(owner)).cloned(),
            role: message.role.into(),
            content: message.content.clone(),
            audio_url: message.audio_url.clone(),
            metadata: message.metadata.clone().map(Stored::Known),
            created_at: stamped.created_at.into(),
            seq: Some(seq),
            external_id: message.external_id.clone(),
            name: message.name.clone(),
            kind: message.kind.into(),
            status: message.status.into(),
            revision: message.revision.into(),
            interrupted: message.interrupted,
            content_generated: message.content_generated.clone(),
            parts: message.parts.clone().map(Stored::Known),
            metrics: message.metrics.as_ref().map(|metrics| metrics.as_json().clone().into()),
            extra: message.extra.clone().map(Stored::Known),
        }
    }

    /// Compares a message with this row, which is stored under the message's id.
    pub fn compare_revision(&self, stamped: &StampedMessage) -> RevisionOrder {
        if let Some(stored) = self.clone().into_message() {
            return stamped.compare_revision(&stored);
        }
        match i64::from(stamped.message.revision).cmp(&self.revision) {
            _ if stamped.message.session_id != self.session_id => RevisionOrder::Conflict,
            // Another program changed the row, so no user's token wrote its content.
            Ordering::Greater if stamped.by_user => RevisionOrder::NotTheirs,
            Ordering::Greater => RevisionOrder::Newer,
            Ordering::Less => RevisionOrder::Older,
            Ordering::Equal => RevisionOrder::Conflict,
        }
    }

    /// Returns the verdict for a message that replaces this row.
    pub fn revised_by(&self, stamped: &StampedMessage) -> Verdict {
        let is_final = stamped.message.status == MessageStatus::Final;
        Verdict::Revised { becomes_final: is_final && self.status != MessageStatus::Final }
    }

    /// Returns the `seq` of the record that wrote the current revision, from talktrack's own notes in
    /// `extra`. `None` if the row has no such note. talktrack writes the notes only if triggers may edit
    /// rows.
    pub fn revision_seq(&self) -> Option<Seq> {
        let notes = self.extra.as_ref()?.known()?.to_value().remove(NOTES)?;
        notes[REVISION_SEQ].as_i64().map(Seq::new)
    }

    /// True if talktrack's own notes in `extra` say that a user wrote the message with a token.
    pub fn is_by_user(&self) -> bool {
        let extra = self.extra.as_ref().and_then(Stored::known);
        extra.is_some_and(notes_say_by_user)
    }

    /// Returns the message as the client sent it. `None` if the row holds a value that talktrack never
    /// writes.
    pub fn into_message(self) -> Option<Message> {
        fn known<T>(value: Option<Stored<T>>) -> Option<Option<T>> {
            value.map_or(Some(None), |value| value.into_known().map(Some))
        }
        let metrics = known(self.metrics)?.map(TurnMetrics::try_from).transpose().ok()?;
        Some(Message {
            session_id: self.session_id,
            role: self.role.into_known()?,
            content: self.content,
            id: Some(self.id),
            external_id: self.external_id,
            name: self.name,
            created_at: self.created_at.known(),
            kind: self.kind.into_known()?,
            status: self.status.into_known()?,
            revision: self.revision.try_into().ok()?,
            interrupted: self.interrupted,
            audio_url: self.audio_url,
            metadata: known(self.metadata)?,
            content_generated: self.content_generated,
            parts: known(self.parts)?,
            metrics,
            // An unknown value in `extra` comes from another program and does not change the content.
            extra: self.extra.and_then(Stored::into_known),
        })
    }

    /// Returns the cursor that continues a transcript after this row.
    pub fn cursor(&self) -> MessageCursor {
        MessageCursor { created_at: self.created_at.key(), seq: self.seq.unwrap_or(Seq::ZERO), id: self.id }
    }
}
