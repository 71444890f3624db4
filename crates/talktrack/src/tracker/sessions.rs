//! A session's life at the door: it starts, learns more about itself, ends, or is left behind.

use std::sync::Arc;

use dashmap::mapref::entry::Entry;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::error::{NotDurable, Reason, Refused};
use crate::json::JsonObject;
use crate::lines;
use crate::message;
use crate::options::Options;
use crate::queue::Admission;
use crate::receipt::{Receipt, Reply, SessionReceipt, Started};
use crate::record::{Body, Ended, SessionAlive, SessionEnd, SessionStart, SessionUpdate, Status};
use crate::session::Session;
use crate::store::SessionRow;
use crate::tracker::{Door, Tracker};

/// A session for [`Tracker::start_session`].
#[derive(Debug, Clone, PartialEq)]
pub struct NewSession {
    /// Its id.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The caller's own id, up to 256 bytes.
    pub external_id: Option<String>,
    /// The caller's own remarks; merged where the session is known.
    pub metadata: Option<JsonObject>,
    /// When it began; now where it is left out.
    pub started_at: Option<Timestamp>,
}

impl NewSession {
    /// A session with nothing but its ids.
    pub fn new(session_id: Uuid, user_id: Uuid) -> Self {
        Self { session_id, user_id, external_id: None, metadata: None, started_at: None }
    }

    /// A session known by the caller's own name for it, from which its id is derived.
    pub fn named(external_id: impl Into<String>, user_id: Uuid) -> Self {
        let external_id = external_id.into();
        let session_id = Uuid::new_v5(&message::SESSION_NAMESPACE, external_id.as_bytes());
        Self { external_id: Some(external_id), ..Self::new(session_id, user_id) }
    }

    fn heap_bytes(&self) -> usize {
        self.external_id.as_ref().map_or(0, String::len)
            + self.metadata.as_ref().map_or(0, |json| json.as_str().len())
    }

    fn replace_nul(&mut self) {
        self.external_id.as_mut().map(message::clean);
        if let Some(metadata) = self.metadata.as_ref().and_then(JsonObject::without_nul) {
            self.metadata = Some(metadata);
        }
    }
}

/// How a session ended, for [`Tracker::end_session_as`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closing<'a> {
    /// [`Status::Ended`]; or [`Status::Abandoned`], which puts the end at the session's last event.
    pub status: Status,
    /// Why, in a word.
    pub reason: &'a str,
    /// When.
    pub ended_at: Timestamp,
}

impl Tracker {
    /// A session begins, or goes on where it is known.
    ///
    /// # Errors
    /// Hands the session back where it cannot be accepted now; see [`Reason`].
    #[expect(clippy::result_large_err, reason = "the refusal hands the session back")]
    pub fn start_session(&self, session: NewSession) -> Result<SessionReceipt<Started>, Refused<NewSession>> {
        let started = self.door.start(session);
        started.inspect_err(|refused| self.count_refusal(refused.reason.code()))
    }

    /// Merges keys into a session's metadata, each replacing the one of its name.
    ///
    /// # Errors
    /// Hands the keys back where they cannot be accepted now; see [`Reason`].
    pub fn update_session(
        &self,
        session_id: Uuid,
        metadata: JsonObject,
    ) -> Result<Receipt, Refused<JsonObject>> {
        let updated = self.door.update(session_id, metadata);
        updated.inspect_err(|refused| self.count_refusal(refused.reason.code()))
    }

    /// Ends a session, whoever else is connected to it. Ending it again changes nothing.
    ///
    /// # Errors
    /// Only while the tracker is shutting down, which ends every session itself.
    pub fn end_session(&self, session_id: Uuid, reason: &str) -> Result<SessionReceipt<Ended>, Reason> {
        self.end_session_as(
            session_id,
            Closing { status: Status::Ended, reason, ended_at: self.door.options.clock.now() },
        )
    }

    /// The same with all that is known of the end, such as one from a recording. It replaces the end of a session that was
    /// abandoned; any other end stands.
    ///
    /// # Errors
    /// Only while the tracker is shutting down, which ends every session itself.
    pub fn end_session_as(
        &self,
        session_id: Uuid,
        closing: Closing<'_>,
    ) -> Result<SessionReceipt<Ended>, Reason> {
        self.door.end(session_id, closing)
    }

    /// A connection of the session is gone. The last one to go ends the session with the reason `disconnect`. Every start
    /// counts as one connection until its `disconnect`, also where somebody ends the session in between.
    ///
    /// # Errors
    /// Only while the tracker is shutting down, which ends every session itself.
    pub fn disconnect(&self, session_id: Uuid) -> Result<Option<SessionReceipt<Ended>>, Reason> {
        self.door.infer_end(session_id, Status::Ended, "disconnect", Session::disconnect)
    }

    /// Whoever started the session holds no connection to it: it goes on until somebody ends it, or until it has been silent
    /// for `idle_timeout`. Takes back what the start counted.
    pub fn detach(&self, session_id: Uuid) {
        self.door.registry.with(session_id, |session| session.map(Session::disconnect));
    }

    /// Whose a session is, as far as memory knows. It knows those that go on here, and those that ended a moment ago.
    pub fn owner_of(&self, session_id: Uuid) -> Option<Uuid> {
        self.door.registry.with(session_id, |session| session.map(|session| session.user_id))
    }

    /// What memory knows of a session that goes on here, or ended a moment ago, as a row: neither its words (`external_id`,
    /// `end_reason`, `metadata`) nor what other nodes know of it. The whole of it is in the store.
    pub fn session_in_memory(&self, session_id: Uuid) -> Option<SessionRow> {
        self.door.registry.with(session_id, |session| session.map(|session| session.row(session_id)))
    }

    /// The session's connection lives, although nobody speaks: it is not idle.
    pub fn keep_alive(&self, session_id: Uuid) {
        self.door.registry.keep_alive(session_id, self.door.now());
    }

    /// Forgets a user's claim to a session whose start was refused.
    pub fn forget(&self, session_id: Uuid, user_id: Uuid) {
        self.door.registry.forget(session_id, user_id);
    }

    /// Lets go of sessions whose grace period is over and abandons those that have been silent for `idle_timeout`.
    /// Happens by itself, several times per period.
    pub fn sweep(&self) {
        self.door.sweep();
    }

    /// Sessions in memory: those that go on, and those in their grace period.
    pub fn sessions_in_memory(&self) -> usize {
        self.door.registry.len()
    }
}

impl Door {
    #[expect(clippy::result_large_err, reason = "the refusal hands the session back")]
    fn start(&self, mut session: NewSession) -> Result<SessionReceipt<Started>, Refused<NewSession>> {
        session.replace_nul();
        let now = self.now();
        let bytes = session.heap_bytes();
        let checked = self.check_room().and_then(|()| self.check_size(bytes));
        let named = session.external_id.as_deref().map_or(Ok(()), message::check_external_id);
        if let Err(reason) = checked.and(named.map_err(Reason::from)) {
            return Err(Refused { reason, returned: session });
        }
        let entry = self.registry.entry(session.session_id);
        let known = match &entry {
            Entry::Occupied(known) if known.get().user_id == session.user_id => true,
            Entry::Occupied(known) if self.is_proven(known.get()) => {
                return Err(Refused { reason: Reason::OtherUser, returned: session });
            }
            // Another user's claim that the store has not confirmed: the store decides between the two.
            Entry::Occupied(_) | Entry::Vacant(_) => false,
        };
        let place = match self.queue.admit(now.at, bytes, Admission::IfRoom) {
            Ok(place) => place,
            Err(reason) => return Err(Refused { reason, returned: session }),
        };
        let NewSession { session_id, user_id, external_id, metadata, started_at } = session;
        let started_at = started_at.unwrap_or(now.at);
        let start = SessionStart { session_id, user_id, external_id, metadata, started_at, resumed: known };
        let (reply, receipt) = SessionReceipt::new();
        let seq = place.fill(Body::Start(start), Reply::Started(reply));
        match entry {
            Entry::Occupied(mut session) if known => session.get_mut().resume(now, seq),
            entry => drop(entry.insert(Session::new(user_id, started_at, now, seq))),
        }
        Ok(receipt)
    }

    fn update(&self, session_id: Uuid, metadata: JsonObject) -> Result<Receipt, Refused<JsonObject>> {
        let now = self.now();
        let bytes = metadata.as_str().len();
        let owner = self.registry.with(session_id, |session| session.map(|session| session.user_id));
        let checked = self.check_room().and_then(|()| self.check_size(bytes));
        let place = match checked.and_then(|()| self.queue.admit(now.at, bytes, Admission::IfRoom)) {
            Ok(place) => place,
            Err(reason) => return Err(Refused { reason, returned: metadata }),
        };
        let metadata = metadata.without_nul().unwrap_or(metadata);
        let seq = place.fill(Body::Update(SessionUpdate { session_id, metadata, owner }), Reply::Nobody);
        self.registry.keep_alive(session_id, now);
        Ok(Receipt::new(session_id, seq, Arc::clone(&self.shared.progress)))
    }

    /// Whether the session's start is durable, and with it whose it is.
    fn is_proven(&self, session: &Session) -> bool {
        !matches!(
            self.shared.progress.outcome_of(session.started_seq()),
            None | Some(Err(NotDurable::OtherUser | NotDurable::Deleted))
        )
    }

    fn end(&self, session_id: Uuid, closing: Closing<'_>) -> Result<SessionReceipt<Ended>, Reason> {
        let ended = self.registry.with(session_id, |session| {
            let is_known = session.is_some();
            self.enqueue_end(session_id, session, closing, false).map(|receipt| (receipt, is_known))
        });
        ended.map(|(receipt, is_known)| {
            if !is_known {
                lines::not_in_state(session_id);
            }
            receipt
        })
    }

    /// Nobody told the end, but this node sees it: a connection gone, silence, its own stop. `is_over` decides under the
    /// session's lock: whoever connects or speaks at the same moment comes before that, or resumes what has ended.
    pub(super) fn infer_end(
        &self,
        session_id: Uuid,
        status: Status,
        reason: &str,
        is_over: impl FnOnce(&mut Session) -> bool,
    ) -> Result<Option<SessionReceipt<Ended>>, Reason> {
        let closing = Closing { status, reason, ended_at: self.now().at };
        self.registry.with(session_id, |session| {
            let Some(session) = session else { return Ok(None) };
            is_over(session).then(|| self.enqueue_end(session_id, Some(session), closing, true)).transpose()
        })
    }

    /// Under the session's lock where it is known, so that ends and starts stand in the queue as the registry has them.
    fn enqueue_end(
        &self,
        session_id: Uuid,
        session: Option<&mut Session>,
        closing: Closing<'_>,
        inferred: bool,
    ) -> Result<SessionReceipt<Ended>, Reason> {
        let Closing { status, reason, ended_at } = closing;
        let now = self.now();
        let closed =
            session.map(|session| (session.end(now, ended_at), session.seen_until(), session.user_id));
        let known = closed.map(|(figures, _, _)| figures);
        let seen_until = closed.map(|(_, seen_until, _)| seen_until).filter(|_| inferred);
        let owner = closed.map(|(_, _, user_id)| user_id);
        let mut reason = reason.to_owned();
        message::clean(&mut reason);
        let place = self.queue.admit(now.at, reason.len(), Admission::Always)?;
        let (reply, receipt) = SessionReceipt::new();
        let end = SessionEnd { session_id, status, reason, ended_at, known, seen_until, owner };
        place.fill(Body::End(end), Reply::Ended(reply));
        Ok(receipt)
    }

    pub(super) fn sweep(&self) {
        let Options { grace_period, idle_timeout, .. } = &self.options;
        let now = self.now();
        let swept = self.registry.sweep(now.elapsed, *grace_period, *idle_timeout);
        for session_id in swept.silent {
            // Refused only while shutting down, which ends them all.
            let is_silent = |session: &mut Session| session.is_silent(now.elapsed, *idle_timeout);
            let _ = self.infer_end(session_id, Status::Abandoned, "idle_timeout", is_silent);
        }
        for (session_id, at) in swept.alive {
            self.tell_alive(session_id, at, now.at);
        }
        if self.shared.vitals.is_unerased() {
            self.queue.nudge();
        }
        self.shared.figures.sessions_active.set(f64::from(swept.active));
    }

    /// Where there is no room the next sweep tells.
    fn tell_alive(&self, session_id: Uuid, at: Timestamp, now: Timestamp) {
        self.registry.with(session_id, |session| {
            let (Some(session), Ok(place)) = (session, self.queue.admit(now, 0, Admission::IfRoom)) else {
                return;
            };
            let seq = place.fill(Body::Alive(SessionAlive { session_id, at }), Reply::Nobody);
            session.told_alive(seq);
        });
    }
}
