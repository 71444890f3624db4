//! After a commit: receipts, those who asked for figures, the tracker and the log learn what became of each record.

use crate::books::count_deletion;
use crate::error::NotDurable;
use crate::journal::{Entry, Journal};
use crate::lines;
use crate::record::{DeadReason, Verdict};
use crate::writer::{Answer, Settled};

impl Journal {
    /// The store may find out later that a session is another user's: the claim to it falls.
    pub(super) fn announce_settled(&mut self, answers: &[Answer]) {
        for answer in answers {
            let Answer::Settled { records, .. } = answer else { continue };
            for Settled { seq, is_message, verdict, .. } in records {
                self.deletions.settle(*seq, verdict);
                match verdict {
                    Verdict::Refused(why) => self.shared.progress.refuse_durable(*seq, *why),
                    Verdict::Dead(DeadReason::DeletedMessage) => {
                        self.shared.vitals.count_refusal(NotDurable::Deleted.code());
                    }
                    // A message was acknowledged, and stays so.
                    Verdict::Dead(DeadReason::DeletedForUser) if !is_message => {
                        self.shared.progress.refuse_durable(*seq, NotDurable::Deleted);
                    }
                    _ => {}
                }
                self.note_reopened(verdict);
            }
        }
    }

    fn note_reopened(&self, verdict: &Verdict) {
        if let Verdict::Reopened(reopened) = verdict {
            self.shared.reopened.lock().push(*reopened);
        }
    }

    /// Tells receipts first (somebody may wait), then those who asked for figures, then the log.
    pub(super) fn announce(&mut self, batch: &mut [Entry], verdicts: &[Verdict]) {
        for (entry, verdict) in batch.iter().zip(verdicts) {
            self.note_reopened(verdict);
            if let Verdict::Refused(why) = verdict {
                self.shared.progress.refuse(entry.record.seq, *why);
                if entry.record.message().is_some() {
                    self.shared.vitals.count_refusal(why.code());
                }
            }
        }
        if let Some(last) = batch.last() {
            self.shared.progress.answer_up_to(last.record.seq);
        }
        let is_remote = self.outbox.is_some();
        for (entry, verdict) in batch.iter_mut().zip(verdicts) {
            let reply = std::mem::take(&mut entry.reply);
            self.deletions.answer(&entry.record, reply, verdict, is_remote);
            // Of a remote store the writer tells.
            if !(is_remote && matches!(verdict, Verdict::Deleted(_))) {
                lines::stored(&entry.record, verdict);
                count_deletion(&entry.record, verdict);
            }
        }
    }
}
