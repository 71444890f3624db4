//! Counts rows for statistics.

use talktrack::store::SessionRow;
use talktrack_core::ids::UserId;
use talktrack_core::message::MessageStatus;
use talktrack_core::record::Status;
use talktrack_core::stats::{Stats, StatsCounter, TimeRange};
use talktrack_core::stored::Stored;

use crate::memory::Tables;

impl Tables {
    /// Returns statistics for a range of time, for one user or for all.
    pub(super) fn stats(&self, user_id: Option<&UserId>, range: &TimeRange) -> Stats {
        let mut counter = StatsCounter::new(*range);
        let is_asked = |session: &&SessionRow| user_id.is_none() || session.user_id.as_ref() == user_id;
        for session in self.sessions.values().filter(is_asked) {
            let status = session.status.known().copied().unwrap_or(Status::Active);
            if let Some(started_at) = session.started_at.known() {
                counter.count_session(started_at, status, session.duration_seconds);
            }
            let said = self.transcripts.get(&session.session_id).into_iter().flat_map(|rows| rows.values());
            for row in said.filter(|row| row.status == MessageStatus::Final) {
                let metrics = row.metrics.as_ref().map(Stored::as_str);
                if let Some((at, role)) = row.created_at.known().zip(row.role.known().copied()) {
                    counter.count_message(at, role, row.interrupted, metrics);
                }
            }
        }
        counter.into_stats()
    }
}
