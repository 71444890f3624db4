//! Converts records to rows.

use std::collections::BTreeMap;
use talktrack_core::clock::Seq;

use talktrack::store::{MessageCursor, MessageRow, PREVIEW_CHARS, SessionPreview};
use talktrack_core::ids::UserId;
use talktrack_core::message::{Kind, MessageStatus, Role};
use talktrack_core::record::StampedMessage;
use talktrack_core::stored::{Stored, StoredTime};

pub(super) fn row_of(
    owner: &UserId,
    seq: Seq,
    created_at: StoredTime,
    stamped: &StampedMessage,
) -> MessageRow {
    let message = stamped.message.clone();
    MessageRow {
        id: stamped.id,
        session_id: message.session_id,
        user_id: stamped.user_id(owner).cloned(),
        role: message.role.into(),
        content: message.content,
        audio_url: message.audio_url,
        metadata: message.metadata.map(Stored::Known),
        created_at,
        seq: Some(seq),
        external_id: message.external_id,
        name: message.name,
        kind: message.kind.into(),
        status: message.status.into(),
        revision: message.revision.into(),
        interrupted: message.interrupted,
        content_generated: message.content_generated,
        parts: message.parts.map(Stored::Known),
        metrics: message.metrics.map(|metrics| metrics.as_json().clone().into()),
        extra: message.extra.map(Stored::Known),
    }
}

/// `None` if neither the user nor the assistant has spoken yet.
pub(super) fn preview_of(transcript: &BTreeMap<MessageCursor, MessageRow>) -> Option<SessionPreview> {
    let spoken = |row: &&MessageRow| {
        row.kind == Kind::Message
            && row.status == MessageStatus::Final
            && (row.role == Role::User || row.role == Role::Assistant)
    };
    let last = transcript.values().rev().find(spoken)?;
    Some(SessionPreview {
        session_id: last.session_id,
        last_role: last.role.clone(),
        last_words: last.content.chars().take(PREVIEW_CHARS).collect(),
        interruptions: transcript.values().filter(|row| row.interrupted).count() as u64,
    })
}

/// Returns the number of final messages.
pub(super) fn count_final<'r>(rows: impl Iterator<Item = &'r MessageRow>) -> i64 {
    rows.filter(|row| row.status == MessageStatus::Final).count() as i64
}
