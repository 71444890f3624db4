//! Records that left the journal because their content was deleted.

use talktrack_core::clock::Seq;
use talktrack_core::ids::{MessageId, SessionId, UserId};

use crate::local::tables::journal::RemovedRecord;
use crate::receipt::Progress;

/// What one transaction removes from the journal because of deletions.
#[derive(Debug, Default)]
pub(super) struct PurgedRecords {
    seqs: Vec<Seq>,
    messages: Vec<MessageId>,
    /// Sessions, each with the user for whom the records were accepted, or `None` for all users.
    claims: Vec<(SessionId, Option<UserId>)>,
    /// True if dead letters were removed as well.
    has_letters: bool,
}

impl PurgedRecords {
    pub(super) fn add_records(&mut self, removed: Vec<RemovedRecord>) {
        removed.into_iter().for_each(|RemovedRecord { seq, message_id }| self.add_record(seq, message_id));
    }

    pub(super) fn add_record(&mut self, seq: Seq, message_id: Option<MessageId>) {
        self.seqs.push(seq);
        self.messages.extend(message_id);
    }

    /// Adds a claim whose acknowledged records the store refused.
    pub(super) fn add_claim(&mut self, session_id: SessionId, owner: Option<UserId>) {
        let claim = (session_id, owner);
        if self.claims.last() != Some(&claim) {
            self.claims.push(claim);
        }
    }

    /// Notes how many dead letters were removed.
    pub(super) fn add_letters(&mut self, letters: u64) {
        self.has_letters |= letters > 0;
    }

    /// True if nothing with text was removed.
    pub(super) fn is_empty(&self) -> bool {
        self.seqs.is_empty() && !self.has_letters
    }

    /// Tells the receipts that these records will never be stored. Call it before the commit, so that a reader who
    /// misses a record in the journal knows why. `up_to` is the highest `seq` that a receipt of one of these messages
    /// can have.
    pub(super) fn announce_records(&self, progress: &Progress, up_to: Seq) {
        progress.note_dropped(&self.seqs, &self.messages, up_to);
    }

    /// Notifies the connections whose acknowledged records the store refused. Call it after the commit.
    pub(super) fn announce_claims(&self, progress: &Progress) {
        if !self.claims.is_empty() {
            progress.note_dropped_claims(&self.claims);
        }
    }

    /// Adds what another part of the transaction removed.
    pub(super) fn extend(&mut self, more: Self) {
        self.seqs.extend(more.seqs);
        self.messages.extend(more.messages);
        self.claims.extend(more.claims);
        self.has_letters |= more.has_letters;
    }

    /// Returns the `seq`s of the records in ascending order.
    pub(super) fn into_seqs(self) -> Vec<Seq> {
        let mut seqs = self.seqs;
        seqs.sort_unstable();
        seqs
    }
}
