//! The lease of an open connection: how long the connection may stay. The server checks the proof of the caller
//! repeatedly, because a token or a key expires by the wall clock and a key may be revoked at any time. It waits by the
//! monotonic clock, a few seconds at a time, so that it notices when the wall clock is set.

use std::time::Duration;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::{Timestamp, UserId};
use tokio::time::Instant;

use super::Caller;
use super::authenticator::{Admission, Authenticator, Standing};
use super::proof::Proof;
use super::refused::Refused;
use crate::config::Scope;

/// How often a lease is checked.
const LOOK: Duration = Duration::from_secs(10);

/// How long before the end of the lease the client is warned.
const NOTICE: Duration = Duration::from_secs(60);

/// The right of a connection to stay open.
pub(crate) struct Lease {
    authenticator: Authenticator,
    admission: Admission,
    /// The scope that the connection needs.
    scope: Scope,
    users: LeasedUsers,
    /// The expiry that the client was warned of.
    told: Option<Timestamp>,
    /// When to check the lease next.
    next: Instant,
}

/// For whom the caller must be allowed to act as long as the connection is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LeasedUsers {
    /// All users.
    All,
    /// The user whose data the connection concerns.
    One(UserId),
    /// Everybody for whom the caller could act when the connection was opened.
    SameAsAtFirst,
}

/// What a check of a lease has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The proof of the caller expires at this time. Sent once, a minute before.
    Expiring(Timestamp),
    /// The connection must end, for this reason.
    Over(String),
}

impl Lease {
    /// Creates the lease of a connection that stays open. The connection needs this scope, and the right to act for these users.
    pub(crate) fn new(
        authenticator: Authenticator,
        admission: Admission,
        scope: Scope,
        users: LeasedUsers,
    ) -> Self {
        Self { authenticator, admission, scope, users, told: None, next: Instant::now() }
    }

    /// Returns when to check the lease next, by the monotonic clock; `None` if no identity is checked, so that the
    /// lease never ends.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        match self.admission.proof {
            Proof::Nothing => None,
            _ => Some(self.next),
        }
    }

    /// Checks the lease. Returns what the client must be told, if anything.
    pub(crate) fn check(&mut self) -> Option<Notice> {
        let standing = self.authenticator.check_proof(&self.admission.proof, self.admission.from);
        let now = SystemClock.now();
        let (notice, pause) = match standing {
            Err(refused) => (Some(Notice::Over(refused.to_string())), LOOK),
            Ok(Standing { caller, .. }) if !self.is_allowed(&caller) => {
                (Some(Notice::Over("the key no longer allows this".into())), LOOK)
            }
            Ok(Standing { expires: None, .. }) => (None, LOOK),
            Ok(Standing { expires: Some(expires), leeway, .. }) => self.check_expiry(expires, leeway, now),
        };
        self.next = Instant::now() + pause;
        notice
    }

    /// True if the caller still has the scope and the right to act for the users. A key may be limited while its
    /// connections are open.
    fn is_allowed(&self, caller: &Caller) -> bool {
        let are_users_allowed = match &self.users {
            LeasedUsers::All => caller.acts_for_all(),
            LeasedUsers::One(user) => caller.can_act_for(user),
            LeasedUsers::SameAsAtFirst => caller.acts_for_all_of(&self.admission.caller),
        };
        are_users_allowed && caller.require(self.scope).is_ok()
    }

    fn check_expiry(
        &mut self,
        expires: Timestamp,
        leeway: Duration,
        now: Timestamp,
    ) -> (Option<Notice>, Duration) {
        let notice_at = expires.minus(NOTICE);
        if now < notice_at {
            return (None, pause_until(notice_at, now));
        }
        let is_new = self.told != Some(expires);
        self.told = Some(expires);
        (is_new.then_some(Notice::Expiring(expires)), pause_until(expires.plus(leeway), now))
    }

    /// Renews the lease with this token, which must be of the same user, or a key of the same name.
    ///
    /// # Errors
    /// Says why the token is refused, without repeating it. The previous proof then stays in use.
    pub(crate) async fn renew(&mut self, token: &str) -> Result<(), String> {
        let renewed = self.authenticator.check_token(token, self.admission.from).await;
        let renewed = renewed.and_then(|new| {
            let counts = is_same(&self.admission.caller, &new.caller) && self.is_allowed(&new.caller);
            if counts { Ok(new) } else { Err(Refused::OtherSubject) }
        });
        self.admission = renewed.map_err(|refused| refused.to_string())?;
        self.next = Instant::now();
        Ok(())
    }
}

/// Returns the time from `now` to `moment`, at most until the next regular check, plus 5 ms: a check that came too
/// early would repeat immediately.
fn pause_until(moment: Timestamp, now: Timestamp) -> Duration {
    let seconds = moment.seconds_since(now).clamp(0.0, LOOK.as_secs_f64());
    Duration::from_secs_f64(seconds) + Duration::from_millis(5)
}

fn is_same(before: &Caller, after: &Caller) -> bool {
    match (before, after) {
        (Caller::User(before), Caller::User(after)) => before.user_id == after.user_id,
        (Caller::Key(before), Caller::Key(after)) => before.name == after.name,
        _ => false,
    }
}
