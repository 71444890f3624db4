//! Follows what the store says about the records of one claim after they were durable.

use std::sync::Arc;

use talktrack_core::clock::Seq;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{SessionId, UserId};
use tokio::sync::watch;

use crate::receipt::{Progress, voids_claim};

/// Follows what a remote store may refuse after it was durable: a session start, and with it the claim to the session,
/// or records of the session.
#[derive(Debug, Clone)]
pub struct Claim {
    progress: Arc<Progress>,
    refusals: watch::Receiver<u64>,
    seq: Seq,
    session_id: SessionId,
    user_id: UserId,
    /// The number of drops in this claim at the last look.
    dropped: u64,
}

/// What a remote store refused after it was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// The start, for this reason. The claim to the session is void.
    Start(NotDurable),
    /// Acknowledged records, because the session or its user was deleted by SQL or on another node.
    Records,
}

impl Claim {
    pub(super) fn new(progress: &Arc<Progress>, seq: Seq, session_id: SessionId, user_id: UserId) -> Self {
        let refusals = progress.refused_by_store.subscribe();
        let dropped = progress.dropped.lock().count_drops(session_id, &user_id);
        Self { progress: Arc::clone(progress), refusals, seq, session_id, user_id, dropped }
    }

    /// Waits until the store refuses the claim or records of it. If the store never does, this never returns.
    pub async fn wait_for_refusal(&mut self) -> ClaimRefusal {
        loop {
            self.refusals.borrow_and_update();
            if let Some(refusal) = self.find_refusal() {
                return refusal;
            }
            // The sender lives in `self.progress`, so an error is impossible.
            let _ = self.refusals.changed().await;
        }
    }

    /// Returns what the store has refused since the last call, if anything.
    pub fn find_refusal(&mut self) -> Option<ClaimRefusal> {
        if let Some(Err(why)) = self.progress.outcome_of(self.seq)
            && voids_claim(why)
        {
            return Some(ClaimRefusal::Start(why));
        }
        let dropped = self.progress.dropped.lock().count_drops(self.session_id, &self.user_id);
        (dropped > std::mem::replace(&mut self.dropped, dropped)).then_some(ClaimRefusal::Records)
    }
}

/// Follows the refusals of a remote store as a whole. See [`Tracker::refusals`](crate::Tracker::refusals).
#[derive(Debug, Clone)]
pub struct Refusals {
    /// Keeps the sender alive.
    _progress: Arc<Progress>,
    refusals: watch::Receiver<u64>,
}

impl Refusals {
    pub(super) fn new(progress: Arc<Progress>, refusals: watch::Receiver<u64>) -> Self {
        Self { _progress: progress, refusals }
    }

    /// Waits until the store has refused something since the last call. Never returns if it does not.
    pub async fn changed(&mut self) {
        // The sender lives in the progress, so an error is impossible.
        let _ = self.refusals.changed().await;
    }
}
