//! One ack frame that is being filled.

use talktrack::{MessageId, SessionId};
use talktrack_protocol::{AckWriter, FrameRef};

/// The maximum number of acks in one frame. It is large enough to be cheap, and with the longest `ref` values such a
/// frame still fits into the write buffer.
const MAX_ACKS: usize = 250;

/// An ack frame that has at least this many bytes gets no more acks. Warnings can make acks long.
const FULL_FRAME: usize = 128 << 10;

/// The acks of one frame. It costs nothing until the first ack.
#[derive(Debug, Default)]
pub(super) struct AckBatch {
    acks: Option<AckWriter>,
    count: usize,
}

impl AckBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.acks.is_none()
    }

    /// True if no more acks fit into the frame.
    pub(super) fn is_full(&self) -> bool {
        self.count >= MAX_ACKS || self.acks.as_ref().is_some_and(|acks| acks.bytes() >= FULL_FRAME)
    }

    /// Adds a durable message. `pending` is the number of answers that are due or to come, which may all be acks.
    pub(super) fn push(
        &mut self,
        id: MessageId,
        reference: Option<&FrameRef>,
        session_id: Option<SessionId>,
        warnings: &[String],
        pending: usize,
    ) {
        self.count += 1;
        let acks = self.acks.get_or_insert_with(|| AckWriter::new(pending.min(MAX_ACKS)));
        acks.push(id, reference, session_id, warnings);
    }

    /// Returns the frame; `None` if it contains no acks.
    pub(super) fn finish(self) -> Option<String> {
        self.acks.and_then(AckWriter::finish)
    }
}
