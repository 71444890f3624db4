//! The pending answers of a connection: one for each accepted message that is not durable yet.

use std::collections::VecDeque;
use talktrack::clock::Seq;

use talktrack::{Durability, MessageId, NotDurable, Receipt, RecordReceipt};
use talktrack_protocol::{AckWriter, FrameRef, ServerFrame};

/// The maximum number of acks in one frame. It is large enough to be cheap, and with the longest `ref` values such a
/// frame still fits into the write buffer.
const MAX_ACKS: usize = 250;

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
}

impl PendingAcks {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an accepted message, which will be answered with an ack or an error.
    pub(super) fn push_message(&mut self, receipt: &Receipt, reference: Option<FrameRef>) {
        self.0.push_back(PendingAck { seq: receipt.seq(), message_id: Some(receipt.id()), reference });
    }

    /// Adds an accepted update of the session, which will be answered only if it fails.
    pub(super) fn push_update(&mut self, receipt: &RecordReceipt, reference: Option<FrameRef>) {
        self.0.push_back(PendingAck { seq: receipt.seq(), message_id: None, reference });
    }

    /// Returns the next frame to send: as many acks as are ready, or one error. `tell` converts a reason to what the
    /// caller may know.
    pub(super) fn next_frame(
        &mut self,
        durability: &Durability,
        tell: impl Fn(NotDurable) -> NotDurable,
    ) -> Option<String> {
        let mut acks = None;
        for _ in 0..MAX_ACKS {
            let Some(ack) = self.0.front() else { break };
            match durability.outcome(ack.seq) {
                None => break,
                Some(Err(_)) if acks.is_some() => break,
                Some(Err(why)) => return self.0.pop_front().map(|ack| error_frame(ack, tell(why))),
                Some(Ok(())) => {
                    if let Some(id) = ack.message_id {
                        let expected = self.0.len().min(MAX_ACKS);
                        acks.get_or_insert_with(|| AckWriter::new(expected)).push(id, ack.reference.as_ref());
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
