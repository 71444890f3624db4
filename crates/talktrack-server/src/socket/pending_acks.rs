//! The pending answers of a connection: one for each accepted message that is not durable yet.

use std::collections::VecDeque;
use talktrack::clock::Seq;

use talktrack::{Durability, MessageId, NotDurable, Receipt, RecordReceipt};
use talktrack_protocol::{AckWriter, FrameRef, ServerFrame, Warnings};

/// The maximum number of acks in one frame. It is large enough to be cheap, and with the longest `ref` values such a
/// frame still fits into the write buffer.
const MAX_ACKS: usize = 250;

/// An ack frame that has at least this many bytes gets no more acks. Warnings can make acks long.
const FULL_FRAME: usize = 128 << 10;

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
        let mut acks: Option<AckWriter> = None;
        for _ in 0..MAX_ACKS {
            let Some(ack) = self.0.front() else { break };
            if acks.as_ref().is_some_and(|acks| acks.bytes() >= FULL_FRAME) {
                break;
            }
            match durability.outcome(ack.seq) {
                None => break,
                Some(Err(_)) if acks.is_some() => break,
                Some(Err(why)) => return self.0.pop_front().map(|ack| error_frame(ack, tell(why))),
                Some(Ok(())) => {
                    if let Some(id) = ack.message_id {
                        let expected = self.0.len().min(MAX_ACKS);
                        let acks = acks.get_or_insert_with(|| AckWriter::new(expected));
                        acks.push(id, ack.reference.as_ref(), &ack.warnings);
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

fn error_frame(ack: PendingAck, why: NotDurable) -> String {
    let code = why.code().to_string();
    let message = why.to_string();
    let reference = ack.reference;
    ServerFrame::Error { code, message, reference }.to_text()
}
