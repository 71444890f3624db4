//! Turns: how much of one sender may be in flight to the disk while others send too.
//!
//! The journal commits everything that waits in one transaction (group commit), so a sender that hands over a thousand
//! messages at once makes the next commit longer for all senders. A sender that is alone may have a full batch in
//! flight. If others send too, a sender may have [`SHARE`] in flight, and hands over more when that is durable. The
//! share applies to each session or feed, and to each caller above it: a key, a user, or an address if no identity is checked.
//! A sender with nothing in flight waits only if it rests after a heavy record and hands over another one.
//!
//! A record that weighs more than a share is heavy: it makes a commit long by itself. While others send, a sender may
//! have one heavy record in flight, and hands over the next after a rest of [`REST`] times as long as the last one
//! took, so that most commits are short. Light records do not rest: the small messages of a key do not wait for its
//! large ones.
//!
//! The wait is bounded by [`MAX_WAIT`] and [`MAX_HEAVY_WAIT`], so that no sender is throttled for good and connections
//! do not pile up.

mod flights;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flights::Flights;
use parking_lot::Mutex;
use talktrack::clock::Seq;
use talktrack::{Durability, SessionId, Tracker};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout_at};
use uuid::Uuid;

use crate::limits::{Account, neighbourhood};

/// The weight that a sender may have in flight while others send. A commit of this many messages takes hardly longer
/// than one of a single message.
const SHARE: usize = 32;

/// How many shares a caller has that is not a user with a token: a key represents many users.
const KEY_SHARES: usize = 2;

/// The weight that a sender may have in flight while no other sends. It is enough to fill the next batches during a
/// commit.
const ALONE: usize = 4_000;

/// How long ago another sender may have sent to still count. People pause between what they say.
const RECENT: Duration = Duration::from_secs(30);

/// How long a sender waits for its turn, which normally comes with the next commits. If it does not come in this time,
/// the disk is too slow or the sender represents very many users. The sender then does not wait for [`WHILE`].
const MAX_WAIT: Duration = Duration::from_secs(1);
const WHILE: Duration = Duration::from_secs(10);

/// The longest time that a heavy record waits.
const MAX_HEAVY_WAIT: Duration = Duration::from_secs(5);

/// While others send, a sender rests this many times as long as its heavy record was in flight. With a factor of 2, the
/// median commit contains no heavy record.
const REST: u32 = 2;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// After how many records a sender yields the thread to other tasks.
const YIELD_EVERY: usize = 32;

/// The bytes of text that weigh as much as one message.
const MESSAGE_BYTES: usize = 2 << 10;

/// A sender: one session of one caller, or one feed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sender {
    caller: CallerKey,
    id: SenderId,
}

/// What takes turns with others of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum SenderId {
    Session(SessionId),
    /// A connection or a request that carries many sessions. It has the share of one: the sender decides itself which of
    /// its sessions comes first.
    Feed(Uuid),
}

impl SenderId {
    /// Returns the id of a feed that begins.
    pub(crate) fn new_feed() -> Self {
        Self::Feed(Uuid::new_v4())
    }
}

impl From<SessionId> for SenderId {
    fn from(session_id: SessionId) -> Self {
        Self::Session(session_id)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CallerKey {
    Account(Account),
    Address(Option<IpAddr>),
}

impl CallerKey {
    fn share(&self) -> usize {
        match self {
            Self::Account(Account::User(_)) => SHARE,
            Self::Account(Account::Key(_)) | Self::Address(_) => KEY_SHARES * SHARE,
        }
    }
}

/// The turns of one sender.
#[derive(Debug)]
pub(crate) struct Pace {
    turns: Turns,
    sender: Sender,
    /// Until this time the sender does not wait for its turn, because a turn did not come in time.
    given_up_until: Option<Instant>,
    sent: usize,
}

/// A record that waits for the turn of its sender.
#[derive(Debug)]
pub(crate) struct Waiting {
    weight: usize,
    since: Instant,
}

impl Pace {
    /// Waits until the sender may hand over a record with this many bytes of text. `durability` belongs to the caller:
    /// changes that it has already seen do not wake this wait.
    pub(crate) async fn wait_for_turn(&mut self, bytes: usize, durability: &mut Durability) {
        if self.sent % YIELD_EVERY == YIELD_EVERY - 1 {
            tokio::task::yield_now().await;
        }
        let waiting = Waiting::new(bytes);
        while let Some(until) = self.next_look(&waiting, durability) {
            // On a timeout as well as on a change, the loop checks again.
            let _ = timeout_at(until.into(), durability.changed()).await;
        }
    }

    /// Returns when to check again if nothing becomes durable before; `None` if the sender may hand over the record, or
    /// has waited for the longest allowed time.
    pub(crate) fn next_look(&mut self, waiting: &Waiting, durability: &Durability) -> Option<Instant> {
        let now = Instant::now();
        let is_heavy = is_heavy(waiting.weight);
        let has_given_up = !is_heavy && self.given_up_until.is_some_and(|until| now < until);
        if has_given_up || self.turns.may_send(&self.sender, waiting.weight, durability) {
            return None;
        }
        let end = waiting.since + if is_heavy { MAX_HEAVY_WAIT } else { MAX_WAIT };
        if now >= end {
            self.given_up_until = Some(now + WHILE);
            return None;
        }
        let rest = if is_heavy { self.turns.rest_time(&self.sender) } else { None };
        Some(rest.map_or(end, |rest| end.min(now + rest)))
    }

    /// Notes that the record with this `seq` and this many bytes of text was handed over.
    pub(crate) fn record_sent(&mut self, seq: Seq, bytes: usize) {
        self.sent += 1;
        self.turns.record_sent(&self.sender, seq, weight(bytes));
    }
}

impl Waiting {
    /// Makes a waiting record with this many bytes of text.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { weight: weight(bytes), since: Instant::now() }
    }
}

fn weight(bytes: usize) -> usize {
    bytes.div_ceil(MESSAGE_BYTES).max(1)
}

fn is_heavy(weight: usize) -> bool {
    weight > SHARE
}

/// Everything that is in flight, of all senders. Cheap to clone; all clones refer to the same state.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    senders: Arc<Mutex<Senders>>,
    /// Notified when a heavy record is handed over, so that the time at which it becomes durable is recorded.
    is_heavy: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Senders {
    sessions: Flights<SenderId>,
    callers: Flights<CallerKey>,
}

impl Turns {
    /// Returns the turns of a session or a feed of a caller. The caller is an address if no identity is checked.
    pub(crate) fn new_pace(
        &self,
        account: Option<Account>,
        address: Option<IpAddr>,
        sender: impl Into<SenderId>,
    ) -> Pace {
        let caller = account.map_or(CallerKey::Address(address.map(neighbourhood)), CallerKey::Account);
        let sender = Sender { caller, id: sender.into() };
        Pace { turns: self.clone(), sender, given_up_until: None, sent: 0 }
    }

    /// True if the sender may hand over a record of this weight now.
    fn may_send(&self, sender: &Sender, weight: usize, durability: &Durability) -> bool {
        let durable = durability.answered();
        let now = Instant::now();
        let Senders { sessions, callers } = &mut *self.senders.lock();
        sessions.has_room(&sender.id, weight, SHARE, durable, now)
            && callers.has_room(&sender.caller, weight, sender.caller.share(), durable, now)
    }

    /// Notes that the record with this `seq` and weight was handed over.
    fn record_sent(&self, sender: &Sender, seq: Seq, weight: usize) {
        let now = Instant::now();
        let Senders { sessions, callers } = &mut *self.senders.lock();
        sessions.add_record(&sender.id, seq, weight, now);
        callers.add_record(&sender.caller, seq, weight, now);
        if is_heavy(weight) {
            self.is_heavy.notify_one();
        }
    }

    /// Returns how long the sender must rest before its next heavy record; `None` if it need not rest.
    fn rest_time(&self, sender: &Sender) -> Option<Duration> {
        let now = Instant::now();
        let Senders { sessions, callers } = &mut *self.senders.lock();
        sessions.rest_time(&sender.id, now).max(callers.rest_time(&sender.caller, now))
    }

    /// Records when heavy records become durable, for as long as the server runs.
    pub(crate) async fn follow_heavy_records(self, tracker: Tracker) {
        let mut durability = tracker.durability();
        loop {
            self.is_heavy.notified().await;
            while self.are_heavy_under_way(&durability) {
                durability.changed().await;
            }
        }
    }

    fn are_heavy_under_way(&self, durability: &Durability) -> bool {
        let durable = durability.answered();
        let now = Instant::now();
        let Senders { sessions, callers } = &mut *self.senders.lock();
        let sessions = sessions.land_heavy(durable, now);
        callers.land_heavy(durable, now) || sessions
    }

    /// Removes senders that have nothing in flight and do not rest, every 10 seconds.
    pub(crate) async fn sweep_idle(self, tracker: Tracker) {
        loop {
            sleep(Duration::from_secs(10)).await;
            let durable = tracker.durability().answered();
            let Senders { sessions, callers } = &mut *self.senders.lock();
            sessions.remove_idle(durable, Instant::now());
            callers.remove_idle(durable, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_and_messages_of_64_kib_are_light() {
        assert_eq!([0, 1, 2_048, 2_049, 65_536, 65_537].map(weight), [1, 1, 1, 2, SHARE, SHARE + 1]);
        assert!(!is_heavy(weight(talktrack::json::MAX_SESSION_METADATA)));
    }
}
