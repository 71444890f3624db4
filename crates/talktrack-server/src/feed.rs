//! Frames of many sessions over one connection or in one request. A [`Feed`] finds the session of each frame, hands what
//! the frame asks for to the tracker, and remembers which sessions it has started.
//!
//! Frames come in batches. [`look_up_starts`] looks up the sessions that a batch starts, all at once. Then each frame goes
//! through three steps, in order: [`Feed::route`] decides without I/O, [`Inquiry::answer`] asks the store if it must, and
//! [`Feed::hand_over`] gives the order to the tracker. Between the last two the frame waits for its turn. Nothing waits for
//! the disk, so that the starts, messages and ends of many sessions share their commits.

mod inquiry;
mod open_sessions;
mod order;
mod pending;

use axum::http::StatusCode;
use talktrack::clock::{Clock as _, Seq, SystemClock};
use talktrack::{
    ClaimRefusal, Ended, NewSession, NotDurable, SessionId, SessionReceipt, SessionRef, Timestamp, Tracker,
};
use talktrack_protocol::{Frame, FrameRef, SessionName};

pub(crate) use inquiry::{Inquiry, LookedUp, look_up_starts};
pub(crate) use order::Order;
pub(crate) use pending::{Pending, ended_frame};

use crate::access;
use crate::auth::Caller;
use crate::error::Problem;
use crate::session_frames::{self, PreparedStart};
use crate::state::AppState;
use open_sessions::{MAX_OPEN, OpenSession, OpenSessions};
use order::{Request, Task};
use pending::Awaited;

/// The sessions of one connection or request.
pub(crate) struct Feed {
    state: AppState,
    caller: Caller,
    /// When the feed was opened.
    since: Timestamp,
    /// True if the feed is a connection. If it is a request, its sessions have no connection that could break.
    is_connection: bool,
    sessions: OpenSessions,
}

/// The next step of a frame.
pub(crate) enum Route {
    /// The session is one that the feed has started.
    Known(Order),
    /// The session must be looked up.
    Unknown(Inquiry),
}

impl Feed {
    /// Opens a feed without sessions. `is_connection` says whether the sessions end when the feed is dropped.
    pub(crate) fn open(state: &AppState, caller: &Caller, is_connection: bool) -> Self {
        let sessions = OpenSessions::default();
        Self {
            state: state.clone(),
            caller: caller.clone(),
            since: SystemClock.now(),
            is_connection,
            sessions,
        }
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Decides what a frame asks for that starts no session, as far as that is possible without asking the store.
    ///
    /// # Errors
    /// 400 if the frame names no session, or another user than that of its session, or is about no session at all. The
    /// refusal is counted.
    pub(crate) fn route(&self, frame: Frame) -> Result<Route, Problem> {
        let routed = self.find_route(frame);
        routed.inspect_err(|problem| self.state.tracker().count_refusal(problem.code()))
    }

    fn find_route(&self, frame: Frame) -> Result<Route, Problem> {
        let Frame { body, session_id, user_id, reference, warnings, .. } = frame;
        let name = session_id.ok_or_else(|| Problem::invalid("session_id: missing"))?;
        let request = Request { task: Task::from_body(body)?, user_id, reference, warnings };
        match self.find_open(&name) {
            Some((session_id, session)) => request.in_session(session.origin(session_id)).map(Route::Known),
            None => Ok(Route::Unknown(Inquiry { name, request })),
        }
    }

    fn find_open(&self, name: &SessionName) -> Option<(SessionId, &OpenSession)> {
        let ids = match self.caller.user() {
            Some(user) => name.ids_for_user(&user.user_id),
            None => vec![name.id_for_key()],
        };
        ids.into_iter().find_map(|id| Some((id, self.sessions.get(id)?)))
    }

    /// Hands an order to the tracker. Returns what is to be awaited before the frame can be answered.
    ///
    /// # Errors
    /// If the feed has too many sessions, or the tracker refuses the record. The refusal is counted.
    pub(crate) fn hand_over(&mut self, order: Order) -> Result<Pending, Problem> {
        let Order { task, origin, reference, warnings } = order;
        let session_id = origin.session.session_id;
        let tracker = self.state.tracker();
        let awaited = match task {
            Task::Start(PreparedStart::New(session)) => return self.start(session, reference),
            Task::Start(PreparedStart::Repeated { session, warnings }) => {
                Awaited::Repeated { seq: self.started_seq(session_id), user_id: session.user_id, warnings }
            }
            Task::Message(message) => {
                let message = message.with_session_id(session_id);
                let receipt = tracker.track_message_after(message, &origin.author, origin.said_until)?;
                Awaited::Message { receipt, warnings: warnings.into_texts() }
            }
            Task::Update(update) => {
                let changes = session_frames::to_changes(update);
                Awaited::Update(tracker.update_session(origin.session, changes)?)
            }
            Task::End(end) => {
                let receipt = tracker.end_session_as(origin.session, end.closing())?;
                self.sessions.note_end(session_id, receipt.seq());
                Awaited::End(receipt)
            }
        };
        Ok(Pending { session_id, reference, awaited })
    }

    fn start(&mut self, session: NewSession, reference: Option<FrameRef>) -> Result<Pending, Problem> {
        let (session_id, user_id) = (session.session_id, session.user_id.clone());
        let known = self.sessions.get(session_id).filter(|known| known.user_id == user_id);
        if let Some(known) = known
            && !session.resume
        {
            let (seq, warnings) = (Some(known.started_seq), Vec::new());
            return Ok(Pending {
                session_id,
                reference,
                awaited: Awaited::Repeated { seq, user_id, warnings },
            });
        }
        let is_known = known.is_some();
        let tracker = self.state.tracker();
        if !self.sessions.make_room(session_id, tracker) {
            let detail = format!("this feed has {MAX_OPEN} open sessions; end some, or open another feed");
            let problem = Problem::busy(StatusCode::SERVICE_UNAVAILABLE, detail, 1);
            tracker.count_refusal(problem.code());
            return Err(problem);
        }
        let receipt = tracker.start_session(session)?;
        if is_known {
            // The feed is one connection to the session, however often it resumes the session.
            tracker.detach(SessionRef::for_user(session_id, user_id.clone()));
        }
        let author = access::author(&self.caller, Some(user_id.clone()));
        let claim = receipt.claim(session_id, user_id.clone());
        self.sessions.insert(session_id, OpenSession::new(user_id.clone(), author, receipt.seq(), claim));
        Ok(Pending { session_id, reference, awaited: Awaited::Start { receipt, user_id } })
    }

    fn started_seq(&self, session_id: SessionId) -> Option<Seq> {
        self.sessions.get(session_id).map(|session| session.started_seq)
    }

    /// Forgets a session whose start was refused, unless it has been started again since.
    fn forget(&mut self, session_id: SessionId, started_seq: Seq, why: NotDurable) {
        let Some(session) = self.sessions.remove_started(session_id, started_seq) else { return };
        if matches!(why, NotDurable::OtherUser | NotDurable::Deleted) {
            self.state.tracker().forget_claim(session_id, &session.user_id);
        } else {
            self.state.tracker().detach(SessionRef::for_user(session_id, session.user_id));
        }
    }

    /// Drops a session whose end is durable, unless it has been resumed since.
    fn close(&mut self, session_id: SessionId, ended_seq: Seq) {
        if let Some(session) = self.sessions.remove_ended(session_id, ended_seq) {
            self.state.tracker().detach(SessionRef::for_user(session_id, session.user_id));
        }
    }

    /// Notes that the session is alive, if the feed has started it.
    pub(crate) fn keep_alive(&self, name: &SessionName) {
        if let Some((session_id, session)) = self.find_open(name) {
            self.state.tracker().keep_alive(SessionRef::for_user(session_id, session.user_id.clone()));
        }
    }

    /// Returns what a remote store has refused since the last call. Sessions that are another user's are forgotten.
    pub(crate) fn find_refusals(&mut self) -> Vec<(SessionId, ClaimRefusal)> {
        let refusals = self.sessions.find_refusals();
        for (session_id, refusal) in &refusals {
            if let (ClaimRefusal::Start(why), Some(seq)) = (refusal, self.started_seq(*session_id)) {
                self.forget(*session_id, seq, *why);
            }
        }
        refusals
    }

    /// Ends the sessions that are still open, because the server shuts down.
    pub(crate) fn end_all(&mut self) -> Vec<(SessionId, SessionReceipt<Ended>)> {
        let tracker = self.state.tracker();
        let end = |(session_id, session): (SessionId, &OpenSession)| {
            let session = SessionRef::for_user(session_id, session.user_id.clone());
            Some((session_id, tracker.end_session(session, "shutdown").ok()?))
        };
        self.sessions.open().filter_map(end).collect()
    }
}

impl Drop for Feed {
    /// However the connection or request ends, its sessions lose it.
    fn drop(&mut self) {
        let tracker: &Tracker = self.state.tracker();
        for (session_id, session) in self.sessions.drain() {
            let session = SessionRef::for_user(session_id, session.user_id);
            if self.is_connection {
                // The tracker refuses this only during shutdown, and the shutdown ends every session.
                let _ = tracker.disconnect_feed(session, self.since);
            } else {
                tracker.detach(session);
            }
        }
    }
}
