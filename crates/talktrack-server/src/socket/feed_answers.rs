//! The pending answers of a feed, in the order of acceptance.

use std::collections::VecDeque;

use talktrack::Durability;

use super::ack_batch::AckBatch;
use crate::feed::{Feed, Pending};

/// How many answers may wait that neither the queue nor the disk bounds.
const MAX_UNBOUNDED: usize = 256;

/// Pending answers. Messages, updates and starts are bounded by the queue and the journal.
#[derive(Default)]
pub(super) struct FeedAnswers {
    pending: VecDeque<Pending>,
    unbounded: usize,
}

impl FeedAnswers {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// True if no more frames may be read before the pending answers are sent.
    pub(super) fn are_too_many(&self) -> bool {
        self.unbounded >= MAX_UNBOUNDED
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.unbounded += usize::from(pending.is_unbounded());
        self.pending.push_back(pending);
    }

    fn pop(&mut self) -> Option<Pending> {
        let pending = self.pending.pop_front()?;
        self.unbounded -= usize::from(pending.is_unbounded());
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
        Some(pending)
    }

    /// Returns the next frame to send: as many acks as are due, or one other answer. An update is answered only if it
    /// fails.
    pub(super) async fn next_frame(
        &mut self,
        feed: &mut Feed,
        durability: &mut Durability,
    ) -> Option<String> {
        let mut acks = AckBatch::default();
        while !acks.is_full()
            && let Some(front) = self.pending.front()
        {
            let outcome = front.seq().map_or(Some(Ok(())), |seq| durability.outcome(seq));
            match (outcome, front.message()) {
                (None, _) => break,
                (Some(Ok(())), Some((id, warnings))) => {
                    let (session_id, reference) = front.subject();
                    acks.push(id, reference, Some(session_id), warnings, self.pending.len());
                    self.pop();
                }
                (Some(Ok(())), None) if front.is_update() => _ = self.pop(),
                _ if !acks.is_empty() => break,
                // What the frame asked for has its outcome, so this does not wait.
                _ => return Some(self.pop()?.answer(feed, durability).await.to_text()),
            }
        }
        acks.finish()
    }
}
