//! For how long a connection may stay. What proved who opened it is looked at again and again: a token or a key expires by the
//! calendar, and a key may be revoked at any moment. Waiting goes by the stopwatch, a few seconds at a time, so that a calendar
//! that leaps is noticed.

use std::time::Duration;

use talktrack::Timestamp;
use talktrack::clock::{Clock as _, SystemClock};
use tokio::time::Instant;
use uuid::Uuid;

use super::Caller;
use super::gate::{Admission, Gate, Standing};
use super::proof::Proof;
use super::refused::Refused;
use crate::config::Scope;

/// How often a connection is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// So long before the end the peer is told.
const NOTICE: Duration = Duration::from_secs(60);

/// What a connection rests on.
pub(crate) struct Lease {
    gate: Gate,
    admission: Admission,
    /// What the connection does needs this.
    scope: Scope,
    /// The user whose data it is about; `None` for all.
    user: Option<Uuid>,
    /// The end that the peer was told of.
    told: Option<Timestamp>,
    /// When to look next.
    next: Instant,
}

/// What a look has found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// What proves who the peer is expires then. Told once, a minute before.
    Expiring(Timestamp),
    /// The connection must end, for this reason.
    Over(String),
}

impl Lease {
    pub(super) fn new(gate: Gate, admission: Admission, scope: Scope, user: Option<Uuid>) -> Self {
        Self { gate, admission, scope, user, told: None, next: Instant::now() }
    }

    /// When to look next, by the stopwatch; `None` if nothing can end the connection.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        match self.admission.proof {
            Proof::Nothing => None,
            _ => Some(self.next),
        }
    }

    /// Looks whether the connection may stay.
    pub(crate) fn look(&mut self) -> Option<Notice> {
        let (standing, now) = (self.gate.look(&self.admission.proof, self.admission.from), SystemClock.now());
        let (notice, pause) = match standing {
            Err(refused) => (Some(Notice::Over(refused.to_string())), LOOK),
            Ok(Standing { caller, .. }) if !self.is_allowed(&caller) => {
                (Some(Notice::Over("the key does not allow this any more".into())), LOOK)
            }
            Ok(Standing { expires: None, .. }) => (None, LOOK),
            Ok(Standing { expires: Some(expires), leeway, .. }) => self.before(expires, leeway, now),
        };
        self.next = Instant::now() + pause;
        notice
    }

    /// A key may be limited while its connections stay.
    fn is_allowed(&self, caller: &Caller) -> bool {
        let is_user_allowed = self.user.map_or(caller.acts_for_all(), |user| caller.may_act_for(user));
        is_user_allowed && caller.require(self.scope).is_ok()
    }

    fn before(&mut self, expires: Timestamp, leeway: Duration, now: Timestamp) -> (Option<Notice>, Duration) {
        let notice_at = expires.minus(NOTICE);
        if now < notice_at {
            return (None, until(notice_at, now));
        }
        let is_new = self.told != Some(expires);
        self.told = Some(expires);
        (is_new.then_some(Notice::Expiring(expires)), until(expires.plus(leeway), now))
    }

    /// Goes on with this token: of the same user, or a key of the same name.
    ///
    /// # Errors
    /// Says why not, without the token. The connection then rests on what it rested on before.
    pub(crate) async fn renew(&mut self, token: &str) -> Result<(), String> {
        let renewed = self.gate.check(token, self.admission.from).await;
        let renewed = renewed.and_then(|new| {
            let counts = is_same(&self.admission.caller, &new.caller) && self.is_allowed(&new.caller);
            if counts { Ok(new) } else { Err(Refused::OtherSubject) }
        });
        self.admission = renewed.map_err(|refused| refused.to_string())?;
        self.next = Instant::now();
        Ok(())
    }
}

/// From now to that moment, but not longer than until the next look. A little more than the exact time: a look that comes a
/// moment too early would come again at once.
fn until(moment: Timestamp, now: Timestamp) -> Duration {
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
