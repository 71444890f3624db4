//! Records that left the journal because what they say was deleted.

use rusqlite::Row;
use uuid::Uuid;

use crate::clock::Seq;
use crate::database::{column_or_null, parse_uuid};
use crate::receipt::Progress;

/// What one transaction takes out of the journal for deletions.
#[derive(Debug, Default)]
pub(super) struct Gone {
    seqs: Vec<Seq>,
    messages: Vec<Uuid>,
    /// Sessions, and the user for whom the records were accepted: `None` for all users.
    claims: Vec<(Uuid, Option<Uuid>)>,
    /// Dead letters went with them.
    has_letters: bool,
}

impl Gone {
    /// Adds a record, from a row that begins with its `seq` and `message_id`.
    pub(super) fn add_row(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.add(row.get(0)?, column_or_null(row, 1, parse_uuid)?);
        Ok(())
    }

    pub(super) fn add(&mut self, seq: Seq, message_id: Option<Uuid>) {
        self.seqs.push(seq);
        self.messages.extend(message_id);
    }

    /// The store refused records of this claim that were acknowledged.
    pub(super) fn add_claim(&mut self, session_id: Uuid, owner: Option<Uuid>) {
        if self.claims.last() != Some(&(session_id, owner)) {
            self.claims.push((session_id, owner));
        }
    }

    /// So many dead letters went with the records.
    pub(super) fn add_letters(&mut self, letters: u64) {
        self.has_letters |= letters > 0;
    }

    /// True if nothing was taken out that had text.
    pub(super) fn is_empty(&self) -> bool {
        self.seqs.is_empty() && !self.has_letters
    }

    /// Tells receipts that these records will never be stored: before the commit, so that a reader who finds a record gone from the
    /// journal knows why. `up_to` is the highest `seq` that a receipt of one of these messages can have.
    pub(super) fn announce_records(&self, progress: &Progress, up_to: Seq) {
        progress.note_dropped(&self.seqs, &self.messages, up_to);
    }

    /// Tells connections whose acknowledged records the store refused. After the commit.
    pub(super) fn announce_claims(&self, progress: &Progress) {
        if !self.claims.is_empty() {
            progress.note_dropped_claims(&self.claims);
        }
    }

    /// Adds what another part of the transaction took out.
    pub(super) fn extend(&mut self, more: Self) {
        self.seqs.extend(more.seqs);
        self.messages.extend(more.messages);
        self.claims.extend(more.claims);
        self.has_letters |= more.has_letters;
    }

    /// The places of the records, in ascending order.
    pub(super) fn into_seqs(self) -> Vec<Seq> {
        let mut seqs = self.seqs;
        seqs.sort_unstable();
        seqs
    }
}
