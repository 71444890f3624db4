//! The table `closed_messages`: messages that the end of their session made final.

use rusqlite::{Transaction, params};
use talktrack_core::clock::Seq;
use talktrack_core::ids::MessageId;
use uuid::Uuid;

/// Notes that the record with this `seq` made these messages final.
pub(crate) fn note(tx: &Transaction<'_>, seq: Seq, closed: &[MessageId]) -> rusqlite::Result<()> {
    let mut insert = tx.prepare_cached("INSERT INTO closed_messages (seq, message_id) VALUES (?1, ?2)")?;
    closed.iter().try_for_each(|id| insert.execute(params![seq, id.as_bytes()]).map(drop))
}

/// Returns the messages that records after the first and up to the second place made final.
pub(crate) fn read_between(tx: &Transaction<'_>, after: Seq, until: Seq) -> rusqlite::Result<Vec<MessageId>> {
    let mut statement =
        tx.prepare_cached("SELECT message_id FROM closed_messages WHERE seq > ?1 AND seq <= ?2")?;
    let closed = statement.query_map(params![after, until], |row| row.get(0))?;
    closed.map(|id| id.map(|id| Uuid::from_bytes(id).into())).collect()
}

/// Removes what records before this place noted.
pub(crate) fn delete_before(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM closed_messages WHERE seq < ?1")?.execute([seq]).map(drop)
}
