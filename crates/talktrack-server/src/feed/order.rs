//! What a frame asks for, in a session that the caller may use.

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::json::MAX_SESSION_METADATA;
use talktrack::{Author, Closing, Message, SessionId, SessionRef, Status, Timestamp, UserId};
use talktrack_protocol::{ClientFrame, FrameRef, SessionUpdateFrame, Warnings, reason_of_end};

use crate::access::{self, Granted};
use crate::auth::Caller;
use crate::error::Problem;
use crate::session_frames::PreparedStart;
use crate::state::AppState;

/// A frame with its session, ready to be handed to the tracker.
pub(crate) struct Order {
    pub(super) task: Task,
    pub(super) origin: Origin,
    pub(super) reference: Option<FrameRef>,
    pub(super) warnings: Warnings,
}

/// A frame about a session that exists, before its session was found.
pub(crate) struct Request {
    pub(super) task: Task,
    /// The user that the frame names.
    pub(super) user_id: Option<UserId>,
    pub(super) reference: Option<FrameRef>,
    pub(super) warnings: Warnings,
}

/// The session of an order, and on whose authority the order writes.
pub(super) struct Origin {
    pub(super) session: SessionRef,
    pub(super) author: Author,
    /// The user of the session, if known.
    pub(super) owner: Option<UserId>,
    /// Messages without a time get a later time than this.
    pub(super) said_until: Option<Timestamp>,
}

/// What a frame asks for.
pub(super) enum Task {
    Start(PreparedStart),
    /// The message, still without its session.
    Message(Message),
    Update(SessionUpdateFrame),
    End(End),
}

/// The end of a session.
pub(super) struct End {
    reason: String,
    ended_at: Timestamp,
    status: Status,
}

impl End {
    pub(super) fn closing(&self) -> Closing<'_> {
        Closing::new(self.status, &self.reason, self.ended_at)
    }
}

impl Task {
    /// Returns what a frame asks for in a session that exists.
    ///
    /// # Errors
    /// 400 if the frame is not about such a session, or if the reason of an end is not valid.
    pub(super) fn from_body(body: ClientFrame) -> Result<Self, Problem> {
        let wrong_type = |what| Err(Problem::invalid(format_args!("type: must not be {what} here")));
        Ok(match body {
            ClientFrame::Message(message) => Self::Message(message.in_session(SessionId::nil())),
            ClientFrame::SessionUpdate(update) => Self::Update(update),
            ClientFrame::SessionEnd { reason, ended_at, status } => Self::End(End {
                reason: reason_of_end(reason).map_err(Problem::invalid)?,
                ended_at: ended_at.unwrap_or_else(|| SystemClock.now()),
                status: status.unwrap_or(Status::Ended),
            }),
            ClientFrame::SessionStart(_) => return wrong_type("session.start"),
            ClientFrame::Auth { .. } => return wrong_type("auth"),
            ClientFrame::Ping => return wrong_type("ping"),
        })
    }
}

impl Origin {
    /// Makes the origin of an order in a session that the caller may use.
    pub(super) async fn from_granted(granted: Granted, state: &AppState, caller: &Caller) -> Self {
        let said_until = granted.said_until(state).await;
        let (session, author) = (granted.session(), granted.author(caller));
        Self { session, author, owner: granted.claim.or(granted.owner), said_until }
    }
}

impl Request {
    /// Makes the order, if the session is the one that the frame means.
    ///
    /// # Errors
    /// 400 if the frame names another user than that of the session.
    pub(super) fn in_session(self, origin: Origin) -> Result<Order, Problem> {
        let Self { task, user_id, reference, warnings } = self;
        if user_id.zip(origin.owner.as_ref()).is_some_and(|(named, owner)| named != *owner) {
            return Err(Problem::invalid("user_id: is not the user of this session"));
        }
        Ok(Order { task, origin, reference, warnings })
    }
}

impl Order {
    /// Makes the order of a start.
    pub(super) fn of_start(start: PreparedStart, caller: &Caller, reference: Option<FrameRef>) -> Self {
        let (PreparedStart::New(session) | PreparedStart::Repeated { session, .. }) = &start;
        let owner = Some(session.user_id.clone());
        let origin = Origin {
            session: SessionRef::for_user(session.session_id, session.user_id.clone()),
            author: access::author(caller, owner.clone()),
            owner,
            said_until: None,
        };
        Self { task: Task::Start(start), origin, reference, warnings: Warnings::default() }
    }

    /// Returns how much the record weighs when the sender takes turns, in bytes of text.
    pub(crate) fn bytes(&self) -> usize {
        match &self.task {
            // An update writes the whole metadata of the session again, so it counts with their maximum size.
            Task::Update(_) => MAX_SESSION_METADATA,
            Task::Start(PreparedStart::New(session)) => {
                session.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len())
            }
            Task::Start(PreparedStart::Repeated { .. }) | Task::End(_) => 0,
            Task::Message(message) => message.heap_bytes(),
        }
    }
}
