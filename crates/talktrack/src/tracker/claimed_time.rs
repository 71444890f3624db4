//! Times that a caller claims. The caller's clock or this server's clock may be wrong, so a time in the future is
//! replaced and never refused.

use std::time::Duration;

use talktrack_core::clock::Timestamp;
use talktrack_core::error::{Invalid, Reason};

use crate::tracker::{Inner, Tracker};

/// A claimed time may be at most this far in the future, because clocks differ.
const FUTURE: Duration = Duration::from_secs(60);

impl Tracker {
    /// Returns the time to record as a session's `started_at` or `ended_at` (`field` names which): the claimed time, or
    /// the current time if the claimed time is more than 60 s ahead.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if the claimed time is before 1970, because it then says nothing about when the session was.
    pub fn session_time(&self, field: &'static str, claimed: Timestamp) -> Result<Timestamp, Reason> {
        self.inner.session_time(field, claimed, self.inner.now().at)
    }
}

impl Inner {
    /// True if a claimed time is too far in the future to be correct. The time of acceptance then replaces it.
    pub(super) fn is_ahead(&self, claimed: Timestamp, now: Timestamp) -> bool {
        // The clock may have stepped back: a time that this data directory has already seen is not in the future.
        let seen = || self.queue.last_seq().accepted_at().map(|seen| seen.plus(FUTURE));
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
            tracing::warn!(%claimed, "the {field} of a session is more than 60 s in the future; the current time is used instead");
            return Ok(now);
        }
        Ok(claimed)
    }
}
