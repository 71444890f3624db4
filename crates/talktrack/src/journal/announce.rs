//! After a commit: tells the receipts, the callers that await a result, the tracker and the log what became of each
//! record.

use std::collections::HashMap;

use talktrack_core::clock::Seq;
use talktrack_core::error::NotDurable;
use talktrack_core::record::{DeadReason, Verdict};

use crate::event_log;
use crate::journal::{Entry, Journal};
use crate::metric_handles::count_outcome;
use crate::store::EditedMessages;
use crate::writer::{LaneReport, Settled};

impl Journal {
    /// Announces what the store answered. The store may refuse a durable session start because the session belongs to
    /// another user: the claim is then void.
    pub(super) fn announce_settled(&mut self, answers: &[LaneReport]) {
        for answer in answers {
            let LaneReport::Settled { records, .. } = answer else { continue };
            for Settled { seq, is_message, verdict, .. } in records {
                self.deletions.resolve(*seq, verdict);
                match verdict {
                    Verdict::Refused(why) => self.shared.progress.note_late_refusal(*seq, *why),
                    Verdict::Dead(DeadReason::DeletedMessage) => {
                        self.shared.health.count_refusal(NotDurable::Deleted.code());
                    }
                    // A message stays acknowledged, so its receipt is not changed.
                    Verdict::Dead(DeadReason::DeletedForUser) if !is_message => {
                        self.shared.progress.note_late_refusal(*seq, NotDurable::Deleted);
                    }
                    _ => {}
                }
                self.note_reopened(verdict);
            }
        }
    }

    fn note_reopened(&self, verdict: &Verdict) {
        if let Verdict::Reopened(reopened) = verdict {
            self.shared.reopened.lock().push(reopened.clone());
        }
    }

    /// Announces to the receipts first, because a caller may wait for them, then to the callers that await a result,
    /// then to the log.
    pub(super) fn announce(
        &mut self,
        batch: &mut [Entry],
        verdicts: &[Verdict],
        mut edits: HashMap<Seq, EditedMessages>,
    ) {
        for (entry, verdict) in batch.iter().zip(verdicts) {
            self.note_reopened(verdict);
            if let Verdict::Refused(why) = verdict {
                self.shared.progress.note_refusal(entry.record.seq, *why);
                if entry.record.message().is_some() {
                    self.shared.health.count_refusal(why.code());
                }
            }
        }
        if let Some(last) = batch.last() {
            self.shared.progress.advance_watermark(last.record.seq);
        }
        let is_remote = self.outbox.is_some();
        for (entry, verdict) in batch.iter_mut().zip(verdicts) {
            let reply = std::mem::take(&mut entry.reply);
            let edited = edits.remove(&entry.record.seq);
            self.deletions.reply(&entry.record, reply, verdict, edited, is_remote);
            // With a remote store, the writer logs and counts the deletion.
            if !(is_remote && matches!(verdict, Verdict::Deleted(_))) {
                event_log::log_verdict(&entry.record, verdict);
                count_outcome(&entry.record, verdict);
            }
        }
    }
}
