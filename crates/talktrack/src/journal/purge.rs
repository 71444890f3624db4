//! What a deletion removes from the journal and the dead letters. This happens in the transaction that makes the
//! deletion durable, so that the text is gone even if the store fails.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{Body, DeletionCounts, Record, SessionDelete};

use crate::health::HealthState;
use crate::journal::bookkeeping::Bookkeeping as _;
use crate::journal::purged::PurgedRecords;
use crate::journal::scrub::{ScrubPass, Turn};
use crate::local::database::{self, UuidText, parse_id};
use crate::local::tables::journal::{self, DroppedRecord, WaitingCounts};
use crate::local::tables::{dead_letters, open_sessions, unerased};
use crate::store::DeletedSession;
use crate::store::sqlite::{self, DeletedMessages};
use crate::writer::RemoteDeletions;

/// A session, or only the records that were accepted for one user in it.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) session_id: SessionId,
    pub(super) owner: Option<UserId>,
}

impl Scope {
    /// The whole session.
    pub(super) fn whole_session(session_id: SessionId) -> Self {
        Self { session_id, owner: None }
    }

    /// The scope of a deletion that removed `removed`: the whole session if its row is gone, otherwise only the owner's
    /// records.
    pub(super) fn for_deletion(delete: &SessionDelete, removed: &DeletionCounts) -> Self {
        let owner = delete.owner.clone().filter(|_| removed.sessions == 0);
        Self { session_id: delete.session_id, owner }
    }
}

/// Removes the session's records from the journal, including the re-send window. Returns the number of messages that
/// waited for the store, and adds all removed records to `purged`.
pub(super) fn purge_waiting(
    tx: &Transaction<'_>,
    scope: &Scope,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<u64> {
    // First, because confirmed records have been counted as stored.
    let Scope { session_id, owner } = scope;
    let WaitingCounts { records: messages, bytes } =
        journal::count_pending_of_session(tx, *session_id, owner.as_ref())?;
    books.count_purged(messages, bytes);
    purged.add_records(journal::delete_of_session(tx, *session_id, owner.as_ref())?);
    // A session without records need not be ended after a crash.
    open_sessions::delete_without_records(tx, Some(UuidText::new(*session_id).as_str()))?;
    Ok(messages)
}

/// Deletes the dead letters of the session and returns their number. For all users, this includes letters whose bytes
/// are too damaged to name the session.
pub(super) fn purge_dead_letters(
    tx: &Transaction<'_>,
    scope: &Scope,
    books: &mut Books,
) -> rusqlite::Result<u64> {
    let letters = dead_letters::delete_of_session(tx, scope.session_id, scope.owner.as_ref())?;
    books.letters_taken_out += letters.messages;
    Ok(letters.all)
}

/// Deletes the dead letters of these messages of a session, and returns their number.
pub(super) fn purge_letters_of_messages(
    tx: &Transaction<'_>,
    session_id: SessionId,
    ids: &[MessageId],
    books: &mut Books,
) -> rusqlite::Result<u64> {
    let mut deleted = 0;
    for id in ids {
        deleted += dead_letters::delete_of_message(tx, session_id, *id)?;
    }
    books.letters_taken_out += deleted;
    Ok(deleted)
}

/// Applies a deletion that the store reported for this record's session: notes it in this file, and removes what the
/// file has of the session.
pub(super) fn apply_store_deletion(
    tx: &Transaction<'_>,
    seq: Seq,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    // There is no row if it was removed together with another record of its session.
    let session_id = journal::find_session_id(tx, seq)?;
    if let Some(session_id) = session_id.and_then(|text| parse_id(&text)) {
        forget_session(tx, session_id, None, books, purged)?;
        purged.add_claim(session_id, None);
    }
    Ok(())
}

/// Applies deletions that the store reported: removes from this file what it has of these sessions and messages.
pub(super) fn apply_store_deletions(
    tx: &Transaction<'_>,
    RemoteDeletions { sessions, messages }: &RemoteDeletions,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    for DeletedSession { session_id, user_id } in sessions {
        if forget_session(tx, *session_id, user_id.as_ref(), books, purged)? > 0 {
            purged.add_claim(*session_id, None);
        }
    }
    messages
        .iter()
        .try_for_each(|(session_id, id)| forget_message(tx, *session_id, *id, books, purged).map(drop))
}

/// Removes a message that was deleted by itself. Its records in the journal count as stored: the store had the message,
/// or would have had it.
pub(super) fn forget_message(
    tx: &Transaction<'_>,
    session_id: SessionId,
    message_id: MessageId,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<u64> {
    let WaitingCounts { records, bytes } = journal::count_pending_of_message(tx, session_id, message_id)?;
    books.leave_journal(records, 0, bytes);
    purged.add_records(journal::delete_of_message(tx, session_id, message_id)?);
    purged.add_letters(purge_letters_of_messages(tx, session_id, &[message_id], books)?);
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    sqlite::note_deleted_message(tx, session.as_str(), message.as_str())?;
    Ok(records)
}

/// Applies the store's confirmation of the deletion with this `seq`. If the session belonged to the user who deleted
/// it, no other user keeps anything of it: records that were accepted without that user's name are removed as well.
pub(super) fn confirm_deletion(
    tx: &Transaction<'_>,
    seq: Seq,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    match journal::find(tx, seq)?.map(|record| record.body) {
        Some(Body::Delete(delete)) if delete.is_permanent() && delete.owner.is_some() => {
            forget_session(tx, delete.session_id, delete.owner.as_ref(), books, purged).map(drop)
        }
        _ => Ok(()),
    }
}

/// Removes everything of a session that was deleted permanently. Returns the number of messages that waited for the
/// store.
fn forget_session(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user: Option<&UserId>,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<u64> {
    sqlite::note_deleted(tx, session_id, user)?;
    purged.add_letters(purge_dead_letters(tx, &Scope::whole_session(session_id), books)?);
    purge_waiting(tx, &Scope::whole_session(session_id), books, purged)
}

/// Drops one record that the store refuses because its user deleted the session or all data. No dead letter keeps its
/// text.
pub(super) fn drop_record(
    tx: &Transaction<'_>,
    seq: Seq,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    let Some(dropped) = remove_record(tx, seq, purged)? else { return Ok(()) };
    books.count_purged(u64::from(dropped.message_id.is_some()), dropped.bytes);
    if let Some(session_id) = dropped.session_id.as_deref().and_then(parse_id) {
        purged.add_claim(session_id, dropped.owner);
    }
    open_sessions::delete_without_records(tx, dropped.session_id.as_deref())
}

/// Drops a message that the store refuses because it was deleted, and notes the deletion in this file. The message
/// counts as stored: the store had it, or would have had it.
pub(super) fn drop_message(
    tx: &Transaction<'_>,
    seq: Seq,
    books: &mut Books,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<()> {
    let Some(dropped) = remove_record(tx, seq, purged)? else { return Ok(()) };
    let (Some(session_id), Some(message_id)) = (&dropped.session_id, &dropped.message_id) else {
        return Ok(());
    };
    books.leave_journal(1, 0, dropped.bytes);
    sqlite::note_deleted_message(tx, session_id, message_id)
}

fn remove_record(
    tx: &Transaction<'_>,
    seq: Seq,
    purged: &mut PurgedRecords,
) -> rusqlite::Result<Option<DroppedRecord>> {
    let dropped = journal::drop_record(tx, seq)?;
    if let Some(DroppedRecord { seq, message_id, .. }) = &dropped {
        purged.add_record(*seq, message_id.as_deref().and_then(parse_id));
    }
    Ok(dropped)
}

/// The claims that are known to be deleted or not. Each is queried once per batch.
#[derive(Default)]
pub(super) struct TombstoneCache {
    claims: HashMap<(SessionId, Option<UserId>), bool>,
    messages: DeletedMessages,
}

impl TombstoneCache {
    /// True if the session was deleted for this user, so that the record comes too late.
    pub(super) fn is_refused(
        &mut self,
        connection: &Connection,
        session_id: SessionId,
        owner: Option<&UserId>,
    ) -> rusqlite::Result<bool> {
        let claim = (session_id, owner.cloned());
        if let Some(known) = self.claims.get(&claim) {
            return Ok(*known);
        }
        let is_refused = sqlite::is_refused(connection, session_id, owner)?;
        self.claims.insert(claim, is_refused);
        Ok(is_refused)
    }

    /// True if this file has noted that the message was deleted.
    pub(super) fn is_deleted(&mut self, connection: &Connection, record: &Record) -> rusqlite::Result<bool> {
        let message = record.message().map(|stamped| (record.session_id(), stamped.id));
        message.map_or(Ok(false), |(session_id, id)| self.messages.contains(connection, session_id, id))
    }

    /// Clears the cache, because a deletion may have changed the answers.
    pub(super) fn clear(&mut self) {
        self.claims.clear();
        self.messages = DeletedMessages::default();
    }
}

/// The pause after a reader blocked the eraser, and between two turns.
const PAUSE: Duration = Duration::from_millis(200);
/// The time budget of a turn: right after a deletion or while the journal is idle, and while batches arrive.
const TURNS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_millis(25));

/// Removes deleted data from the files: checkpoints and truncates the WAL, and overwrites the remains in the database
/// file ([`ScrubPass`]). Work that takes long, or that a reader blocks, continues between commits. The sweeper wakes the
/// journal for it.
#[derive(Default)]
pub(super) struct Scrubber {
    tried: Option<Instant>,
    pass: Option<ScrubPass>,
}

impl Scrubber {
    /// Starts after a deletion.
    pub(super) fn start(&mut self, connection: &Connection, health: &HealthState) {
        health.set_needs_scrub(true);
        self.run_turn(connection, health, TURNS.0);
    }

    /// Starts if an earlier process did not finish.
    pub(super) fn resume_unfinished(
        &mut self,
        connection: &Connection,
        health: &HealthState,
    ) -> rusqlite::Result<()> {
        if unerased::has_row(connection)? {
            self.start(connection, health);
        }
        Ok(())
    }

    /// Continues if a turn is due. Never waits for a lock.
    pub(super) fn continue_if_due(&mut self, connection: &Connection, health: &HealthState, is_idle: bool) {
        let is_due = self.tried.is_none_or(|tried| tried.elapsed() >= PAUSE);
        if health.needs_scrub() && is_due && connection.busy_timeout(Duration::ZERO).is_ok() {
            self.run_turn(connection, health, if is_idle { TURNS.0 } else { TURNS.1 });
            let _ = connection.busy_timeout(database::BUSY);
        }
    }

    fn run_turn(&mut self, connection: &Connection, health: &HealthState, budget: Duration) {
        let turned = self.try_turn(connection, budget);
        self.tried = Some(Instant::now());
        match turned {
            Ok(Turn::Done) => {
                self.pass = None;
                // If this fails, the next start scrubs the file once more.
                let _ = unerased::delete(connection);
                health.set_needs_scrub(false);
            }
            Ok(Turn::More | Turn::Blocked) => {}
            Err(error) => tracing::debug!(%error, "cannot overwrite deleted content; trying again later"),
        }
    }

    fn try_turn(&mut self, connection: &Connection, budget: Duration) -> rusqlite::Result<Turn> {
        let pass = match &mut self.pass {
            Some(pass) => pass,
            None => self.pass.insert(ScrubPass::start(connection)?),
        };
        pass.run_turn(connection, budget)
    }
}
