//! Sessions and messages as the API returns them: the columns of the schema, under the same names.

use serde::Serialize;
use talktrack::clock::Seq;
use talktrack::store::{MessageRow, SessionRow};
use talktrack::stored::serialize_number;
use talktrack::{
    JsonArray, JsonObject, Kind, MessageId, MessageStatus, Role, SessionId, Status, Stored, StoredTime, Tags,
    UserId,
};
use utoipa::ToSchema;

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// The user of the session. `null` only if another program wrote no user.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
    /// The caller's own id of the session.
    external_id: Option<String>,
    /// `active`, `ended` or `abandoned`. Any other value that another program wrote is returned unchanged.
    #[schema(value_type = String, example = "ended")]
    status: Stored<Status>,
    /// Why the session ended.
    #[schema(example = "completed")]
    end_reason: Option<String>,
    /// When the session began. Times that another program wrote with a year after 9999, as `infinity` or as other text are
    /// returned unchanged.
    #[schema(value_type = String, format = DateTime)]
    started_at: StoredTime,
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<StoredTime>,
    /// The time from start to end, in seconds.
    #[serde(serialize_with = "serialize_number")]
    duration_seconds: Option<f64>,
    #[schema(value_type = Option<String>, format = DateTime)]
    last_event_at: Option<StoredTime>,
    message_count: i64,
    /// The name of the agent.
    agent: Option<String>,
    agent_version: Option<String>,
    /// How the user talks to the agent, such as `phone` or `web`.
    channel: Option<String>,
    /// The environment in which the agent runs, such as `production`.
    environment: Option<String>,
    /// The session from which this one was transferred, if the caller may read that session.
    #[schema(value_type = Option<Uuid>)]
    parent_session_id: Option<SessionId>,
    #[schema(value_type = Option<Vec<String>>)]
    tags: Option<Stored<Tags>>,
    /// The caller's own data.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    metadata: Option<Stored<JsonObject>>,
}

/// A message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    #[schema(value_type = Uuid)]
    id: MessageId,
    #[schema(value_type = Uuid)]
    session_id: SessionId,
    /// The user of the session; `null` for messages of `system`.
    #[schema(value_type = Option<String>, min_length = 1, max_length = 256)]
    user_id: Option<UserId>,
    /// `user`, `assistant`, `system`, `developer` or `tool`. Any other value that another program wrote is returned unchanged.
    #[schema(value_type = String, example = "user")]
    role: Stored<Role>,
    /// What was said and heard.
    content: String,
    audio_url: Option<String>,
    /// The caller's own data.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    metadata: Option<Stored<JsonObject>>,
    #[schema(value_type = String, format = DateTime)]
    created_at: StoredTime,
    /// The order of acceptance; `null` for rows that talktrack did not write.
    seq: Option<i64>,
    /// The caller's own id of the message.
    external_id: Option<String>,
    /// Who spoke: the name of the agent or of the participant.
    name: Option<String>,
    /// `message`, `tool_call`, `tool_result`, `event` or `handoff`. Any other value that another program wrote is returned unchanged.
    #[schema(value_type = String, example = "message")]
    kind: Stored<Kind>,
    /// `in_progress`, `final` or `discarded`. Any other value that another program wrote is returned unchanged.
    #[schema(value_type = String, example = "final")]
    status: Stored<MessageStatus>,
    revision: i64,
    /// True if the user interrupted the message while it was spoken.
    interrupted: bool,
    /// What the model generated, if the user heard less.
    content_generated: Option<String>,
    /// OpenTelemetry GenAI message parts.
    #[schema(value_type = Option<Vec<serde_json::Value>>)]
    parts: Option<Stored<JsonArray>>,
    /// Measurements of the turn.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    metrics: Option<Stored<JsonObject>>,
    /// Everything that has no field of its own. The key `talktrack` holds talktrack's own notes: `by` is `user` if a user wrote the
    /// message with a token.
    #[schema(value_type = Option<serde_json::Map<String, serde_json::Value>>)]
    extra: Option<Stored<JsonObject>>,
}

impl From<SessionRow> for Session {
    fn from(row: SessionRow) -> Self {
        Self {
            session_id: row.session_id,
            user_id: row.user_id,
            external_id: row.external_id,
            status: row.status,
            end_reason: row.end_reason,
            started_at: row.started_at,
            ended_at: row.ended_at,
            duration_seconds: row.duration_seconds,
            last_event_at: row.last_event_at,
            message_count: row.message_count,
            agent: row.dimensions.agent,
            agent_version: row.dimensions.agent_version,
            channel: row.dimensions.channel,
            environment: row.dimensions.environment,
            parent_session_id: row.dimensions.parent_session_id,
            tags: row.dimensions.tags,
            metadata: row.metadata,
        }
    }
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        Self {
            id: row.id,
            session_id: row.session_id,
            user_id: row.user_id,
            role: row.role,
            content: row.content,
            audio_url: row.audio_url,
            metadata: row.metadata,
            created_at: row.created_at,
            seq: row.seq.map(Seq::get),
            external_id: row.external_id,
            name: row.name,
            kind: row.kind,
            status: row.status,
            revision: row.revision,
            interrupted: row.interrupted,
            content_generated: row.content_generated,
            parts: row.parts,
            metrics: row.metrics,
            extra: row.extra,
        }
    }
}
