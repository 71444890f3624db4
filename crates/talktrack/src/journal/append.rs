//! Appends new records to the journal of a remote store's outbox.

use rusqlite::{CachedStatement, Transaction, params};
use talktrack_core::books::Books;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::SessionId;
use talktrack_core::record::{Body, DeletionCounts, Record, SessionDelete, StampedMessage, Verdict};

use crate::journal::purge::{self, Scope, TombstoneCache};
use crate::journal::purged::PurgedRecords;
use crate::local::database::UuidText;
use crate::store::sqlite::{self, read_record};
use crate::writer::Writer;

/// Writes the records to the table `journal`. Returns a verdict for each, including those that need no row.
pub(super) fn append<'a>(
    tx: &Transaction<'_>,
    records: impl Iterator<Item = &'a Record>,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<Vec<Verdict>> {
    let sql = "INSERT INTO journal (seq, message_id, revision, body, checksum, session_id, lane) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) \
               ON CONFLICT (message_id, revision) WHERE message_id IS NOT NULL DO NOTHING";
    let mut insert = tx.prepare_cached(sql)?;
    let mut tombstones = TombstoneCache::default();
    let mut verdict = |record: &Record| match &record.body {
        Body::Delete(delete) => {
            append_record(tx, &mut insert, record, books)?;
            delete_from_journal(tx, delete, books, &mut tombstones, purged)
        }
        Body::DeleteUser(_) => {
            append_record(tx, &mut insert, record, books)?;
            Ok(Verdict::Deleted(DeletionCounts::default()))
        }
        _ if tombstones.is_refused(tx, record.session_id(), record.owner())?
            || tombstones.is_deleted(tx, record)? =>
        {
            Ok(Verdict::Refused(NotDurable::Deleted))
        }
        _ => append_record(tx, &mut insert, record, books),
    };
    records.map(&mut verdict).collect()
}

/// Removes the session's records from the journal, or only those that were accepted for `delete.owner` if it is set.
/// Does nothing for a deletion by age, because only the store knows the age of a session.
fn delete_from_journal(
    tx: &Transaction<'_>,
    delete: &SessionDelete,
    books: &mut Books,
    tombstones: &mut TombstoneCache,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<Verdict> {
    if !delete.is_permanent() {
        return Ok(Verdict::Journaled);
    }
    match &delete.owner {
        None => sqlite::note_deleted(tx, delete.session_id, delete.told_to.as_ref())?,
        Some(owner) => sqlite::note_deleted_claim(tx, delete.session_id, owner)?,
    }
    tombstones.clear();
    let journal =
        purge::purge_waiting(tx, &Scope::for_deletion(delete, &DeletionCounts::default()), books, purged)?;
    Ok(Verdict::Deleted(DeletionCounts { journal, ..DeletionCounts::default() }))
}

fn append_record(
    tx: &Transaction<'_>,
    insert: &mut CachedStatement<'_>,
    record: &Record,
    books: &mut Books,
) -> rusqlite::Result<Verdict> {
    let body = serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let stamped = record.message();
    let id = stamped.map(|stamped| UuidText::new(stamped.id));
    let revision = stamped.map(|stamped| stamped.message.revision);
    let id = id.as_ref().map(UuidText::as_str);
    let session_id = (!record.is_deletion()).then(|| UuidText::new(record.session_id()));
    let session_id = session_id.as_ref().map(UuidText::as_str);
    let checksum = crc32fast::hash(body.as_bytes());
    let lane = Writer::lane_of(record);
    let added = insert.execute(params![record.seq, id, revision, body, checksum, session_id, lane])?;
    if let Some(stamped) = stamped.filter(|_| added == 0) {
        return compare_with_waiting(tx, stamped);
    }
    books.journal_bytes += body.len() as u64;
    note_open_session(tx, &record.body)?;
    Ok(Verdict::Journaled)
}

/// Notes which sessions are open, so that the next start can end them after a crash.
fn note_open_session(tx: &Transaction<'_>, body: &Body) -> rusqlite::Result<()> {
    match body {
        Body::Start(start) => note_open(tx, start.session_id),
        Body::End(end) => {
            let mut close = tx.prepare_cached("DELETE FROM open_sessions WHERE session_id = ?1")?;
            close.execute([UuidText::new(end.session_id).as_str()]).map(drop)
        }
        Body::Update(_) | Body::Heartbeat(_) | Body::Message(_) | Body::Delete(_) | Body::DeleteUser(_) => {
            Ok(())
        }
    }
}

/// Notes that the session is open on this node: after a crash, the next start ends it.
pub(super) fn note_open(tx: &Transaction<'_>, session_id: SessionId) -> rusqlite::Result<()> {
    let mut open = tx.prepare_cached("INSERT OR IGNORE INTO open_sessions (session_id) VALUES (?1)")?;
    open.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// Compares the message with one of the same id and revision that is already in the journal.
fn compare_with_waiting(tx: &Transaction<'_>, stamped: &StampedMessage) -> rusqlite::Result<Verdict> {
    let sql = "SELECT seq, body, checksum FROM journal WHERE message_id = ?1 AND revision = ?2";
    let id = UuidText::new(stamped.id);
    let (_, waiting) =
        tx.prepare_cached(sql)?.query_row(params![id.as_str(), stamped.message.revision], read_record)?;
    let same = waiting
        .is_some_and(|record| record.message().is_some_and(|other| stamped.has_same_content(&other.message)));
    Ok(if same { Verdict::AlreadyThere } else { Verdict::Refused(NotDurable::IdConflict) })
}
