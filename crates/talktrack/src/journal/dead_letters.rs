//! The dead letters, which the journal keeps in its own file.

use rusqlite::Transaction;
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock, Seq, SystemClock};
use talktrack_core::record::{Body, Record, Verdict};
use tokio::sync::oneshot;

use crate::journal::bookkeeping::Bookkeeping as _;
use crate::journal::purge::{self, Scope};
use crate::local::tables::dead_letters::{self, NewLetter};

/// Deletes dead letters that were replayed and are durable again, or that an operator dropped. The journal's thread is
/// the only one that writes the file. It runs this maintenance task in its next transaction.
#[derive(Debug)]
pub(crate) struct DeleteDeadLetters {
    pub(crate) letters: Vec<Seq>,
    /// Receives the dead letters that existed. The caller may be gone.
    pub(crate) done: oneshot::Sender<Vec<Seq>>,
}

impl DeleteDeadLetters {
    /// Deletes the letters and returns those that existed.
    pub(super) fn run(&self, tx: &Transaction<'_>, books: &mut Books) -> rusqlite::Result<Vec<Seq>> {
        let mut taken_out = Vec::with_capacity(self.letters.len());
        for seq in &self.letters {
            let was_message = dead_letters::delete(tx, *seq)?;
            books.letters_taken_out += u64::from(was_message == Some(true));
            taken_out.extend(was_message.map(|_| *seq));
        }
        Ok(taken_out)
    }
}

/// Counts a message in the books, and writes a dead letter in the same transaction if the message is dead. For a
/// deletion, deletes the dead letters of the session or of the removed messages.
pub(super) fn apply_verdict(
    tx: &Transaction<'_>,
    record: &Record,
    verdict: &mut Verdict,
    books: &mut Books,
) -> rusqlite::Result<()> {
    if let (Body::Delete(delete), Verdict::Deleted(removed)) = (&record.body, &mut *verdict) {
        books.deleted += removed.messages;
        removed.dead_letters = purge::purge_dead_letters(tx, &Scope::for_deletion(delete, removed), books)?;
    }
    if let Verdict::Edited(edited) = verdict {
        books.count_edit(edited);
        purge::purge_letters_of_messages(tx, record.session_id(), &edited.removed, books)?;
    }
    let Some(stamped) = record.message() else { return Ok(()) };
    books.count_message(verdict);
    let Verdict::Dead(reason) = verdict else { return Ok(()) };
    let body = serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let session_id = record.session_id().to_string();
    let message_id = stamped.id.to_string();
    let letter = NewLetter {
        seq: record.seq,
        session_id: Some(&session_id),
        message_id: Some(&message_id),
        reason,
        body: &body,
        died_at: SystemClock.now(),
    };
    dead_letters::insert(tx, &letter)
}
