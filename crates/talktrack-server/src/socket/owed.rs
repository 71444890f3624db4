//! What a connection still owes: an answer to each message that was accepted and is not yet durable.

use std::collections::VecDeque;

use talktrack::{Durability, NotDurable, Receipt};
use uuid::Uuid;

use crate::wire::{AckWriter, FrameRef, ServerFrame};

/// Acks in one frame: large enough to be cheap, small enough for the write buffer with the longest marks.
const MAX_ACKS: usize = 250;

/// More room than this is given back when nothing is owed.
const KEPT_CAPACITY: usize = 256;

/// In the order of acceptance. It cannot outgrow the queue: what is in neither the queue nor the journal's hands has its
/// answer, and answers go out before more is read.
#[derive(Debug, Default)]
pub(super) struct Owed(VecDeque<Debt>);

#[derive(Debug)]
struct Debt {
    seq: i64,
    /// The message's id. `None` for an update of the session, which is only answered when it fails.
    message_id: Option<Uuid>,
    reference: Option<FrameRef>,
}

impl Owed {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An ack is owed.
    pub(super) fn message(&mut self, receipt: &Receipt, reference: Option<FrameRef>) {
        self.0.push_back(Debt { seq: receipt.seq(), message_id: Some(receipt.id()), reference });
    }

    /// An error is owed, if it comes to that.
    pub(super) fn update(&mut self, receipt: &Receipt, reference: Option<FrameRef>) {
        self.0.push_back(Debt { seq: receipt.seq(), message_id: None, reference });
    }

    /// The next frame that can be sent: acks as far as they go, or one error, as `tell` has the caller know it.
    pub(super) fn next_frame(
        &mut self,
        durability: &Durability,
        tell: impl Fn(NotDurable) -> NotDurable,
    ) -> Option<String> {
        let mut acks = None;
        for _ in 0..MAX_ACKS {
            let Some(debt) = self.0.front() else { break };
            match durability.outcome(debt.seq) {
                None => break,
                Some(Err(_)) if acks.is_some() => break,
                Some(Err(why)) => return self.0.pop_front().map(|debt| error(debt, tell(why))),
                Some(Ok(())) => {
                    if let Some(id) = debt.message_id {
                        let expected = self.0.len().min(MAX_ACKS);
                        acks.get_or_insert_with(|| AckWriter::new(expected))
                            .push(id, debt.reference.as_ref());
                    }
                    self.0.pop_front();
                }
            }
        }
        if self.0.is_empty() && self.0.capacity() > KEPT_CAPACITY {
            self.0 = VecDeque::new();
        }
        acks.and_then(AckWriter::finish)
    }
}

fn error(debt: Debt, why: NotDurable) -> String {
    let (code, message, reference) = (why.code().to_owned(), why.to_string(), debt.reference);
    ServerFrame::Error { code, message, reference }.to_text()
}
