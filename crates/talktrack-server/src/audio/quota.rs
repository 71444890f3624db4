//! Quotas for recordings: the bytes of each user and in total.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use talktrack::UserId;

/// The bytes that are stored. Cheap to clone; all clones refer to the same counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Usage(Arc<Mutex<Bytes>>);

#[derive(Debug, Default)]
struct Bytes {
    total: u64,
    users: HashMap<UserId, u64>,
}

impl Usage {
    pub(super) fn add(&self, owner: Option<&UserId>, bytes: u64) {
        let mut kept = self.0.lock();
        kept.total += bytes;
        if let Some(owner) = owner {
            *kept.users.entry(owner.clone()).or_default() += bytes;
        }
    }

    pub(super) fn remove(&self, owner: Option<&UserId>, bytes: u64) {
        let mut kept = self.0.lock();
        kept.total = kept.total.saturating_sub(bytes);
        let Some(user) = owner else { return };
        let left = kept.users.get(user).map_or(0, |kept| kept.saturating_sub(bytes));
        if left == 0 {
            kept.users.remove(user)
        } else {
            kept.users.insert(user.clone(), left)
        };
    }

    fn bytes_of(&self, owner: Option<&UserId>) -> (u64, u64) {
        let kept = self.0.lock();
        (owner.and_then(|owner| kept.users.get(owner).copied()).unwrap_or(0), kept.total)
    }
}

/// The maximum number of stored bytes; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct AudioLimits {
    /// The limit of a user who uploads with a token.
    pub(crate) of_user: Option<u64>,
    /// The limit of all users together.
    pub(crate) total: Option<u64>,
}

/// The bytes that one upload adds. Dropping it without [`Self::keep`] returns them.
#[derive(Debug)]
pub(crate) struct Quota {
    usage: Usage,
    owner: Option<UserId>,
    limits: AudioLimits,
    taken: u64,
}

/// The limit that was exceeded: its setting and its value.
pub(crate) type Exceeded = (&'static str, u64);

impl Quota {
    pub(super) fn new(usage: &Usage, owner: Option<UserId>, limits: AudioLimits) -> Self {
        Self { usage: usage.clone(), owner, limits, taken: 0 }
    }

    /// Counts this many more bytes.
    ///
    /// # Errors
    /// Returns the limit that would be exceeded.
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), Exceeded> {
        let (of_user, total) = self.usage.bytes_of(self.owner.as_ref());
        let exceeds = |kept: u64, limit: Option<u64>| limit.filter(|limit| kept + bytes > *limit);
        if let Some(limit) = exceeds(of_user, self.limits.of_user) {
            return Err(("max_audio_bytes_per_user", limit));
        }
        if let Some(limit) = exceeds(total, self.limits.total) {
            return Err(("max_audio_bytes_total", limit));
        }
        self.usage.add(self.owner.as_ref(), bytes);
        self.taken += bytes;
        Ok(())
    }

    /// Keeps the bytes counted, because the upload is complete.
    pub(crate) fn keep(mut self) {
        self.taken = 0;
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        self.usage.remove(self.owner.as_ref(), self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_counts_and_what_breaks_off_does_not() {
        let usage = Usage::default();
        let ada = Some(UserId::from_u128(1));
        let limits = AudioLimits { of_user: Some(10), total: Some(15) };
        let mut one = Quota::new(&usage, ada.clone(), limits);
        assert_eq!((one.take(8), one.take(3)), (Ok(()), Err(("max_audio_bytes_per_user", 10))));
        one.keep();
        let mut other = Quota::new(&usage, Some(UserId::from_u128(2)), limits);
        assert_eq!((other.take(7), other.take(1)), (Ok(()), Err(("max_audio_bytes_total", 15))));
        drop(other);
        assert_eq!(Quota::new(&usage, None, limits).take(7), Ok(()), "what broke off is given back");
        usage.remove(ada.as_ref(), 8);
        assert_eq!(Quota::new(&usage, ada, limits).take(10), Ok(()), "what is deleted is given back");
    }
}
