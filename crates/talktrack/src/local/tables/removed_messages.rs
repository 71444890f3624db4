//! The table `removed_messages`: the messages that were removed while their session was kept, by the place of the removal
//! in the change feed.

use rusqlite::{Connection, Transaction, params};
use talktrack_core::clock::Seq;
use talktrack_core::ids::MessageId;
use uuid::Uuid;

/// A removed message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemovedMessage {
    /// `None` if all messages of the session were removed or replaced.
    pub(crate) id: Option<MessageId>,
    /// The row that the message had. `None` if it was not stored in this file.
    pub(crate) row: Option<i64>,
}

/// Notes what the record with this `seq` removed.
pub(crate) fn note(
    tx: &Transaction<'_>,
    seq: Seq,
    removed: impl Iterator<Item = RemovedMessage>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO removed_messages (seq, message_id, row) VALUES (?1, ?2, ?3)";
    let mut insert = tx.prepare_cached(sql)?;
    for RemovedMessage { id, row } in removed {
        insert.execute(params![seq, id.as_ref().map(MessageId::as_bytes), row])?;
    }
    Ok(())
}

/// Returns what the record with this `seq` removed.
pub(crate) fn read(connection: &Connection, seq: Seq) -> rusqlite::Result<Vec<RemovedMessage>> {
    let sql = "SELECT message_id, row FROM removed_messages WHERE seq = ?1 ORDER BY rowid";
    let mut statement = connection.prepare_cached(sql)?;
    let removed = statement.query_map([seq], |row| {
        let id = row.get::<_, Option<[u8; 16]>>(0)?.map(|id| Uuid::from_bytes(id).into());
        Ok(RemovedMessage { id, row: row.get(1)? })
    })?;
    removed.collect()
}

/// Removes what records before this place noted.
pub(crate) fn delete_before(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM removed_messages WHERE seq < ?1")?.execute([seq]).map(drop)
}
