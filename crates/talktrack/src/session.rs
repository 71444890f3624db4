//! The session registry: what this process knows of the active sessions. It holds their owners, their progress, and
//! when they leave memory.
//!
//! The registry is a cache and decides when sessions end. The stored rows are the truth: a message of a session that is
//! not in the registry is accepted, and its owner is read from the stored row when it is written.

mod known_metadata;
mod session_ref;

use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::{Entry, OccupiedEntry};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Ended, StartTime, Status};
use talktrack_core::stored::StoredTime;

pub(crate) use known_metadata::{KnownMetadata, MemberSizes};
pub use session_ref::SessionRef;

use crate::now::Now;
use crate::store::SessionRow;

#[derive(Debug, Default)]
pub(crate) struct Registry {
    sessions: DashMap<SessionId, Claims>,
}

/// What this process knows of one session: a claim for each user who started it. There can be more than one only until
/// the store has said which user owns the session.
#[derive(Debug)]
pub(crate) struct Claims {
    first: Session,
    others: Vec<Session>,
}

impl Claims {
    pub(crate) fn new(first: Session) -> Self {
        Self { first, others: Vec::new() }
    }

    /// Adds a claim next to those of other users. Claims that the store has refused are removed.
    pub(crate) fn add(&mut self, claim: Session, is_refused: impl Fn(&Session) -> bool) {
        let makes_room = |known: &Session| known.user_id == claim.user_id || is_refused(known);
        self.others.retain(|known| !makes_room(known));
        if makes_room(&self.first) {
            self.first = claim;
        } else {
            self.others.push(claim);
        }
    }

    /// Forgets the claim of this user, or all claims if no user is given.
    pub(crate) fn forget(mut claims: OccupiedEntry<'_, SessionId, Self>, user_id: Option<&UserId>) {
        let is_kept = |claim: &mut Session| user_id.is_some_and(|user| *user != claim.user_id);
        if !claims.get_mut().retain(is_kept) {
            claims.remove();
        }
    }

    /// Returns the claim of this user. Without a user, returns the only claim, if there is exactly one.
    pub(crate) fn find(&mut self, user_id: Option<&UserId>) -> Option<&mut Session> {
        match user_id {
            None => self.others.is_empty().then_some(&mut self.first),
            Some(user_id) => self.iter_mut().find(|claim| claim.user_id == *user_id),
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Session> {
        std::iter::once(&self.first).chain(&self.others)
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        std::iter::once(&mut self.first).chain(&mut self.others)
    }

    /// Keeps the claims for which `keep` returns true. Returns false if none is left.
    fn retain(&mut self, mut keep: impl FnMut(&mut Session) -> bool) -> bool {
        self.others.retain_mut(&mut keep);
        if keep(&mut self.first) {
            return true;
        }
        let Some(next) = self.others.pop() else { return false };
        self.first = next;
        true
    }
}

/// One user's claim to an active session, or to one that ended less than the grace period ago.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) user_id: UserId,
    start: StartTime,
    /// The last event, by this process's clock.
    last_event: Now,
    /// The time of the last message that had no time of its own. The next such message is not placed before it, even if
    /// the clock steps back.
    said_until: Timestamp,
    /// The time of the latest message that this process has counted.
    last_said: Option<Timestamp>,
    ended: Option<Closed>,
    message_count: u64,
    /// The number of starts without a `disconnect`. The session ends when its last connection does. A connection that
    /// ended the session stays counted until it disconnects.
    connections: u32,
    /// The `seq` of the first start in this process. Until that start is durable, it proves nothing.
    started_seq: Seq,
    /// The `seq` of the latest start.
    resumed_seq: Seq,
    /// What this process knows of the size of the session's metadata.
    metadata: KnownMetadata,
    /// The `seq` of the session's latest record: what the store may know of the session from this process.
    last_seq: Seq,
    /// The elapsed time of the last event that a record has reported.
    recorded: Duration,
}

/// The end of a session.
#[derive(Debug, Clone, Copy)]
struct Closed {
    /// When the session was closed in this process. The grace period starts here.
    closed: Duration,
    /// As the caller said: a session from a recording ended long ago.
    ended_at: Timestamp,
}

impl Session {
    pub(crate) fn new(user_id: UserId, start: StartTime, now: Now, started_seq: Seq) -> Self {
        Self {
            user_id,
            start,
            last_event: now,
            said_until: now.at,
            last_said: None,
            ended: None,
            message_count: 0,
            connections: 1,
            started_seq,
            resumed_seq: started_seq,
            metadata: KnownMetadata::default(),
            last_seq: started_seq,
            recorded: now.elapsed,
        }
    }

    /// Creates a session that had ended until a message cancelled its end. It has no connection on this node. The store
    /// has said which user owns it, so no start in this process has to prove that.
    pub(crate) fn reopened(user_id: UserId, started_at: Timestamp, now: Now, last_seq: Seq) -> Self {
        let start = StartTime::new(started_at, true);
        let started_seq = Seq::ZERO;
        let resumed_seq = Seq::ZERO;
        Self { connections: 0, started_seq, resumed_seq, ..Self::new(user_id, start, now, last_seq) }
    }

    pub(crate) fn started_at(&self) -> Timestamp {
        self.start.at()
    }

    /// Returns what memory knows of the session as a row. `external_id`, `end_reason`, the dimensions and `metadata` are not in memory.
    pub(crate) fn to_row(&self, session_id: SessionId) -> SessionRow {
        let ended_at = self.ended.map(|closed| closed.ended_at);
        let started_at = self.started_at();
        SessionRow {
            session_id,
            user_id: Some(self.user_id.clone()),
            external_id: None,
            status: if ended_at.is_some() { Status::Ended } else { Status::Active }.into(),
            end_reason: None,
            started_at: started_at.into(),
            ended_at: ended_at.map(StoredTime::Known),
            duration_seconds: ended_at.map(|ended_at| ended_at.max(started_at).seconds_since(started_at)),
            last_event_at: Some(self.last_event.at.into()),
            message_count: i64::try_from(self.message_count).unwrap_or(i64::MAX),
            dimensions: Dimensions::default(),
            metadata: None,
        }
    }

    /// Returns what this process knows of the size of the session's metadata.
    pub(crate) fn metadata(&mut self) -> &mut KnownMetadata {
        &mut self.metadata
    }

    pub(crate) fn started_seq(&self) -> Seq {
        self.started_seq
    }

    pub(crate) fn resumed_seq(&self) -> Seq {
        self.resumed_seq
    }

    /// Notes a further start, which adds a connection. It revokes an end only if it reopens the session.
    pub(crate) fn start_again(&mut self, now: Now, seq: Seq, reopens: bool) {
        if reopens {
            self.ended = None;
        }
        self.connections += 1;
        self.resumed_seq = seq;
        self.note_record(now, seq);
    }

    /// Counts a message that was said at this time. The session started then at the latest.
    pub(crate) fn count_message(&mut self, now: Now, seq: Seq, said_at: Timestamp) {
        self.message_count += 1;
        self.last_said = self.last_said.max(Some(said_at));
        self.move_start_down_to(said_at);
        self.note_record(now, seq);
    }

    fn move_start_down_to(&mut self, event: Timestamp) {
        self.start = self.start.moved_down_to(event).unwrap_or(self.start);
    }

    fn note_record(&mut self, now: Now, seq: Seq) {
        (self.last_event, self.last_seq, self.recorded) = (now, seq, now.elapsed);
    }

    /// Returns the time of a message: the claimed time, or the current time, but not before the last message that had
    /// no claimed time.
    pub(crate) fn said_at(&mut self, claimed: Option<Timestamp>, now: Timestamp) -> Timestamp {
        claimed.unwrap_or_else(|| {
            self.said_until = self.said_until.max(now);
            self.said_until
        })
    }

    /// Places later messages that have no claimed time at this moment or after it.
    pub(crate) fn say_after(&mut self, moment: Option<Timestamp>) {
        self.said_until = moment.map_or(self.said_until, |moment| moment.max(self.said_until));
    }

    /// Returns the time of the last message, or of the start, if no message was said since `open_since`.
    pub(crate) fn active_until(&self, open_since: Timestamp) -> Option<Timestamp> {
        self.last_said.max(Some(self.started_at())).filter(|_| self.last_said < Some(open_since))
    }

    /// Returns the latest time that this process has seen of the session. If the clock has stepped back, the order of
    /// acceptance decides.
    pub(crate) fn seen_until(&self) -> Timestamp {
        let recorded = self.last_seq.accepted_at();
        self.last_event.at.max(self.started_at()).max(recorded.unwrap_or(self.started_at()))
    }

    /// Notes that a record has reported the last event.
    pub(crate) fn heartbeat_recorded(&mut self, seq: Seq) {
        (self.last_seq, self.recorded) = (seq, self.last_event.elapsed);
    }

    /// Returns the last event if no record has reported it and it is more than `older_than` after the last reported
    /// one.
    fn unreported_activity(&self, older_than: Duration) -> Option<Timestamp> {
        let is_news = self.last_event.elapsed > self.recorded + older_than;
        is_news.then_some(self.last_event.at)
    }

    /// Ends the session now and returns its duration and message count. An earlier end keeps its time.
    pub(crate) fn end(&mut self, now: Now, ended_at: Timestamp, status: Status) -> Ended {
        // An abandoned session ends at its last event, whatever time was given.
        if self.ended.is_none() && status != Status::Abandoned {
            self.move_start_down_to(ended_at);
        }
        let ended_at = self.ended.get_or_insert(Closed { closed: now.elapsed, ended_at }).ended_at;
        let started_at = self.started_at();
        let duration_seconds = ended_at.max(started_at).seconds_since(started_at);
        Ended { duration_seconds, message_count: self.message_count }
    }

    /// True if the session has had no event for `idle` and has not ended yet.
    pub(crate) fn is_idle(&self, now: Duration, idle: Duration) -> bool {
        self.ended.is_none() && self.last_event.elapsed.saturating_add(idle) <= now
    }

    /// True if the session ended at least this long ago.
    pub(crate) fn has_ended_for(&self, now: Duration, grace: Duration) -> bool {
        self.ended.is_some_and(|closed| closed.closed.saturating_add(grace) <= now)
    }

    /// Removes one connection. Returns true if it was the last one of an active session.
    pub(crate) fn disconnect(&mut self) -> bool {
        self.connections = self.connections.saturating_sub(1);
        self.connections == 0 && self.ended.is_none()
    }
}

/// What a sweep finds.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    /// Sessions that have been idle for too long.
    pub(crate) idle: Vec<SessionRef>,
    /// Active sessions whose last event has not been reported to the store for too long, each with that event.
    pub(crate) heartbeats_due: Vec<(SessionRef, Timestamp)>,
    /// The number of active sessions.
    pub(crate) active: u32,
}

impl Registry {
    /// Returns the session's entry, with or without claims. It stays locked while the result is held. Never hold it
    /// across I/O.
    pub(crate) fn entry(&self, session_id: SessionId) -> Entry<'_, SessionId, Claims> {
        self.sessions.entry(session_id)
    }

    /// Calls `work` with the claim, if it is known, under the session's lock.
    pub(crate) fn with_claim<T>(
        &self,
        session: &SessionRef,
        work: impl FnOnce(Option<&mut Session>) -> T,
    ) -> T {
        match self.sessions.get_mut(&session.session_id) {
            Some(mut claims) => work(claims.find(session.user_id.as_ref())),
            None => work(None),
        }
    }

    /// Notes an event other than a message.
    pub(crate) fn keep_alive(&self, session: &SessionRef, now: Now) {
        self.with_claim(session, |claim| {
            if let Some(claim) = claim {
                claim.last_event = now;
            }
        });
    }

    /// Forgets the claim of this user.
    pub(crate) fn forget_claim(&self, session_id: SessionId, user_id: &UserId) {
        if let Entry::Occupied(claims) = self.sessions.entry(session_id) {
            Claims::forget(claims, Some(user_id));
        }
    }

    /// True if any user claims the session.
    pub(crate) fn contains(&self, session_id: SessionId) -> bool {
        self.sessions.contains_key(&session_id)
    }

    /// Calls `tell` for each claim of a session and returns the results.
    pub(crate) fn map_claims<T>(&self, session_id: SessionId, tell: impl FnMut(&Session) -> T) -> Vec<T> {
        self.sessions.get(&session_id).map_or_else(Vec::new, |claims| claims.iter().map(tell).collect())
    }

    /// Returns the claims that have not ended.
    pub(crate) fn open_claims(&self) -> Vec<SessionRef> {
        self.select_claims(|claim| claim.ended.is_none())
    }

    /// Returns the sessions that this user claims.
    pub(crate) fn sessions_of_user(&self, user_id: &UserId) -> Vec<SessionId> {
        self.select_claims(|claim| claim.user_id == *user_id)
            .into_iter()
            .map(|claim| claim.session_id)
            .collect()
    }

    fn select_claims(&self, is_wanted: impl Fn(&Session) -> bool) -> Vec<SessionRef> {
        let mut found = Vec::new();
        for claims in &self.sessions {
            let wanted = claims.iter().filter(|claim| is_wanted(claim));
            found.extend(wanted.map(|claim| SessionRef::for_user(*claims.key(), claim.user_id.clone())));
        }
        found
    }

    /// Removes claims that the store has refused and those whose grace period is over, and sorts the others.
    pub(crate) fn sweep(
        &self,
        now: Duration,
        grace: Duration,
        idle: Duration,
        is_refused: impl Fn(&Session) -> bool,
    ) -> Swept {
        let mut swept = Swept::default();
        self.sessions.retain(|session_id, claims| {
            claims.retain(|claim| {
                if is_refused(claim) {
                    return false;
                }
                if let Some(closed) = claim.ended {
                    return closed.closed.saturating_add(grace) > now;
                }
                let session = SessionRef::for_user(*session_id, claim.user_id.clone());
                if claim.is_idle(now, idle) {
                    swept.idle.push(session);
                } else {
                    swept.active += 1;
                    // Other nodes go by the last event that the store knows, so the store must hear of this session in
                    // time.
                    swept.heartbeats_due.extend(claim.unreported_activity(idle / 2).map(|at| (session, at)));
                }
                true
            })
        });
        swept
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }
}
