//! Replies to the callers that await more than a receipt: the result of a session that started, ended, or was deleted.

use std::collections::HashMap;

use tokio::sync::oneshot;

use crate::clock::Seq;
use crate::error::NotDurable;
use crate::receipt::{Deleting, Reply, Started};
use crate::record::{Body, Ended, Record, Removed, Verdict};

/// The callers that wait for a remote store to confirm a deletion, by the `seq` of the deletion.
#[derive(Default)]
pub(super) struct Deletions(HashMap<Seq, oneshot::Sender<Result<Removed, NotDurable>>>);

impl Deletions {
    /// Replies to the caller. The caller may be gone; the record is durable all the same.
    pub(super) fn answer(&mut self, record: &Record, reply: Reply, verdict: &Verdict, is_remote: bool) {
        match reply {
            Reply::None => {}
            Reply::Started(asker) => _ = asker.send(started(record, verdict)),
            Reply::Ended(asker) => _ = asker.send(ended(record, verdict)),
            Reply::Deleted(Deleting { here, in_store }) => {
                let is_refused = matches!(verdict, Verdict::Refused(_));
                let _ = here.send(deleted(verdict));
                if is_remote && !is_refused {
                    self.0.retain(|_, asker| !asker.is_closed());
                    self.0.insert(record.seq, in_store);
                } else {
                    let _ = in_store.send(Ok(Removed::default()));
                }
            }
        }
    }

    /// Replies when the remote store has answered for this record. If the store will never apply the deletion, the
    /// sender is dropped, so that the caller gets no confirmation.
    pub(super) fn settle(&mut self, seq: Seq, verdict: &Verdict) {
        if let Some(asker) = self.0.remove(&seq)
            && !matches!(verdict, Verdict::Dead(_))
        {
            let _ = asker.send(deleted(verdict));
        }
    }
}

fn deleted(verdict: &Verdict) -> Result<Removed, NotDurable> {
    match verdict {
        Verdict::Deleted(removed) => Ok(*removed),
        Verdict::Refused(why) => Err(*why),
        _ => Ok(Removed::default()),
    }
}

fn started(record: &Record, verdict: &Verdict) -> Result<Started, NotDurable> {
    match (verdict, &record.body) {
        (Verdict::Started { resumed }, _) => Ok(Started { resumed: *resumed }),
        (Verdict::Refused(why), _) => Err(*why),
        // The remote store has not been asked yet. The reply is what this process knows.
        (_, Body::Start(start)) => Ok(Started { resumed: start.resumed }),
        _ => Err(NotDurable::UnknownSession),
    }
}

fn ended(record: &Record, verdict: &Verdict) -> Result<Ended, NotDurable> {
    match (verdict, &record.body) {
        (Verdict::Ended(figures), _) => Ok(*figures),
        (Verdict::Refused(why), _) => Err(*why),
        (_, Body::End(end)) => end.known.ok_or(NotDurable::UnknownSession),
        _ => Err(NotDurable::UnknownSession),
    }
}
