//! Appends new records to the journal of a remote store's outbox.

use rusqlite::Transaction;
use talktrack_core::books::Books;
use talktrack_core::error::NotDurable;
use talktrack_core::record::{Body, DeletionCounts, Record, SessionDelete, StampedMessage, Verdict};

use crate::journal::edits;
use crate::journal::purge::{self, Scope, TombstoneCache};
use crate::journal::purged::PurgedRecords;
use crate::local::tables::journal::{self, RecordInserter};
use crate::local::tables::open_sessions;
use crate::store::sqlite;
use crate::writer::Writer;

/// Writes the records to the table `journal`. Returns a verdict for each, including those that need no row.
pub(super) fn append<'a>(
    tx: &Transaction<'_>,
    records: impl Iterator<Item = &'a Record>,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<Vec<Verdict>> {
    let mut inserter = RecordInserter::prepare(tx)?;
    let mut tombstones = TombstoneCache::default();
    let mut verdict = |record: &Record| match &record.body {
        Body::Delete(delete) => {
            append_record(tx, &mut inserter, record, books)?;
            delete_from_journal(tx, delete, books, &mut tombstones, purged)
        }
        Body::EditMessages(edit) if !tombstones.is_refused(tx, edit.session_id, edit.owner.as_ref())? => {
            let (edit, verdict) = edits::edit_journal(tx, record.seq, edit, books, purged)?;
            tombstones.clear();
            let record = Record { body: Body::EditMessages(edit), ..record.clone() };
            append_record(tx, &mut inserter, &record, books)?;
            Ok(verdict)
        }
        Body::DeleteUser(_) => {
            append_record(tx, &mut inserter, record, books)?;
            Ok(Verdict::Deleted(DeletionCounts::default()))
        }
        _ if tombstones.is_refused(tx, record.session_id(), record.owner())?
            || tombstones.is_deleted(tx, record)? =>
        {
            Ok(Verdict::Refused(NotDurable::Deleted))
        }
        _ => append_record(tx, &mut inserter, record, books),
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
    inserter: &mut RecordInserter<'_>,
    record: &Record,
    books: &mut Books,
) -> rusqlite::Result<Verdict> {
    let Some(bytes) = inserter.insert(record, Writer::lane_of(record))? else {
        // Only messages can be there already.
        return record.message().map_or(Ok(Verdict::Journaled), |stamped| compare_with_waiting(tx, stamped));
    };
    books.journal_bytes += bytes;
    note_open_session(tx, &record.body)?;
    Ok(Verdict::Journaled)
}

/// Notes which sessions are open, so that the next start can end them after a crash.
fn note_open_session(tx: &Transaction<'_>, body: &Body) -> rusqlite::Result<()> {
    match body {
        Body::Start(start) => open_sessions::insert(tx, start.session_id),
        Body::End(end) => open_sessions::delete(tx, end.session_id),
        Body::Update(_)
        | Body::Heartbeat(_)
        | Body::Message(_)
        | Body::EditMessages(_)
        | Body::Delete(_)
        | Body::DeleteUser(_) => Ok(()),
    }
}

/// Compares the message with one of the same id and revision that is already in the journal.
fn compare_with_waiting(tx: &Transaction<'_>, stamped: &StampedMessage) -> rusqlite::Result<Verdict> {
    let waiting = journal::read_revision(tx, stamped.id, stamped.message.revision)?;
    let same = waiting
        .is_some_and(|record| record.message().is_some_and(|other| stamped.has_same_content(&other.message)));
    Ok(if same { Verdict::AlreadyThere } else { Verdict::Refused(NotDurable::IdConflict) })
}
