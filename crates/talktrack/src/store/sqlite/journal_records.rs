//! Queries for callers that follow durable records: changes and pending records.

use std::collections::HashMap;

use rusqlite::Connection;
use talktrack_core::clock::Seq;
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, UserId};
use talktrack_core::record::Record;

use crate::changes::{Change, Changes};
use crate::local::tables::changes;
use crate::local::tables::journal;
use crate::local::tables::removed_messages;
use crate::store::sqlite::SqliteReader;
use crate::store::sqlite::outbox::OutboxReader;
use crate::store::{MessageRow, PAGE_BYTES};

impl SqliteReader {
    /// Returns up to `limit` changes after a place in their order (see [`changes`](crate::changes)), and the place to
    /// continue from.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn changes_since(&self, place: Seq, limit: usize) -> Result<Changes, ReadError> {
        self.connections.run_query(move |connection| changes::read_since(connection, place, limit)).await
    }

    /// Returns the messages that these changes of the kind [`MessagesDeleted`](crate::ChangeKind::MessagesDeleted) removed. A
    /// change that removed or replaced all messages of its session is left out.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn removed_messages(
        &self,
        changes: Vec<Seq>,
    ) -> Result<HashMap<Seq, Vec<MessageId>>, ReadError> {
        self.connections
            .run_query(move |connection| {
                let mut removed = HashMap::new();
                for seq in changes {
                    let named = removed_messages::read(connection, seq)?;
                    let ids: Vec<MessageId> = named.iter().filter_map(|message| message.id).collect();
                    if !ids.is_empty() {
                        removed.insert(seq, ids);
                    }
                }
                Ok(removed)
            })
            .await
    }

    /// Returns the place after the newest change, for [`Self::changes_since`].
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn newest_change(&self) -> Result<Seq, ReadError> {
        self.connections.run_query(changes::newest_seq).await
    }
}

impl OutboxReader {
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
        self.connections.run_query(move |connection| find_journal_records(connection, &seqs)).await
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

fn find_journal_records(
    connection: &Connection,
    seqs: &[Seq],
) -> rusqlite::Result<(HashMap<Seq, JournalRecord>, usize)> {
    // One transaction: a record must not leave the journal between the two queries.
    let tx = connection.unchecked_transaction()?;
    let mut found = HashMap::new();
    let mut looked_up = 0;
    let mut bytes = 0;
    for seq in seqs {
        if bytes >= PAGE_BYTES {
            break;
        }
        looked_up += 1;
        let Some(record) = journal::find(&tx, *seq)? else { continue };
        let first = first_revision(&tx, &record)?;
        bytes += record.heap_bytes() + first.as_ref().map_or(0, Record::heap_bytes);
        found.insert(*seq, JournalRecord { record, first });
    }
    Ok((found, looked_up))
}

fn first_revision(connection: &Connection, record: &Record) -> rusqlite::Result<Option<Record>> {
    let Some(stamped) = record.message().filter(|stamped| stamped.message.revision > 0) else {
        return Ok(None);
    };
    let first = journal::read_first_revision(connection, stamped.id)?;
    Ok(first.filter(|first| first.seq != record.seq))
}
