//! Queries for callers that follow durable records: changes and pending records.

use std::collections::HashMap;

use rusqlite::{Connection, Row};
use talktrack_core::clock::Seq;
use talktrack_core::error::ReadError;
use talktrack_core::ids::UserId;
use talktrack_core::record::Record;

use crate::changes::{Change, Changes};
use crate::local::database::UuidText;
use crate::local::tables::changes;
use crate::store::sqlite::SqliteReader;
use crate::store::{MessageRow, PAGE_BYTES};

impl SqliteReader {
    /// Returns up to `limit` changes after a place in their order (see [`changes`](crate::changes)), and the place to
    /// continue from.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn changes_since(&self, place: Seq, limit: usize) -> Result<Changes, ReadError> {
        self.run_query(move |connection| changes::read_since(connection, place, limit)).await
    }

    /// Returns the place after the newest change, for [`Self::changes_since`].
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn newest_change(&self) -> Result<Seq, ReadError> {
        self.run_query(changes::newest_seq).await
    }

    /// Returns those records of these changes that are in the journal, by their `seq`. A later revision of a
    /// message comes with the first revision in the journal, because a revision keeps the place of what it
    /// revises. If the records are large, only the first changes are looked up; the second value is their
    /// number.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn journal_records(
        &self,
        changes: &[Change],
    ) -> Result<(HashMap<Seq, JournalRecord>, usize), ReadError> {
        if changes.is_empty() {
            return Ok((HashMap::new(), 0));
        }
        let seqs: Vec<Seq> = changes.iter().map(|change| change.seq).collect();
        self.run_query(move |connection| {
            // One transaction: a record must not leave the journal between the two queries.
            let tx = connection.unchecked_transaction()?;
            let mut read = tx.prepare_cached("SELECT seq, body, checksum FROM journal WHERE seq = ?1")?;
            let mut waiting = HashMap::new();
            let mut looked_up = 0;
            let mut bytes = 0;
            for seq in seqs {
                if bytes >= PAGE_BYTES {
                    break;
                }
                looked_up += 1;
                let mut rows = read.query([seq])?;
                let Some(record) = rows.next()?.map(read_record).transpose()?.and_then(|(_, record)| record)
                else {
                    continue;
                };
                let first = first_revision(&tx, &record)?;
                bytes += record.heap_bytes() + first.as_ref().map_or(0, Record::heap_bytes);
                waiting.insert(seq, JournalRecord { record, first });
            }
            Ok((waiting, looked_up))
        })
        .await
    }
}

/// A record of the journal: pending for a remote store, or kept for the re-send window.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct JournalRecord {
    /// The record.
    pub record: Record,
    /// The first revision of the same message, if that is in the journal as well.
    pub first: Option<Record>,
}

impl JournalRecord {
    /// Returns the row that this message will have in the store, or `None` if the record is no message. `owner` is the
    /// user of the session, if that is known and the record does not name it.
    pub fn message_row(&self, owner: Option<&UserId>) -> Option<MessageRow> {
        let stamped = self.record.message()?;
        let mut row = MessageRow::from_stamped(stamped, self.record.seq, stamped.owner.as_ref().or(owner));
        // A revision corrects what was said, not when: it keeps the time and place of the first revision.
        if let Some(first) = &self.first
            && let Some(said) = first.message()
        {
            (row.created_at, row.seq) = (said.created_at.into(), Some(first.seq));
        }
        Some(row)
    }
}

fn first_revision(connection: &Connection, record: &Record) -> rusqlite::Result<Option<Record>> {
    let Some(stamped) = record.message().filter(|stamped| stamped.message.revision > 0) else {
        return Ok(None);
    };
    let sql = "SELECT seq, body, checksum FROM journal WHERE message_id = ?1 ORDER BY revision LIMIT 1";
    let (_, first) =
        connection.prepare_cached(sql)?.query_row([UuidText::new(stamped.id).as_str()], read_record)?;
    Ok(first.filter(|first| first.seq != record.seq))
}

/// Reads a row of the journal. The record is `None` if its bytes differ from those that were written.
pub(crate) fn read_record(row: &Row<'_>) -> rusqlite::Result<(Seq, Option<Record>)> {
    let seq = row.get(0)?;
    // The checksum may be damaged too. An unreadable row must not hold up the rows behind it.
    let Ok(body) = row.get_ref(1)?.as_bytes() else { return Ok((seq, None)) };
    let intact = row.get::<_, u32>(2).is_ok_and(|checksum| checksum == crc32fast::hash(body));
    let record: Option<Record> = if intact { serde_json::from_slice(body).ok() } else { None };
    // The row's own number may be damaged: the store's answer would then be for a row that does not exist.
    Ok((seq, record.filter(|record| record.seq == seq)))
}
