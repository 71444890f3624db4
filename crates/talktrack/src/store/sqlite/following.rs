//! For whoever follows what becomes durable: the changes, the records on their way to a remote store, rows by their ids.

use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::changes::{self, Changes};
use crate::clock::Seq;
use crate::database::UuidText;
use crate::error::ReadError;
use crate::record::Record;
use crate::store::sqlite::SqliteReader;
use crate::store::sqlite::rows::{message, session};
use crate::store::{MessageRow, PAGE_BYTES, Page, SessionRow};

impl SqliteReader {
    /// Up to so many changes after a place in their order (see [`changes`]), and the place to go on from.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn changes_since(&self, place: Seq, limit: usize) -> Result<Changes, ReadError> {
        self.ask(move |connection| changes::since(connection, place, limit)).await
    }

    /// The place behind the newest change, for [`Self::changes_since`].
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn newest_change(&self) -> Result<Seq, ReadError> {
        self.ask(changes::newest).await
    }

    /// Those of the records of these `seq` that are still on their way to a remote store. With a later revision of a message
    /// comes the first that is on its way: a revision keeps the place of what it revises. If they are large, only the first of
    /// the `seq` are looked up; says how many.
    ///
    /// # Errors
    /// Where SQLite cannot read the file.
    pub async fn waiting(&self, seqs: Vec<Seq>) -> Result<(Vec<Waiting>, usize), ReadError> {
        self.ask(move |connection| {
            // One transaction: what is there must not leave between the two questions.
            let tx = connection.unchecked_transaction()?;
            let mut read = tx.prepare_cached("SELECT seq, body, checksum FROM journal WHERE seq = ?1")?;
            let (mut waiting, mut looked_up, mut bytes) = (Vec::new(), 0, 0);
            for seq in seqs {
                if bytes >= PAGE_BYTES {
                    break;
                }
                looked_up += 1;
                let mut rows = read.query([seq])?;
                let Some(record) = rows.next()?.map(readable).transpose()?.and_then(|(_, record)| record)
                else {
                    continue;
                };
                let first = first_revision(&tx, &record)?;
                bytes += record.heap_bytes() + first.as_ref().map_or(0, Record::heap_bytes);
                waiting.push(Waiting { record, first });
            }
            Ok((waiting, looked_up))
        })
        .await
    }
}

/// A record on its way to a remote store.
#[derive(Debug, Clone, PartialEq)]
pub struct Waiting {
    /// It.
    pub record: Record,
    /// Where it revises a message that is on its way as well: what is revised.
    pub first: Option<Record>,
}

fn first_revision(connection: &Connection, record: &Record) -> rusqlite::Result<Option<Record>> {
    let Some(stamped) = record.message().filter(|stamped| stamped.message.revision > 0) else {
        return Ok(None);
    };
    let sql = "SELECT seq, body, checksum FROM journal WHERE message_id = ?1 ORDER BY revision LIMIT 1";
    let (_, first) =
        connection.prepare_cached(sql)?.query_row([UuidText::new(stamped.id).as_str()], readable)?;
    Ok(first.filter(|first| first.seq != record.seq))
}

/// A row of the journal; no record where its bytes are not those that were written.
pub(crate) fn readable(row: &Row<'_>) -> rusqlite::Result<(Seq, Option<Record>)> {
    let seq = row.get(0)?;
    // What rots may be the checksum as well: a row that cannot be read must not hold up those behind it.
    let Ok(body) = row.get_ref(1)?.as_bytes() else { return Ok((seq, None)) };
    let intact = row.get::<_, u32>(2).is_ok_and(|checksum| checksum == crc32fast::hash(body));
    let record: Option<Record> = if intact { serde_json::from_slice(body).ok() } else { None };
    // The row's own number may have rotted: the store's answer would be for a row that is not there.
    Ok((seq, record.filter(|record| record.seq == seq)))
}

/// The sessions of these ids that are there.
pub(super) fn sessions_by_id(connection: &Connection, ids: &[Uuid]) -> rusqlite::Result<Vec<SessionRow>> {
    ids.iter().filter_map(|id| session(connection, *id).transpose()).collect()
}

/// The messages of these ids that are there.
pub(super) fn messages_by_id(connection: &Connection, ids: &[Uuid]) -> rusqlite::Result<Page<MessageRow>> {
    Page::fill(ids.iter().filter_map(|id| message(connection, *id).transpose()), usize::MAX)
}
