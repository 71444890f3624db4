//! Times that a caller claims. The caller's clock may be wrong, or this server's: neither is a reason to refuse anything.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::error::{Invalid, Reason};
use crate::tracker::{Door, Tracker};

/// Something may claim to have happened at most this much later than now: clocks differ.
const FUTURE: Duration = Duration::from_secs(60);

impl Tracker {
    /// The moment that stands for a session's `started_at` or `ended_at`, as `field` says: the claimed one, or now if that is more
    /// than 60 s ahead.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if the claimed moment lies before 1970: it says nothing about when the session was.
    pub fn session_time(&self, field: &'static str, claimed: Timestamp) -> Result<Timestamp, Reason> {
        self.door.session_time(field, claimed, self.door.now().at)
    }
}

impl Door {
    /// True if a claimed moment is too far ahead to be true, so that the moment of acceptance stands for it.
    pub(super) fn is_ahead(&self, claimed: Timestamp, now: Timestamp) -> bool {
        // If the clock has stepped back, a moment that this data directory has seen is no future.
        let seen = || Timestamp::from_micros(self.queue.last_seq()).map(|seen| seen.plus(FUTURE));
        claimed > now.plus(FUTURE) && seen().is_none_or(|seen| claimed > seen)
    }

    /// See [`Tracker::session_time`].
    pub(super) fn session_time(
        &self,
        field: &'static str,
        claimed: Timestamp,
        now: Timestamp,
    ) -> Result<Timestamp, Reason> {
        if claimed.as_micros() < 0 && now.as_micros() >= 0 {
            return Err(Invalid::new(field, "must not be before 1970-01-01T00:00:00Z").into());
        }
        if self.is_ahead(claimed, now) {
            tracing::warn!(%claimed, "the {field} of a session is more than 60 s ahead; now stands for it");
            return Ok(now);
        }
        Ok(claimed)
    }
}
