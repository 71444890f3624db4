//! The session registry: what this process knows of the sessions under way. Whose they are, how far they have come, and
//! when they leave memory.

use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use uuid::Uuid;

use crate::clock::{Now, Seq, Timestamp};
use crate::record::{Ended, Status};
use crate::store::SessionRow;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    sessions: DashMap<Uuid, Session>,
}

/// One session under way, or ended less than the grace period ago.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user_id: Uuid,
    started_at: Timestamp,
    /// The last sign of life, by this process's clock.
    last_event: Now,
    /// When the last message was said that brought no time of its own. The next one does not come before it, whatever the
    /// calendar says then.
    said_until: Timestamp,
    ended: Option<Closed>,
    message_count: u64,
    /// Starts without their disconnect: a session ends when the last of its connections does. Whoever ended it is still
    /// connected, and leaves later.
    connections: u32,
    /// Where its first start stands in the order of acceptance: until that is durable, whose it is is only a claim.
    started_seq: Seq,
    /// Where its latest record stands: what the store may know of it from this process.
    last_seq: Seq,
    /// And when that was.
    recorded: Duration,
}

/// A session's end.
#[derive(Debug, Clone, Copy)]
struct Closed {
    /// The grace period counts from here.
    closed: Duration,
    /// As the caller said: a recording's session ended long ago.
    ended_at: Timestamp,
}

impl Session {
    pub(crate) fn new(user_id: Uuid, started_at: Timestamp, now: Now, started_seq: Seq) -> Self {
        Self {
            user_id,
            started_at,
            last_event: now,
            said_until: now.at,
            ended: None,
            message_count: 0,
            connections: 1,
            started_seq,
            last_seq: started_seq,
            recorded: now.elapsed,
        }
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// What memory knows of it, as a row; it keeps no words.
    pub(crate) fn row(&self, session_id: Uuid) -> SessionRow {
        let ended_at = self.ended.map(|closed| closed.ended_at);
        SessionRow {
            session_id,
            user_id: self.user_id,
            external_id: None,
            status: if ended_at.is_some() { Status::Ended } else { Status::Active },
            end_reason: None,
            started_at: self.started_at,
            ended_at,
            duration_seconds: ended_at
                .map(|ended_at| ended_at.max(self.started_at).seconds_since(self.started_at)),
            last_event_at: Some(self.last_event.at),
            message_count: self.message_count,
            metadata: None,
        }
    }

    pub(crate) fn started_seq(&self) -> Seq {
        self.started_seq
    }

    pub(crate) fn resume(&mut self, now: Now, seq: Seq) {
        self.ended = None;
        self.connections += 1;
        self.recorded(now, seq);
    }

    pub(crate) fn count_message(&mut self, now: Now, seq: Seq) {
        self.message_count += 1;
        self.recorded(now, seq);
    }

    fn recorded(&mut self, now: Now, seq: Seq) {
        (self.last_event, self.last_seq, self.recorded) = (now, seq, now.elapsed);
    }

    /// When something was said: as is claimed, or now; but not before what was said without a claim before it.
    pub(crate) fn said_at(&mut self, claimed: Option<Timestamp>, now: Timestamp) -> Timestamp {
        claimed.unwrap_or_else(|| {
            self.said_until = self.said_until.max(now);
            self.said_until
        })
    }

    /// The latest that this process has seen of it; by the order of acceptance where the clock stepped back meanwhile.
    pub(crate) fn seen_until(&self) -> Timestamp {
        let recorded = Timestamp::from_micros(self.last_seq);
        self.last_event.at.max(self.started_at).max(recorded.unwrap_or(self.started_at))
    }

    /// A record tells of its latest sign of life.
    pub(crate) fn told_alive(&mut self, seq: Seq) {
        (self.last_seq, self.recorded) = (seq, self.last_event.elapsed);
    }

    /// A sign of life that no record tells of, once the latest record is older than this.
    fn untold_life(&self, older_than: Duration) -> Option<Timestamp> {
        let is_news = self.last_event.elapsed > self.recorded + older_than;
        is_news.then_some(self.last_event.at)
    }

    /// Closes it, now, and says its figures; it may have ended earlier.
    pub(crate) fn end(&mut self, now: Now, ended_at: Timestamp) -> Ended {
        let ended_at = self.ended.get_or_insert(Closed { closed: now.elapsed, ended_at }).ended_at;
        let duration_seconds = ended_at.max(self.started_at).seconds_since(self.started_at);
        Ended { duration_seconds, message_count: self.message_count }
    }

    /// Without a sign of life for this long, and not ended for it yet.
    pub(crate) fn is_silent(&self, now: Duration, idle: Duration) -> bool {
        self.ended.is_none() && self.last_event.elapsed.saturating_add(idle) <= now
    }

    /// One connection less. True where it was the last of a session that goes on.
    pub(crate) fn disconnect(&mut self) -> bool {
        self.connections = self.connections.saturating_sub(1);
        self.connections == 0 && self.ended.is_none()
    }
}

/// What a sweep finds.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Without a sign of life for too long.
    pub(crate) silent: Vec<Uuid>,
    /// Alive, without a word for so long that the store should be told, with the latest sign of life.
    pub(crate) alive: Vec<(Uuid, Timestamp)>,
    /// Under way.
    pub(crate) active: u32,
}

impl Registry {
    /// The session's place, filled or not, locked for as long as the answer is kept. Never hold it across I/O.
    pub(crate) fn entry(&self, session_id: Uuid) -> Entry<'_, Uuid, Session> {
        self.sessions.entry(session_id)
    }

    /// Works on the session where it is known, under its lock.
    pub(crate) fn with<T>(&self, session_id: Uuid, work: impl FnOnce(Option<&mut Session>) -> T) -> T {
        match self.sessions.get_mut(&session_id) {
            Some(mut session) => work(Some(session.value_mut())),
            None => work(None),
        }
    }

    /// A sign of life other than a message.
    pub(crate) fn keep_alive(&self, session_id: Uuid, now: Now) {
        self.with(session_id, |session| {
            if let Some(session) = session {
                session.last_event = now;
            }
        });
    }

    /// Drops the claim of this user, where it is theirs.
    pub(crate) fn forget(&self, session_id: Uuid, user_id: Uuid) {
        self.sessions.remove_if(&session_id, |_, session| session.user_id == user_id);
    }

    /// Sessions that nobody has ended.
    pub(crate) fn open(&self) -> Vec<Uuid> {
        self.sessions.iter().filter(|session| session.ended.is_none()).map(|session| *session.key()).collect()
    }

    /// Those of this user.
    pub(crate) fn of_user(&self, user_id: Uuid) -> Vec<Uuid> {
        self.sessions
            .iter()
            .filter(|session| session.user_id == user_id)
            .map(|session| *session.key())
            .collect()
    }

    /// Lets go of sessions whose grace period is over, and sorts the others.
    pub(crate) fn sweep(&self, now: Duration, grace: Duration, idle: Duration) -> Swept {
        let mut swept = Swept::default();
        self.sessions.retain(|session_id, session| {
            if let Some(closed) = session.ended {
                return closed.closed.saturating_add(grace) > now;
            }
            if session.is_silent(now, idle) {
                swept.silent.push(*session_id);
            } else {
                swept.active += 1;
                // Other nodes go by what the store tells: it has to hear of this one in time.
                swept.alive.extend(session.untold_life(idle / 2).map(|at| (*session_id, at)));
            }
            true
        });
        swept
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}
