//! Hands records over: to a tracker of this process, or to a running server.

mod server;
mod tracker;

use talktrack::store::SessionRow;
use talktrack::{
    Closing, Message, NewSession, NotDurable, ReadError, Reason, SessionChanges, SessionId, Tracker,
};
use talktrack_client::api::ApiClient;
use talktrack_protocol::WireError;
use talktrack_protocol::jsonl::LinePosition;

use server::ServerHandover;
use tracker::TrackerHandover;

use super::tally::{ImportReport, ImportTally};
use crate::error::Failure;

/// Where the records go.
pub(super) enum Handover {
    Tracker(Box<TrackerHandover>),
    Server(Box<ServerHandover>),
}

/// Why a line was not imported.
pub(super) enum ImportError {
    /// The line is invalid. Others may be valid.
    Line(String),
    /// Nothing more can be imported.
    Fatal(Failure),
}

impl Handover {
    /// Hands over to a tracker. `counts_rows` says whether its books tell how many rows were new.
    pub(super) fn to_tracker(tracker: Tracker, counts_rows: bool) -> Self {
        Self::Tracker(Box::new(TrackerHandover::new(tracker, counts_rows)))
    }

    /// Hands over to a server.
    pub(super) fn to_server(api: ApiClient) -> Self {
        Self::Server(Box::new(ServerHandover::new(api)))
    }

    /// Returns what is reported about the lines.
    pub(super) fn report(&mut self) -> &mut ImportReport {
        match self {
            Self::Tracker(tracker) => tracker.report(),
            Self::Server(server) => server.report(),
        }
    }

    /// Returns a stored session.
    pub(super) async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ImportError> {
        match self {
            Self::Tracker(tracker) => tracker.session(session_id).await,
            Self::Server(server) => server.session(session_id).await,
        }
    }

    /// Starts a session.
    pub(super) async fn start_session(&mut self, session: NewSession) -> Result<(), ImportError> {
        match self {
            Self::Tracker(tracker) => tracker.start_session(session).await,
            Self::Server(server) => server.start_session(&session).await,
        }
    }

    /// Hands over the message of a line. A refusal that comes later is reported with this place.
    pub(super) async fn track_message(
        &mut self,
        message: Message,
        place: LinePosition<'_>,
    ) -> Result<(), ImportError> {
        match self {
            Self::Tracker(tracker) => tracker.track_message(message, place).await,
            Self::Server(server) => server.track_message(&message, place).await,
        }
    }

    /// Changes a session that exists.
    pub(super) async fn update_session(
        &mut self,
        session_id: SessionId,
        changes: SessionChanges,
    ) -> Result<(), ImportError> {
        match self {
            Self::Tracker(tracker) => tracker.update_session(session_id, changes).await,
            Self::Server(server) => server.update_session(session_id, &changes).await,
        }
    }

    /// Ends a session.
    pub(super) async fn end_session(
        &mut self,
        session_id: SessionId,
        closing: Closing<'_>,
    ) -> Result<(), ImportError> {
        match self {
            Self::Tracker(tracker) => tracker.end_session(session_id, closing),
            Self::Server(server) => server.end_session(session_id, &closing).await,
        }
    }

    /// Handles the outcomes that are known by now.
    pub(super) fn settle_receipts(&mut self) {
        if let Self::Tracker(tracker) = self {
            tracker.settle_receipts();
        }
    }

    /// Waits until everything is stored, or durable if the store is unavailable, and returns the result. A server goes on
    /// with what is durable.
    ///
    /// # Errors
    /// Fails if the tracker stopped before, or the server does not answer.
    pub(super) async fn finish(self) -> Result<ImportTally, Failure> {
        match self {
            Self::Tracker(tracker) => tracker.finish().await,
            Self::Server(server) => server.finish().await,
        }
    }
}

impl From<WireError> for ImportError {
    fn from(error: WireError) -> Self {
        Self::Line(error.to_string())
    }
}

impl From<Reason> for ImportError {
    fn from(reason: Reason) -> Self {
        Self::Line(reason.to_string())
    }
}

impl From<ReadError> for ImportError {
    fn from(error: ReadError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<NotDurable> for ImportError {
    fn from(error: NotDurable) -> Self {
        Self::Fatal(error.into())
    }
}
