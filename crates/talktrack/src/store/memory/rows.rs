//! Rows as records make them.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::record::{SessionStart, Stamped, Status};
use crate::store::{MessageRow, SessionRow};

pub(super) fn new_session(start: &SessionStart, happened_at: Timestamp) -> SessionRow {
    SessionRow {
        session_id: start.session_id,
        user_id: start.user_id,
        external_id: start.external_id.clone(),
        status: Status::Active,
        end_reason: None,
        started_at: start.started_at,
        ended_at: None,
        duration_seconds: None,
        last_event_at: Some(happened_at),
        message_count: 0,
        metadata: Some(start.metadata.clone().unwrap_or_default()),
    }
}

pub(super) fn row_of(owner: Uuid, seq: i64, created_at: Timestamp, stamped: &Stamped) -> MessageRow {
    let message = stamped.message.clone();
    MessageRow {
        id: stamped.id,
        session_id: message.session_id,
        user_id: stamped.user_id(owner),
        role: message.role,
        content: message.content,
        audio_url: message.audio_url,
        metadata: message.metadata,
        created_at,
        seq: Some(seq),
        external_id: message.external_id,
        kind: message.kind,
        revision: message.revision,
        interrupted: message.interrupted,
        content_generated: message.content_generated,
        parts: message.parts,
        metrics: message.metrics.map(|metrics| metrics.as_json().clone()),
    }
}
