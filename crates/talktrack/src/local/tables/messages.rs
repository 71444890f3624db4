//! The table `conversation_messages`: one row a message, in its newest revision.

pub(crate) mod read;
pub(crate) mod previews;
pub(crate) mod search;
pub(crate) mod counted;
pub(crate) mod checks;
pub(crate) mod edits;

use std::fmt::Write as _;

use rusqlite::{CachedStatement, Transaction, params};
use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::record::StampedMessage;

use crate::local::database::{UuidText, column_or_null, parse_id};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "conversation_messages (rowid, id, session_id, user_id, role, content, audio_url, metadata, \
     created_at, seq, external_id, kind, revision, interrupted, content_generated, parts, metrics, extra, name, status, \
     place_revision)";

/// Inserts the messages of a batch. Messages are the most frequent records, so the statement and the buffer for the
/// time are kept.
pub(crate) struct MessageInsert<'t> {
    statement: CachedStatement<'t>,
    created_at: String,
}

impl<'t> MessageInsert<'t> {
    pub(crate) fn new(tx: &'t Transaction<'_>) -> rusqlite::Result<Self> {
        let sql = "INSERT INTO conversation_messages (id, session_id, user_id, role, content, audio_url, metadata, \
                   created_at, seq, external_id, kind, revision, interrupted, content_generated, parts, metrics, extra, name, status) \
                   VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19) ON CONFLICT (id) DO NOTHING";
        Ok(Self { statement: tx.prepare_cached(sql)?, created_at: String::new() })
    }

    /// Inserts a message of this user. Returns false if a message with its id is already stored.
    pub(crate) fn insert_message(
        &mut self,
        seq: Seq,
        stamped: &StampedMessage,
        user_id: Option<&UserId>,
    ) -> rusqlite::Result<bool> {
        let message = &stamped.message;
        self.created_at.clear();
        let _ = write!(self.created_at, "{}", stamped.created_at);
        let user_id = user_id.map(|user| UuidText::new(user.as_uuid()));
        let inserted = self.statement.execute(params![
            UuidText::new(stamped.id).as_str(),
            UuidText::new(message.session_id).as_str(),
            user_id.as_ref().map(UuidText::as_str),
            message.role.as_str(),
            message.content,
            message.audio_url,
            message.metadata.as_ref().map(JsonObject::as_str),
            self.created_at,
            seq,
            message.external_id,
            message.kind.as_str(),
            message.revision,
            message.interrupted,
            message.content_generated,
            message.parts.as_ref().map(|parts| parts.as_str()),
            message.metrics.as_ref().map(|metrics| metrics.as_json().as_str()),
            message.extra.as_ref().map(JsonObject::as_str),
            message.name,
            message.status.as_str(),
        ])?;
        Ok(inserted == 1)
    }
}

/// Replaces the stored message by this revision. A revision changes what was said, not when it was said: the row keeps
/// its place (`created_at`, `seq`).
pub(crate) fn revise_message(
    tx: &Transaction<'_>,
    stamped: &StampedMessage,
    user_id: Option<&UserId>,
) -> rusqlite::Result<()> {
    let sql = "UPDATE conversation_messages SET role=?2, content=?3, audio_url=?4, metadata=?5, kind=?6, \
               revision=?7, interrupted=?8, content_generated=?9, parts=?10, metrics=?11, user_id=?12, extra=?13, name=?14, status=?15 WHERE id=?1";
    let message = &stamped.message;
    let user_id = user_id.map(|user| UuidText::new(user.as_uuid()));
    tx.prepare_cached(sql)?.execute(params![
        UuidText::new(stamped.id).as_str(),
        message.role.as_str(),
        message.content,
        message.audio_url,
        message.metadata.as_ref().map(JsonObject::as_str),
        message.kind.as_str(),
        message.revision,
        message.interrupted,
        message.content_generated,
        message.parts.as_ref().map(|parts| parts.as_str()),
        message.metrics.as_ref().map(|metrics| metrics.as_json().as_str()),
        user_id.as_ref().map(UuidText::as_str),
        message.extra.as_ref().map(JsonObject::as_str),
        message.name,
        message.status.as_str(),
    ])?;
    Ok(())
}

/// Moves the stored message to the place of this earlier revision, if that is before its own.
pub(crate) fn move_message_up(
    tx: &Transaction<'_>,
    seq: Seq,
    stamped: &StampedMessage,
) -> rusqlite::Result<()> {
    let sql =
        "UPDATE conversation_messages SET created_at=?2, seq=?3 WHERE id=?1 AND (created_at, seq) > (?2, ?3)";
    let id = UuidText::new(stamped.id);
    let created_at = stamped.created_at.to_string();
    tx.prepare_cached(sql)?.execute(params![id.as_str(), created_at, seq]).map(drop)
}

/// Makes all messages of the session final that are in progress: it has ended. Returns their ids.
pub(crate) fn close_in_progress(
    tx: &Transaction<'_>,
    session_id: SessionId,
) -> rusqlite::Result<Vec<MessageId>> {
    let sql = "UPDATE conversation_messages SET status = 'final', interrupted = interrupted OR role = 'assistant', \
               extra = CASE WHEN extra IS NULL THEN '{\"talktrack\":{\"closed\":true}}' \
               WHEN json_valid(extra) AND json_type(extra) = 'object' THEN json_set(extra, '$.talktrack.closed', json('true')) \
               ELSE extra END \
               WHERE session_id = ?1 AND status = 'in_progress' RETURNING id";
    let mut statement = tx.prepare_cached(sql)?;
    let closed =
        statement.query_map([UuidText::new(session_id).as_str()], |row| column_or_null(row, 0, parse_id))?;
    closed.filter_map(rusqlite::Result::transpose).collect()
}

/// Removes all messages of the session. Returns their number.
pub(crate) fn delete_of_session(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM conversation_messages WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(|rows| rows as u64)
}
