//! How the books change. Each change is made in the transaction that makes the change of the rows.

use talktrack_core::books::Books;
use talktrack_core::record::{EditedRows, Verdict};

/// Changes of the books.
pub(super) trait Bookkeeping {
    /// Counts messages that leave the journal because their session was deleted: as dead letters that were taken out
    /// again.
    fn count_purged(&mut self, messages: u64, bytes: u64);

    /// Counts records that leave the journal or are confirmed: messages that are stored, messages that are dead, and
    /// the bytes of all.
    fn leave_journal(&mut self, stored: u64, dead: u64, bytes: u64);

    /// Counts messages that the store has lost: they are pending again.
    fn return_to_journal(&mut self, messages: u64, bytes: u64);

    /// Counts the rows that an edit of the local store removed and wrote.
    fn count_edit(&mut self, edited: &EditedRows);

    /// Counts one message.
    fn count_message(&mut self, verdict: &Verdict);
}

impl Bookkeeping for Books {
    fn count_purged(&mut self, messages: u64, bytes: u64) {
        self.leave_journal(0, messages, bytes);
        self.letters_taken_out += messages;
    }

    fn leave_journal(&mut self, stored: u64, dead: u64, bytes: u64) {
        self.stored += stored;
        self.dead_lettered += dead;
        self.journal_bytes = self.journal_bytes.saturating_sub(bytes);
    }

    fn return_to_journal(&mut self, messages: u64, bytes: u64) {
        self.stored = self.stored.saturating_sub(messages);
        self.journal_bytes += bytes;
    }

    fn count_edit(&mut self, edited: &EditedRows) {
        let written = edited.inserted + edited.revised;
        self.durable += written;
        self.stored += written;
        self.inserted += edited.inserted;
        self.deleted += edited.removed.len() as u64;
    }

    fn count_message(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Inserted | Verdict::Reopened(_) => self.inserted += 1,
            Verdict::Revised { .. } | Verdict::AlreadyThere | Verdict::Dead(_) | Verdict::Journaled => {}
            Verdict::Started { .. }
            | Verdict::Updated
            | Verdict::Ended(_)
            | Verdict::StaysActive
            | Verdict::Waits
            | Verdict::Deleted(_)
            | Verdict::Expired(..)
            | Verdict::Edited(_)
            | Verdict::Refused(_) => {
                return;
            }
        }
        self.durable += 1;
        if *verdict != Verdict::Journaled {
            count_settled(self, matches!(verdict, Verdict::Dead(_)));
        }
    }
}

/// Counts a message whose result is known at once.
fn count_settled(books: &mut Books, dead: bool) {
    let total = if dead { &mut books.dead_lettered } else { &mut books.stored };
    *total += 1;
}
