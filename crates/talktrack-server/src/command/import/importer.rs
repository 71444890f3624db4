//! Imports lines one after the other. An invalid line is reported and skipped.

use std::collections::HashMap;

use talktrack::clock::{Clock as _, SystemClock};
use talktrack::message::program_session_id;
use talktrack::store::SessionRow;
use talktrack::{
    Closing, Dimensions, JsonObject, Message, NewSession, SessionChanges, SessionId, Status, Stored,
    Timestamp, Tracker, UserId,
};
use talktrack_client::api::ApiClient;
use talktrack_protocol::jsonl::{Line, LinePosition};
use talktrack_protocol::{ClientFrame, Frame, SessionName, SessionStartFrame};

use super::handover::{Handover, ImportError};
use super::imported_message_id;
use super::tally::ImportTally;
use crate::error::Failure;
use crate::session_frames::to_changes;

/// How many lines are handed over before the outcomes of earlier ones are handled.
const LINES_BETWEEN_LOOKS: u64 = 256;

pub(crate) struct Importer {
    handover: Handover,
    /// The sessions of the lines so far.
    sessions: HashMap<SessionId, ImportedSession>,
    /// The number of message lines of each session in this file so far. A message without an id gets one from this
    /// number. Lines without a known session count too, because the session may exist at the next import.
    lines: HashMap<SessionId, u64>,
}

struct ImportedSession {
    /// The user of the session, if known.
    user_id: Option<UserId>,
    /// True if a line of this import started the session.
    is_new: bool,
    /// When the latest of its messages was said.
    last: Option<Timestamp>,
}

impl ImportedSession {
    fn new(user_id: UserId) -> Self {
        Self { user_id: Some(user_id), is_new: true, last: None }
    }

    fn from_row(row: &SessionRow) -> Self {
        Self { user_id: row.user_id.clone(), is_new: false, last: None }
    }
}

fn line_error(problem: &str) -> ImportError {
    ImportError::Line(problem.to_owned())
}

impl Importer {
    /// Makes an importer into a tracker of this process. `counts_rows` says whether the books tell how many rows were new.
    pub(crate) fn new(tracker: Tracker, counts_rows: bool) -> Self {
        Self::with_handover(Handover::to_tracker(tracker, counts_rows))
    }

    /// Makes an importer into a running server.
    pub(super) fn into_server(api: ApiClient) -> Self {
        Self::with_handover(Handover::to_server(api))
    }

    fn with_handover(handover: Handover) -> Self {
        Self { handover, sessions: HashMap::new(), lines: HashMap::new() }
    }

    /// Begins another file, which has its own numbering of lines.
    pub(super) fn begin_file(&mut self) {
        self.lines.clear();
    }

    /// Imports a line. An invalid line is reported on stderr.
    ///
    /// # Errors
    /// Fails if nothing more can be imported.
    pub(crate) async fn import_line(&mut self, line: &Line<'_>) -> Result<(), Failure> {
        let tally = &mut self.handover.report().tally;
        tally.lines += 1;
        if tally.lines.is_multiple_of(LINES_BETWEEN_LOOKS) {
            self.handover.settle_receipts();
        }
        let taken = match line.text {
            Ok(text) => self.import_frame(line.place, text).await,
            Err(problem) => Err(line_error(problem)),
        };
        match taken {
            Ok(()) => Ok(()),
            Err(ImportError::Fatal(failure)) => Err(failure),
            Err(ImportError::Line(problem)) => {
                self.handover.report().refuse_line(&line.place.to_string(), &problem);
                Ok(())
            }
        }
    }

    /// Waits until everything is stored, or durable if the store is unavailable, and returns the result.
    ///
    /// # Errors
    /// Fails if the tracker stopped before.
    pub(crate) async fn finish(self) -> Result<ImportTally, Failure> {
        self.handover.finish().await
    }

    async fn import_frame(&mut self, place: LinePosition<'_>, text: &str) -> Result<(), ImportError> {
        let Frame { body, session_id, user_id, warnings, .. } = Frame::parse(text)?;
        self.handover.report().warn(place, warnings);
        let named = session_id.as_ref().map(SessionName::id_for_key);
        let named = named.ok_or_else(|| line_error("session_id: missing"));
        match body {
            ClientFrame::SessionStart(start) => self.import_start(session_id, user_id, start).await,
            ClientFrame::Message(frame) => {
                self.import_message(place, user_id.as_ref(), frame.in_session(named?)).await
            }
            ClientFrame::SessionUpdate(update) => self.import_update(named?, to_changes(update)).await,
            ClientFrame::SessionEnd { reason, ended_at, status } => {
                let status = status.unwrap_or(Status::Ended);
                self.import_end(named?, status, reason.as_deref(), ended_at).await
            }
            ClientFrame::Auth { .. } | ClientFrame::Ping => Ok(()),
        }
    }

    async fn import_start(
        &mut self,
        name: Option<SessionName>,
        user: Option<UserId>,
        start: SessionStartFrame,
    ) -> Result<(), ImportError> {
        let SessionStartFrame { external_id, metadata, dimensions, started_at, resume, .. } = start;
        let external_id = external_id.or_else(|| name.as_ref()?.external_id().map(str::to_owned));
        let session_id =
            name.map(|name| name.id_for_key()).or(external_id.as_deref().map(program_session_id));
        let session_id = session_id.ok_or_else(|| line_error("session_id: missing"))?;
        let started = self.sessions.get(&session_id).filter(|session| session.is_new);
        let started = started.and_then(|session| session.user_id.clone());
        let stored = if started.is_none() { self.handover.session(session_id).await? } else { None };
        let owner = started.clone().or(stored.as_ref().and_then(|row| row.user_id.clone()));
        if owner.as_ref().zip(user.as_ref()).is_some_and(|(owner, user)| owner != user) {
            return Err(line_error("user_id: the session belongs to another user"));
        }
        if let Some(row) = stored {
            return self.resume_session(&row, metadata, dimensions).await;
        }
        // A session without a user is a guest's.
        let user_id = user.or(owner).unwrap_or_else(|| UserId::guest_of(session_id));
        let mut session = NewSession::new(session_id, user_id.clone());
        session.external_id = external_id;
        let session = session
            .with_metadata(metadata)
            .with_dimensions(dimensions)
            .with_started_at(started_at)
            .with_resume(resume);
        self.handover.start_session(session).await?;
        self.handover.report().tally.sessions += u64::from(started.is_none());
        self.sessions.entry(session_id).or_insert_with(|| ImportedSession::new(user_id));
        Ok(())
    }

    /// Continues a stored session. It is not started again, which would reopen it; only missing metadata is added.
    async fn resume_session(
        &mut self,
        row: &SessionRow,
        metadata: Option<JsonObject>,
        dimensions: Dimensions,
    ) -> Result<(), ImportError> {
        self.sessions.entry(row.session_id).or_insert_with(|| ImportedSession::from_row(row));
        let stored = row.metadata.as_ref().and_then(Stored::as_object).unwrap_or_default();
        let is_new = |metadata: &JsonObject| stored.merged(metadata) != stored.merged(&JsonObject::default());
        let metadata = metadata.filter(is_new);
        if metadata.is_none() && row.dimensions.clone().replaced_by(dimensions.clone()) == row.dimensions {
            return Ok(());
        }
        let changes =
            SessionChanges::new().with_metadata(metadata.unwrap_or_default()).with_dimensions(dimensions);
        self.import_update(row.session_id, changes).await
    }

    /// Returns the session of a line that does not start one: a session of an earlier line, or a stored one.
    async fn find_session(&mut self, session_id: SessionId) -> Result<&mut ImportedSession, ImportError> {
        if !self.sessions.contains_key(&session_id)
            && let Some(row) = self.handover.session(session_id).await?
        {
            self.sessions.insert(session_id, ImportedSession::from_row(&row));
        }
        let unknown = "session_id: no session.start line came before, and no such session is stored";
        self.sessions.get_mut(&session_id).ok_or_else(|| line_error(unknown))
    }

    async fn import_message(
        &mut self,
        place: LinePosition<'_>,
        user_id: Option<&UserId>,
        mut message: Message,
    ) -> Result<(), ImportError> {
        let lines = self.lines.entry(message.session_id).or_default();
        *lines += 1;
        let place_in_session = *lines;
        let session = self.find_session(message.session_id).await?;
        if user_id.zip(session.user_id.as_ref()).is_some_and(|(named, owner)| named != owner) {
            return Err(line_error("user_id: is not the user of the session"));
        }
        session.last = session.last.max(message.created_at);
        if message.id.is_none() && message.external_id.is_none() {
            message.id = Some(imported_message_id(message.session_id, place_in_session));
        }
        self.handover.track_message(message, place).await
    }

    async fn import_update(
        &mut self,
        session_id: SessionId,
        changes: SessionChanges,
    ) -> Result<(), ImportError> {
        self.find_session(session_id).await?;
        self.handover.update_session(session_id, changes).await
    }

    async fn import_end(
        &mut self,
        session_id: SessionId,
        status: Status,
        reason: Option<&str>,
        ended_at: Option<Timestamp>,
    ) -> Result<(), ImportError> {
        let session = self.find_session(session_id).await?;
        let last = session.last;
        let ended_at = ended_at.or(last).unwrap_or_else(|| SystemClock.now());
        let closing = Closing::new(status, reason.unwrap_or("completed"), ended_at);
        self.handover.end_session(session_id, closing).await
    }
}
