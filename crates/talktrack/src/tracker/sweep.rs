//! What happens to sessions without a call: their grace period ends, they become idle, or a message cancels their end.

use dashmap::mapref::entry::Entry;
use talktrack_core::clock::Timestamp;
use talktrack_core::record::{Body, Reopened, SessionHeartbeat, Status};

use crate::now::Now;
use crate::options::Options;
use crate::queue::Admission;
use crate::receipt::Reply;
use crate::session::{Claims, Session, SessionRef};
use crate::tracker::Inner;

impl Inner {
    /// Puts sessions into memory that had ended until a message cancelled their end, so that the idle timeout applies
    /// to them again.
    pub(super) fn restore_reopened(&self, now: Now) {
        for Reopened { session_id, user_id, started_at } in std::mem::take(&mut *self.shared.reopened.lock())
        {
            if let Entry::Vacant(place) = self.registry.entry(session_id) {
                let session = Session::reopened(user_id, started_at, now, self.queue.last_seq());
                drop(place.insert(Claims::new(session)));
            }
        }
    }

    pub(super) fn sweep(&self) {
        let Options { grace_period, idle_timeout, .. } = &self.options;
        let now = self.now();
        self.restore_reopened(now);
        let is_refused = |claim: &Session| self.is_refused(claim);
        let swept = self.registry.sweep(now.elapsed, *grace_period, *idle_timeout, is_refused);
        for session in swept.idle {
            // Refused only while shutting down, which ends all sessions.
            let find_end =
                |session: &mut Session, at| session.is_idle(now.elapsed, *idle_timeout).then_some(at);
            let _ = self.infer_end(&session, Status::Abandoned, "idle_timeout", find_end);
        }
        for (session, at) in swept.heartbeats_due {
            self.enqueue_heartbeat(&session, at, now.at);
        }
        // The journal's thread maintains the re-send window when it is otherwise idle.
        if self.shared.health.needs_scrub() || self.shared.health.is_outbox() {
            self.queue.wake();
        }
        self.shared.health.log_refusals(now.elapsed);
        self.shared.metrics.sessions_active.set(f64::from(swept.active));
    }

    /// Enqueues a heartbeat of the session. If the queue has no room, the next sweep tries again.
    fn enqueue_heartbeat(&self, session: &SessionRef, at: Timestamp, now: Timestamp) {
        self.registry.with_claim(session, |claim| {
            let (Some(claim), Ok(permit)) = (claim, self.queue.reserve(now, 0, Admission::IfRoom)) else {
                return;
            };
            let alive =
                SessionHeartbeat { session_id: session.session_id, at, owner: Some(claim.user_id.clone()) };
            let seq = permit.send(Body::Heartbeat(alive), Reply::None);
            claim.heartbeat_recorded(seq);
        });
    }
}
