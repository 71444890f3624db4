//! Rows as records make them.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::record::Stamped;
use crate::store::MessageRow;

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
