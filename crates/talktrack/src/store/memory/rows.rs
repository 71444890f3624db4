//! Rows as records make them.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::message::{Kind, Role};
use crate::record::Stamped;
use crate::store::{GLIMPSE_CHARS, Glimpse, MessageCursor, MessageRow};

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

/// `None` where nobody has spoken yet.
pub(super) fn glimpse_of(transcript: &BTreeMap<MessageCursor, MessageRow>) -> Option<Glimpse> {
    let spoken =
        |row: &&MessageRow| row.kind == Kind::Message && matches!(row.role, Role::User | Role::Assistant);
    let last = transcript.values().rev().find(spoken)?;
    Some(Glimpse {
        session_id: last.session_id,
        last_role: last.role,
        last_words: last.content.chars().take(GLIMPSE_CHARS).collect(),
        interruptions: transcript.values().filter(|row| row.interrupted).count() as u64,
    })
}
