//! Starts, updates and ends of sessions.

use talktrack::store::SessionRow;
use talktrack_core::clock::Timestamp;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::SessionId;
use talktrack_core::json::JsonObject;
use talktrack_core::message::{MessageStatus, Role};
use talktrack_core::record::{
    DeadReason, Ended, Reopened, SessionEnd, SessionStart, SessionUpdate, StartTime, Status, Verdict,
};
use talktrack_core::store::conflict::{
    Ending, MAX_STORED_METADATA, METADATA_TOO_LARGE, Origin, Rule, SessionEndState,
};
use talktrack_core::stored::{Stored, StoredTime};

use crate::memory::Tables;

/// The columns that the other stores keep in a session's row in addition to those of [`SessionRow`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AppliedState {
    /// The record that was last applied to the row.
    pub(super) last: Option<Origin>,
    /// The end was inferred: a node concluded it, no client sent it.
    end_inferred: bool,
    /// When the session started, and how that is known.
    start: Option<StartTime>,
}

/// The origin of a record, and how much of it applies.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordSource {
    pub(super) rule: Rule,
    pub(super) origin: Origin,
    /// An operator replayed the record.
    pub(super) is_replayed: bool,
}

impl Tables {
    pub(super) fn start(&mut self, by: RecordSource, start: &SessionStart) -> Verdict {
        let (_, seq) = by.origin;
        let by = RecordSource { rule: by.rule.for_start(start), ..by };
        let applied = self.applied.entry(start.session_id).or_default();
        let Some(session) = self.sessions.get_mut(&start.session_id) else {
            self.sessions.insert(start.session_id, SessionRow::from_start(start, seq));
            // A replayed start must not hide earlier records of the session.
            let last = (!by.is_replayed).then_some(by.origin);
            *applied = AppliedState { last, end_inferred: false, start: Some(start.start_time()) };
            return Verdict::Started { resumed: false };
        };
        if session.user_id.as_ref() != Some(&start.user_id) {
            return Verdict::Refused(NotDurable::OtherUser);
        }
        if known(session.ended_at.as_ref()).is_some_and(|ended_at| by.rule.reopens(seq, ended_at)) {
            reopen(session, applied);
        }
        if start.reopens {
            session.last_event_at = session.last_event_at.take().max(Some(start.happened_at(seq).into()));
        }
        if session.external_id.is_none() {
            session.external_id.clone_from(&start.external_id);
        }
        session.dimensions =
            by.rule.merge_dimensions(std::mem::take(&mut session.dimensions), &start.dimensions);
        if let Some(added) = &start.metadata
            && !merge(by.rule, &mut session.metadata, added)
        {
            return metadata_too_large();
        }
        applied.apply(by);
        Verdict::Started { resumed: true }
    }

    pub(super) fn update(&mut self, by: RecordSource, update: &SessionUpdate) -> Verdict {
        let Some(session) = self.sessions.get_mut(&update.session_id) else {
            return Verdict::Refused(NotDurable::UnknownSession);
        };
        if update.owner.is_some() && session.user_id != update.owner {
            return Verdict::Refused(NotDurable::OtherUser);
        }
        if !merge(by.rule, &mut session.metadata, &update.metadata) {
            return metadata_too_large();
        }
        session.dimensions =
            by.rule.merge_dimensions(std::mem::take(&mut session.dimensions), &update.dimensions);
        self.applied.entry(update.session_id).or_default().apply(by);
        Verdict::Updated
    }

    /// Reopens the session for a new message if its end was inferred and lies before this moment.
    pub(super) fn take_back_end(&mut self, session_id: SessionId, before: Timestamp) -> Option<Verdict> {
        let session = self.sessions.get_mut(&session_id)?;
        let applied = self.applied.get_mut(&session_id).filter(|applied| applied.end_inferred)?;
        known(session.ended_at.as_ref()).filter(|ended_at| *ended_at < before)?;
        reopen(session, applied);
        let user_id = session.user_id.clone()?;
        let started_at = session.started_at.known()?;
        Some(Verdict::Reopened(Reopened { session_id, user_id, started_at }))
    }

    pub(super) fn end(&mut self, by: RecordSource, end: &SessionEnd) -> Verdict {
        let Some(session) = self.sessions.get(&end.session_id) else {
            return Verdict::Refused(NotDurable::UnknownSession);
        };
        if end.owner.is_some() && session.user_id != end.owner {
            return Verdict::Refused(NotDurable::OtherUser);
        }
        let row = SessionEndState {
            is_ended: session.ended_at.is_some(),
            is_inferred: self.applied.get(&end.session_id).is_some_and(|applied| applied.end_inferred),
            last_event_at: known(session.last_event_at.as_ref()),
        };
        let duration_seconds = match Ending::decide(by.rule, end, by.origin.1, row) {
            Ending::Continues => return Verdict::StaysActive,
            Ending::Kept => session.duration_seconds,
            Ending::Closes => {
                self.applied.entry(end.session_id).or_default().apply(by);
                self.close(end)
            }
        };
        let message_count =
            self.sessions.get(&end.session_id).map_or(0, |session| session.message_count.unsigned_abs());
        Verdict::Ended(Ended { duration_seconds: duration_seconds.unwrap_or(0.0), message_count })
    }

    /// Moves the start of the session down to an event at this time, as far as it may.
    pub(super) fn move_start_down(&mut self, session_id: SessionId, event: Timestamp) {
        let Some(session) = self.sessions.get_mut(&session_id) else { return };
        let Some(started_at) = session.started_at.known() else { return };
        let applied = self.applied.entry(session_id).or_default();
        let start = applied.start.unwrap_or(StartTime::new(started_at, true));
        let Some(moved) = start.moved_down_to(event) else { return };
        applied.start = Some(moved);
        session.started_at = moved.at().into();
        session.duration_seconds =
            known(session.ended_at.as_ref()).map(|end| end.max(moved.at()).seconds_since(moved.at()));
    }

    /// Writes the end to the row. Returns the duration of the session in seconds.
    pub(super) fn close(&mut self, end: &SessionEnd) -> Option<f64> {
        if end.status != Status::Abandoned {
            self.move_start_down(end.session_id, end.ended_at);
        }
        let session = self.sessions.get_mut(&end.session_id)?;
        let started_at = session.started_at.known();
        let last = known(session.last_event_at.as_ref()).or(started_at).unwrap_or(end.ended_at);
        let ended_at = if end.status == Status::Abandoned { last } else { end.ended_at };
        session.ended_at = Some(ended_at.into());
        session.status = end.status.into();
        session.end_reason = Some(end.reason.clone());
        session.duration_seconds = started_at.map(|start| ended_at.max(start).seconds_since(start));
        let duration_seconds = session.duration_seconds;
        self.applied.entry(end.session_id).or_default().end_inferred = end.is_inferred();
        self.close_messages_if_ended(end.session_id);
        duration_seconds
    }

    /// Makes the messages of a session final that are in progress, if it has ended.
    pub(super) fn close_messages_if_ended(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get_mut(&session_id).filter(|session| session.ended_at.is_some())
        else {
            return;
        };
        for row in self.transcripts.entry(session_id).or_default().values_mut() {
            if row.status != MessageStatus::InProgress {
                continue;
            }
            session.message_count += 1;
            row.status = MessageStatus::Final.into();
            row.interrupted |= row.role == Role::Assistant;
            let closed = JsonObject::parse(r#"{"talktrack":{"closed":true}}"#).expect("an object");
            row.extra = Some(closed.into());
            if let Some((_, stamped)) = self.messages.get_mut(&row.id) {
                stamped.message.status = MessageStatus::Final;
                stamped.message.interrupted = row.interrupted;
                stamped.message.extra = row.extra.clone().and_then(Stored::into_known);
            }
        }
    }
}

impl AppliedState {
    /// Makes this record the last that was applied to the row, if its rule says so.
    fn apply(&mut self, by: RecordSource) {
        if by.rule.is_applied() {
            self.last = Some(by.origin);
        }
    }
}

/// Removes all columns of the end.
fn reopen(session: &mut SessionRow, applied: &mut AppliedState) {
    (session.status, session.ended_at, session.end_reason, session.duration_seconds) =
        (Status::Active.into(), None, None, None);
    applied.end_inferred = false;
}

fn known(time: Option<&StoredTime>) -> Option<Timestamp> {
    time.and_then(StoredTime::known)
}

/// Returns false, and changes nothing, if the metadata would become too long.
fn merge(rule: Rule, metadata: &mut Option<Stored<JsonObject>>, added: &JsonObject) -> bool {
    match rule.merge_metadata(metadata.as_ref(), added, MAX_STORED_METADATA) {
        Ok(Some(merged)) => *metadata = Some(merged.into()),
        Ok(None) => {}
        Err(_) => return false,
    }
    true
}

fn metadata_too_large() -> Verdict {
    Verdict::Dead(DeadReason::Data(METADATA_TOO_LARGE.into()))
}
