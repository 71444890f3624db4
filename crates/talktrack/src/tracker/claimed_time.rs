//! Times that a caller claims. The caller's clock or this server's clock may be wrong, so the time of a message or a start in the
//! future is replaced and never refused.

use std::time::Duration;

use talktrack_core::clock::Timestamp;
use talktrack_core::error::{Invalid, Reason};

use crate::tracker::{Inner, Tracker};

/// A claimed time may be at most this far in the future, because clocks differ.
const FUTURE: Duration = Duration::from_secs(60);

/// No clock is this far ahead.
const FAR_FUTURE: Duration = Duration::from_secs(24 * 60 * 60);

impl Tracker {
    /// Returns the end of a session for the time that a caller gives: that time, or the current time if it is more than 60 s
    /// ahead.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if the time is before 1970, because it then says nothing about when the session was, or if it is more
    /// than a day ahead, which no difference between clocks explains.
    pub fn end_time(&self, claimed: Timestamp) -> Result<Timestamp, Reason> {
        let now = self.inner.now().at;
        check_era("ended_at", claimed, now)?;
        if !self.inner.is_ahead(claimed, now) {
            return Ok(claimed);
        }
        if claimed > now.plus(FAR_FUTURE) {
            return Err(Invalid::new("ended_at", "must not be more than a day in the future").into());
        }
        tracing::warn!(%claimed, "the ended_at of a session is more than 60 s in the future; the current time is used instead");
        Ok(now)
    }
}

impl Inner {
    /// True if a claimed time is too far in the future to be correct. The time of acceptance then replaces it.
    pub(super) fn is_ahead(&self, claimed: Timestamp, now: Timestamp) -> bool {
        // The clock may have stepped back: a time that this data directory has already seen is not in the future.
        let seen = || self.queue.last_seq().accepted_at().map(|seen| seen.plus(FUTURE));
        claimed > now.plus(FUTURE) && seen().is_none_or(|seen| claimed > seen)
    }

    /// Returns the start of a session for the time that a caller gives: that time, or the current time if it is more than 60 s
    /// ahead.
    pub(super) fn start_time(&self, claimed: Timestamp, now: Timestamp) -> Result<Timestamp, Reason> {
        check_era("started_at", claimed, now)?;
        if self.is_ahead(claimed, now) {
            tracing::warn!(%claimed, "the started_at of a session is more than 60 s in the future; the current time is used instead");
            return Ok(now);
        }
        Ok(claimed)
    }
}

/// Returns an error if a time of a session is before 1970: it then says nothing about when the session was.
fn check_era(field: &'static str, claimed: Timestamp, now: Timestamp) -> Result<(), Reason> {
    if claimed.as_micros() < 0 && now.as_micros() >= 0 {
        return Err(Invalid::new(field, "must not be before 1970-01-01T00:00:00Z").into());
    }
    Ok(())
}
