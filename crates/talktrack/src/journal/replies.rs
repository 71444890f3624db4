//! Replies to the callers that await more than a receipt: the result of a session that started, ended, or was deleted.

use std::collections::HashMap;

use talktrack_core::clock::Seq;
use talktrack_core::error::NotDurable;
use talktrack_core::record::{Body, DeletionCounts, Ended, Record, Verdict};
use tokio::sync::oneshot;

use crate::receipt::{DeletionSenders, Reply, Started};
use crate::store::EditedMessages;

/// The callers that wait for a remote store to confirm a deletion, by the `seq` of the deletion.
#[derive(Default)]
pub(super) struct PendingDeletions(HashMap<Seq, oneshot::Sender<Result<DeletionCounts, NotDurable>>>);

impl PendingDeletions {
    /// Replies to the caller. The caller may be gone; the record is durable all the same.
    pub(super) fn reply(
        &mut self,
        record: &Record,
        reply: Reply,
        verdict: &Verdict,
        edited: Option<EditedMessages>,
        is_remote: bool,
    ) {
        match reply {
            Reply::None => {}
            Reply::Started(caller) => _ = caller.send(start_result(record, verdict)),
            Reply::Ended(caller) => _ = caller.send(end_result(record, verdict)),
            Reply::Edited(caller) => _ = caller.send(edit_result(verdict, edited)),
            Reply::Deleted(DeletionSenders { here, in_store }) => {
                let is_refused = matches!(verdict, Verdict::Refused(_));
                let _ = here.send(deletion_result(verdict));
                if is_remote && !is_refused {
                    self.0.retain(|_, caller| !caller.is_closed());
                    self.0.insert(record.seq, in_store);
                } else {
                    let _ = in_store.send(Ok(DeletionCounts::default()));
                }
            }
        }
    }

    /// Replies when the remote store has answered for this record. If the store will never apply the deletion, the
    /// sender is dropped, so that the caller gets no confirmation.
    pub(super) fn resolve(&mut self, seq: Seq, verdict: &Verdict) {
        if let Some(caller) = self.0.remove(&seq)
            && !matches!(verdict, Verdict::Dead(_))
        {
            let _ = caller.send(deletion_result(verdict));
        }
    }
}

fn deletion_result(verdict: &Verdict) -> Result<DeletionCounts, NotDurable> {
    match verdict {
        Verdict::Deleted(removed) => Ok(*removed),
        Verdict::Edited(edited) => {
            Ok(DeletionCounts { messages: edited.removed.len() as u64, ..DeletionCounts::default() })
        }
        Verdict::Refused(why) => Err(*why),
        _ => Ok(DeletionCounts::default()),
    }
}

fn edit_result(verdict: &Verdict, edited: Option<EditedMessages>) -> Result<EditedMessages, NotDurable> {
    match verdict {
        Verdict::Refused(why) => Err(*why),
        _ => edited.ok_or(NotDurable::UnknownSession),
    }
}

fn start_result(record: &Record, verdict: &Verdict) -> Result<Started, NotDurable> {
    match (verdict, &record.body) {
        (Verdict::Started { resumed }, _) => Ok(Started { resumed: *resumed }),
        (Verdict::Refused(why), _) => Err(*why),
        // The remote store has not been asked yet. The reply is what this process knows.
        (_, Body::Start(start)) => Ok(Started { resumed: start.resumed }),
        _ => Err(NotDurable::UnknownSession),
    }
}

fn end_result(record: &Record, verdict: &Verdict) -> Result<Ended, NotDurable> {
    match (verdict, &record.body) {
        (Verdict::Ended(figures), _) => Ok(*figures),
        (Verdict::Refused(why), _) => Err(*why),
        (_, Body::End(end)) => end.known.ok_or(NotDurable::UnknownSession),
        _ => Err(NotDurable::UnknownSession),
    }
}
