//! Counting rows.

use uuid::Uuid;

use crate::json::JsonObject;
use crate::stats::{Counter, Range, Stats};
use crate::store::SessionRow;
use crate::store::memory::Tables;

impl Tables {
    /// What happened in a range of time, of one user or of all.
    pub(super) fn stats(&self, user_id: Option<Uuid>, range: &Range) -> Stats {
        let mut counter = Counter::of(*range);
        let is_asked = |session: &&SessionRow| user_id.is_none_or(|user| user == session.user_id);
        for session in self.sessions.values().filter(is_asked) {
            counter.session(session.started_at, session.status, session.duration_seconds);
            for row in self.transcripts.get(&session.session_id).into_iter().flat_map(|rows| rows.values()) {
                let metrics = row.metrics.as_ref().map(JsonObject::as_str);
                counter.message(row.created_at, row.role, row.interrupted, metrics);
            }
        }
        counter.into_stats()
    }
}
