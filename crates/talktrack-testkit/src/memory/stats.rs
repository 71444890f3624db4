//! Counts rows, for statistics and audits.

use talktrack::store::{Audit, SessionRow};
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::message::MessageStatus;
use talktrack_core::record::Status;
use talktrack_core::stats::{Stats, StatsCounter, TimeRange};
use talktrack_core::stored::Stored;

use crate::memory::Tables;
use crate::memory::rows::count_final;

impl Tables {
    /// Counts all rows, and lists sessions with a wrong count of messages.
    pub(super) fn audit(&self) -> Audit {
        let there = |id: &SessionId| self.transcripts.get(id).map_or(0, |rows| count_final(rows.values()));
        let odd =
            self.sessions.values().filter(|session| session.message_count != there(&session.session_id));
        Audit {
            books: None,
            sessions: self.sessions.len() as u64,
            messages: self.messages.len() as u64,
            dead_letters: 0,
            journal: 0,
            problems: odd
                .map(|session| format!("session {} has a wrong message count", session.session_id))
                .collect(),
        }
    }

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
