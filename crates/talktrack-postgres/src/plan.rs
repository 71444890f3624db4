//! Plans the order in which a batch is written. Each kind of record is one statement for all sessions.
//! Records of one session keep their order, in as many rounds of statements as that takes; nearly always
//! one round is enough.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use talktrack_core::ids::{MessageId, SessionId, UserId};

use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::dimensions::Dimensions;
use talktrack_core::json::JsonObject;
use talktrack_core::record::{
    Attempt, Body, MessagesEdit, Record, RemovedRows, SessionDelete, SessionEnd, SessionStart, SessionUpdate,
    StampedMessage, UserDelete,
};

/// A record's place among the batch's records and in the order of acceptance, and whether the store may
/// have seen it before.
#[derive(Clone, Copy)]
pub(super) struct RecordRef {
    pub(super) place: usize,
    pub(super) seq: Seq,
    pub(super) attempt: Attempt,
}

impl RecordRef {
    /// Returns when the record was accepted.
    pub(super) fn accepted(self, otherwise: Timestamp) -> Timestamp {
        self.seq.accepted_at().unwrap_or(otherwise)
    }
}

/// A message, with its place among the batch's records.
#[derive(Clone, Copy)]
pub(super) struct PlacedMessage<'r> {
    pub(super) place: usize,
    pub(super) seq: Seq,
    pub(super) stamped: &'r StampedMessage,
    pub(super) attempt: Attempt,
}

impl PlacedMessage<'_> {
    /// Returns the moment before which an inferred end must lie, for this message to reopen the session.
    pub(super) fn reopens_before(&self) -> Option<Timestamp> {
        self.stamped.takes_back(self.attempt)
    }
}

/// What an update or an end says about its session.
pub(super) struct UpdateOrEnd {
    pub(super) place: usize,
    pub(super) seq: Seq,
    pub(super) session_id: SessionId,
    pub(super) owner: Option<UserId>,
    pub(super) session_started_at: Option<Timestamp>,
}

/// The merged updates of a session.
#[derive(Clone)]
pub(super) struct MergedUpdates {
    pub(super) metadata: JsonObject,
    pub(super) dimensions: Dimensions,
    /// The owner that all of the updates name.
    pub(super) owner: Option<UserId>,
    /// When the session started, if the first of the updates says so.
    pub(super) session_started_at: Option<Timestamp>,
    /// The attempt, the same for all of the updates.
    pub(super) attempt: Attempt,
    /// The `seq` of the last of the updates.
    pub(super) last_seq: Seq,
    /// The places of the records.
    pub(super) places: Vec<usize>,
}

impl MergedUpdates {
    fn new(record: RecordRef, update: &SessionUpdate) -> Self {
        Self {
            metadata: update.metadata.clone(),
            dimensions: update.dimensions.clone(),
            owner: update.owner.clone(),
            session_started_at: update.session_started_at,
            attempt: record.attempt,
            last_seq: record.seq,
            places: vec![record.place],
        }
    }
}

/// The claim whose heartbeat a record is: a session, and the user for whom it was started if the record names one.
pub(super) type HeartbeatClaim = (SessionId, Option<UserId>);

/// One round: starts, then updates, messages and signs of life, then ends. Or only deletions.
#[derive(Default)]
pub(super) struct Round<'r> {
    pub(super) starts: Vec<(RecordRef, &'r SessionStart)>,
    /// One for each session.
    pub(super) updates: HashMap<SessionId, MergedUpdates>,
    /// Messages with distinct ids.
    pub(super) messages: Vec<PlacedMessage<'r>>,
    /// Messages whose id is already in `messages`, for the same session: repetitions and later revisions.
    pub(super) repeats: Vec<PlacedMessage<'r>>,
    /// The latest sign of life for each claim to a session.
    pub(super) alive: HashMap<HeartbeatClaim, Timestamp>,
    pub(super) ends: Vec<(RecordRef, &'r SessionEnd)>,
    /// One for each session. A round with deletions contains nothing else.
    pub(super) deletes: Vec<(RecordRef, &'r SessionDelete)>,
    /// Deletions that the database did before and has lost since. A round with deletions contains nothing
    /// else.
    pub(super) again: Vec<(RecordRef, &'r SessionDelete, &'r RemovedRows)>,
    /// One for each user. A round with deletions contains nothing else.
    pub(super) users: Vec<(RecordRef, &'r UserDelete)>,
    /// A round with an edit of a session's messages contains nothing else.
    pub(super) edit: Option<(RecordRef, &'r MessagesEdit)>,
    /// The latest step of each session in this round.
    phases: HashMap<SessionId, SessionPhase>,
    /// The session of each message id.
    ids: HashMap<MessageId, SessionId>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum SessionPhase {
    Started,
    Running,
    Ended,
    Deleted,
}

impl SessionPhase {
    fn new(body: &Body) -> Self {
        match body {
            Body::Start(_) => Self::Started,
            Body::Update(_) | Body::Heartbeat(_) | Body::Message(_) => Self::Running,
            Body::End(_) => Self::Ended,
            Body::Delete(_) | Body::DeleteUser(_) | Body::EditMessages(_) => Self::Deleted,
        }
    }
}

/// Distributes records over rounds.
pub(super) fn plan_rounds(records: &[Record]) -> Vec<Round<'_>> {
    let mut rounds = vec![Round::default()];
    for (place, record) in records.iter().enumerate() {
        if !rounds.last().is_some_and(|round| round.has_room_for(record)) {
            rounds.push(Round::default());
        }
        if let Some(round) = rounds.last_mut() {
            round.add(place, record);
        }
    }
    rounds
}

impl<'r> Round<'r> {
    /// True if the record can be written in this round without overtaking another record of its session.
    /// One statement can change a session's row only once, so a round has at most one start and one end per
    /// session.
    fn has_room_for(&self, record: &Record) -> bool {
        let is_edit = matches!(record.body, Body::EditMessages(_));
        if !self.phases.is_empty() && (is_edit || self.edit.is_some()) {
            return false;
        }
        let next = SessionPhase::new(&record.body);
        let is_for_deletions = self.is_for_deletions();
        if !self.phases.is_empty() && is_for_deletions != (next == SessionPhase::Deleted) {
            return false;
        }
        let taken = record.message().and_then(|stamped| self.ids.get(&stamped.id));
        if taken.is_some_and(|session_id| *session_id != record.session_id()) {
            return false;
        }
        if let Body::Update(update) = &record.body
            && self
                .updates
                .get(&update.session_id)
                .is_some_and(|merged| (&merged.owner, merged.attempt) != (&update.owner, record.attempt))
        {
            return false;
        }
        match self.phases.get(&record.session_id()) {
            None => true,
            Some(last) => {
                next == SessionPhase::Running && *last <= next || next == SessionPhase::Ended && *last < next
            }
        }
    }

    pub(super) fn is_for_deletions(&self) -> bool {
        !self.deletes.is_empty() || !self.again.is_empty() || !self.users.is_empty()
    }

    /// Returns the messages that may reopen a session, each with its session.
    pub(super) fn reopening_messages(&self) -> impl Iterator<Item = (SessionId, &PlacedMessage<'r>)> {
        let late = self.messages.iter().filter(|placed| placed.reopens_before().is_some());
        late.map(|placed| (placed.stamped.message.session_id, placed))
    }

    /// Returns the updates and ends.
    pub(super) fn updates_and_ends(&self) -> impl Iterator<Item = UpdateOrEnd> {
        let updates = self.updates.iter().flat_map(|(session_id, merged)| {
            merged.places.iter().map(|place| UpdateOrEnd {
                place: *place,
                seq: merged.last_seq,
                session_id: *session_id,
                owner: merged.owner.clone(),
                session_started_at: merged.session_started_at,
            })
        });
        let ends = self.ends.iter().map(|(record, end)| UpdateOrEnd {
            place: record.place,
            seq: record.seq,
            session_id: end.session_id,
            owner: end.owner.clone(),
            session_started_at: end.session_started_at(),
        });
        updates.chain(ends)
    }

    /// Adds a message alone. No other record of its session may be in this round.
    pub(super) fn add_message(&mut self, placed: PlacedMessage<'r>) {
        let first = self.ids.insert(placed.stamped.id, placed.stamped.message.session_id).is_none();
        if first { self.messages.push(placed) } else { self.repeats.push(placed) }
    }

    /// Adds the updates and ends of an earlier round that found no row for these sessions. The rows exist
    /// now.
    pub(super) fn retry_updates_and_ends(&mut self, sessions: &HashSet<SessionId>, earlier: &Round<'r>) {
        for (session_id, merged) in earlier.updates.iter().filter(|(id, _)| sessions.contains(id)) {
            self.add_updates(*session_id, merged.clone());
        }
        self.ends.extend(earlier.ends.iter().filter(|(_, end)| sessions.contains(&end.session_id)));
    }

    fn add_updates(&mut self, session_id: SessionId, more: MergedUpdates) {
        match self.updates.entry(session_id) {
            Entry::Vacant(first) => drop(first.insert(more)),
            Entry::Occupied(mut merged) => {
                let merged = merged.get_mut();
                merged.metadata = merged.metadata.merged(&more.metadata);
                merged.dimensions = std::mem::take(&mut merged.dimensions).replaced_by(more.dimensions);
                merged.last_seq = more.last_seq;
                merged.places.extend(more.places);
            }
        }
    }

    fn add(&mut self, place: usize, record: &'r Record) {
        self.phases.insert(record.session_id(), SessionPhase::new(&record.body));
        let entry = RecordRef { place, seq: record.seq, attempt: record.attempt };
        match &record.body {
            Body::Start(start) => self.starts.push((entry, start)),
            Body::Update(update) => self.add_updates(update.session_id, MergedUpdates::new(entry, update)),
            Body::Message(stamped) => {
                self.add_message(PlacedMessage { place, seq: record.seq, stamped, attempt: record.attempt });
            }
            Body::Heartbeat(alive) => {
                let claim = (alive.session_id, alive.owner.clone());
                let latest = self.alive.entry(claim).or_insert(alive.at);
                *latest = alive.at.max(*latest);
            }
            Body::End(end) => self.ends.push((entry, end)),
            Body::Delete(delete) => match &delete.removed {
                None => self.deletes.push((entry, delete)),
                Some(rows) => self.again.push((entry, delete, rows)),
            },
            Body::DeleteUser(delete) => self.users.push((entry, delete)),
            Body::EditMessages(edit) => self.edit = Some((entry, edit)),
        }
    }
}
