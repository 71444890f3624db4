//! The pending answers of a connection: one for each accepted message that is not durable yet.

use std::collections::VecDeque;
use talktrack::clock::Seq;

use talktrack::{Durability, MessageId, NotDurable, Receipt, RecordReceipt};
use talktrack_protocol::{FrameRef, ServerFrame, Warnings};

use super::ack_batch::AckBatch;

/// Capacity above this is freed when no answers are pending.
const KEPT_CAPACITY: usize = 256;

/// The pending answers in the order of acceptance. There are never more than the queue and the journal hold: every
/// other record has its outcome, and answers are sent before more frames are read.
#[derive(Debug, Default)]
pub(super) struct PendingAcks(VecDeque<PendingAck>);

#[derive(Debug)]
struct PendingAck {
    seq: Seq,
    /// The id of the message; `None` for an update of the session, which is answered only if it fails.
    message_id: Option<MessageId>,
    reference: Option<FrameRef>,
    warnings: Vec<String>,
}

impl PendingAcks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an accepted message, which will be answered with an ack or an error.
    pub(super) fn push_message(
        &mut self,
        receipt: &Receipt,
        reference: Option<FrameRef>,
        warnings: Warnings,
    ) {
        let warnings = warnings.into_texts();
        self.0.push_back(PendingAck {
            seq: receipt.seq(),
            message_id: Some(receipt.id()),
            reference,
            warnings,
        });
    }

    /// Adds an accepted update of the session, which will be answered only if it fails.
    pub(super) fn push_update(&mut self, receipt: &RecordReceipt, reference: Option<FrameRef>) {
        let warnings = Vec::new();
        self.0.push_back(PendingAck { seq: receipt.seq(), message_id: None, reference, warnings });
    }

    /// Returns the next frame to send: as many acks as are ready, or one error. `tell` converts a reason to what the
    /// caller may know.
    pub(super) fn next_frame(
        &mut self,
        durability: &Durability,
        tell: impl Fn(NotDurable) -> NotDurable,
    ) -> Option<String> {
        let mut acks = AckBatch::default();
        while !acks.is_full()
            && let Some(ack) = self.0.front()
        {
            match durability.outcome(ack.seq) {
                None => break,
                Some(Err(_)) if !acks.is_empty() => break,
                Some(Err(why)) => return self.0.pop_front().map(|ack| error_frame(ack, tell(why))),
                Some(Ok(())) => {
                    if let Some(id) = ack.message_id {
                        acks.push(id, ack.reference.as_ref(), None, &ack.warnings, self.0.len());
                    }
                    self.0.pop_front();
                }
            }
        }
        if self.0.is_empty() && self.0.capacity() > KEPT_CAPACITY {
            self.0 = VecDeque::new();
        }
        acks.finish()
    }
}

fn error_frame(ack: PendingAck, why: NotDurable) -> String {
    let code = why.code().to_string();
    let message = why.to_string();
    let reference = ack.reference;
    ServerFrame::Error { code, message, reference, session_id: None }.to_text()
}
