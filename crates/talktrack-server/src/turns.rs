//! Turns: how much of one sender may be on its way to the disk at once while others send, too.
//!
//! The journal commits all that waits in one transaction, so whoever hands over a thousand messages at once makes the next commit
//! of everybody longer. A sender who is alone may have a full batch on its way; one who is not has [`SHARE`], and hands over more when
//! that is durable. What counts as a sender is a session, and above that a caller: a key, a user, or an address if nobody is asked
//! who they are. Nobody waits who has nothing on its way.
//!
//! A record that weighs more than a share is heavy: it makes a commit long by itself. While others send, a sender has one of them on its
//! way, and hands over the next one when it has rested for [`REST`] times as long as that took, so that most commits are short. What
//! is light does not rest: a key's small messages do not wait for its large ones.
//!
//! Waiting has an end, so that nobody is throttled for good and connections do not pile up: [`PATIENCE`] and [`HEAVY_PATIENCE`].

mod flights;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use talktrack::clock::Seq;
use talktrack::{Durability, Tracker};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout_at};
use uuid::Uuid;

use crate::limits::{Account, neighbourhood};
use flights::Flights;

/// Weight of a sender's messages on their way if others send: a commit of so many takes hardly longer than one of a single message.
const SHARE: usize = 32;

/// Shares of a caller that is no user with a token: a key stands for many users.
const KEY_SHARES: usize = 2;

/// If nobody else sends: enough to fill the next batches while one is committed.
const ALONE: usize = 4_000;

/// Others who sent so recently still count. People pause between what they say.
const RECENT: Duration = Duration::from_secs(30);

/// A turn comes with the next commits. If none comes for so long, the disk is too slow or the sender stands for very many, and for a
/// while it is not kept waiting.
const PATIENCE: Duration = Duration::from_secs(1);
const WHILE: Duration = Duration::from_secs(10);

/// A heavy record waits no longer than this.
const HEAVY_PATIENCE: Duration = Duration::from_secs(5);

/// So many times as long as a heavy record was on its way its sender rests, if others send: the median commit is one without it.
const REST: u32 = 2;
const LONGEST_REST: Duration = Duration::from_secs(1);

/// How often an array of messages lets others have the thread.
const YIELD_EVERY: usize = 32;

/// Bytes of text that weigh as much as a message.
const MESSAGE_BYTES: usize = 2 << 10;

/// Who sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sender {
    caller: CallerKey,
    session_id: Uuid,
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

/// One sender's turns.
#[derive(Debug)]
pub(crate) struct Pace {
    turns: Turns,
    sender: Sender,
    /// No turn came in time: until then it is not waited for.
    given_up_until: Option<Instant>,
    sent: usize,
}

/// A record that waits for its sender's turn.
#[derive(Debug)]
pub(crate) struct Waiting {
    weight: usize,
    since: Instant,
}

impl Pace {
    /// Waits until it is the sender's turn to hand over a record with so many bytes of text. `durability` is the caller's own: what
    /// it has seen is not told again.
    pub(crate) async fn wait(&mut self, bytes: usize, durability: &mut Durability) {
        if self.sent % YIELD_EVERY == YIELD_EVERY - 1 {
            tokio::task::yield_now().await;
        }
        let waiting = Waiting::new(bytes);
        while let Some(until) = self.next_look(&waiting, durability) {
            // Late or not, it is looked at again.
            let _ = timeout_at(until.into(), durability.changed()).await;
        }
    }

    /// When to look again, if nothing becomes durable before; `None` if it is the sender's turn, or waiting has come to its end.
    pub(crate) fn next_look(&mut self, waiting: &Waiting, durability: &Durability) -> Option<Instant> {
        let (now, is_heavy) = (Instant::now(), is_heavy(waiting.weight));
        let has_given_up = !is_heavy && self.given_up_until.is_some_and(|until| now < until);
        if has_given_up || self.turns.may_send(&self.sender, waiting.weight, durability) {
            return None;
        }
        let end = waiting.since + if is_heavy { HEAVY_PATIENCE } else { PATIENCE };
        if now >= end {
            self.given_up_until = Some(now + WHILE);
            return None;
        }
        let rest = if is_heavy { self.turns.rest(&self.sender) } else { None };
        Some(rest.map_or(end, |rest| end.min(now + rest)))
    }

    /// Notes that the record with this `seq` and so many bytes of text was handed over.
    pub(crate) fn sent(&mut self, seq: Seq, bytes: usize) {
        self.sent += 1;
        self.turns.sent(&self.sender, seq, weight(bytes));
    }
}

impl Waiting {
    /// A record with so many bytes of text.
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

/// What of everybody is on its way. Clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    senders: Arc<Mutex<Senders>>,
    /// A heavy record was handed over: when it is durable is to be noted.
    is_heavy: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Senders {
    sessions: Flights<Uuid>,
    callers: Flights<CallerKey>,
}

impl Turns {
    /// The turns of a session of a caller; of an address, if the server asks nobody who they are.
    pub(crate) fn pace(&self, account: Option<Account>, address: Option<IpAddr>, session_id: Uuid) -> Pace {
        let caller = account.map_or(CallerKey::Address(address.map(neighbourhood)), CallerKey::Account);
        let sender = Sender { caller, session_id };
        Pace { turns: self.clone(), sender, given_up_until: None, sent: 0 }
    }

    /// True if the sender may hand over something of this weight now.
    fn may_send(&self, sender: &Sender, weight: usize, durability: &Durability) -> bool {
        let (durable, now) = (durability.answered(), Instant::now());
        let Senders { sessions, callers } = &mut *self.senders.lock();
        sessions.has_room(&sender.session_id, weight, SHARE, durable, now)
            && callers.has_room(&sender.caller, weight, sender.caller.share(), durable, now)
    }

    /// Notes that the record with this `seq` and weight was handed over.
    fn sent(&self, sender: &Sender, seq: Seq, weight: usize) {
        let now = Instant::now();
        let Senders { sessions, callers } = &mut *self.senders.lock();
        sessions.add(&sender.session_id, seq, weight, now);
        callers.add(&sender.caller, seq, weight, now);
        if is_heavy(weight) {
            self.is_heavy.notify_one();
        }
    }

    /// How long the sender rests before its next heavy record; `None` if not at all.
    fn rest(&self, sender: &Sender) -> Option<Duration> {
        let now = Instant::now();
        let Senders { sessions, callers } = &mut *self.senders.lock();
        sessions.rest(&sender.session_id, now).max(callers.rest(&sender.caller, now))
    }

    /// Notes when heavy records become durable, at the moment it happens.
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
        let (durable, now) = (durability.answered(), Instant::now());
        let Senders { sessions, callers } = &mut *self.senders.lock();
        let sessions = sessions.land_heavy(durable, now);
        callers.land_heavy(durable, now) || sessions
    }

    /// Forgets senders of whom nothing is on its way and who do not rest, again and again.
    pub(crate) async fn keep_small(self, tracker: Tracker) {
        loop {
            sleep(Duration::from_secs(10)).await;
            let durable = tracker.durability().answered();
            let Senders { sessions, callers } = &mut *self.senders.lock();
            sessions.forget(durable, Instant::now());
            callers.forget(durable, Instant::now());
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
