//! A record is what the tracker puts in the queue: stamped, valid and complete. No later stage adds to it.

use std::time::Duration;

use crate::ids::{MessageId, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::clock::{Seq, Timestamp};
use crate::dimensions::Dimensions;
use crate::json::JsonObject;
use crate::message::{Message, Role};
use crate::words::words;

mod attempt;
mod deletion;
mod edit;
mod start_time;
mod verdict;

pub use attempt::Attempt;
pub use deletion::{DeletionCounts, RemovedRows, SessionDelete, UserDelete};
pub use edit::{Edit, EditedRows, MessagesEdit};
pub use start_time::{MOST_MOVED, StartTime};
pub use verdict::{DeadReason, Ended, Reopened, Verdict};

/// One stamped entry to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The place in the order of acceptance. The queue assigns it.
    pub seq: Seq,
    /// The content of the record.
    pub body: Body,
    /// Whether the store may have seen the record before.
    #[serde(default, skip_serializing_if = "Attempt::is_first")]
    pub attempt: Attempt,
}

impl Record {
    /// Creates a record that the store has not seen yet.
    pub fn new(seq: Seq, body: Body) -> Self {
        Self { seq, body, attempt: Attempt::First }
    }

    /// Marks that the store may have seen the record.
    pub fn mark_as_retry(&mut self) {
        if self.attempt.is_first() {
            self.attempt = Attempt::Retry;
        }
    }

    /// Returns the session that the record belongs to, which selects its lane. The deletion of a user belongs to no
    /// session: this returns the user's UUID instead.
    pub fn session_id(&self) -> SessionId {
        match &self.body {
            Body::Start(start) => start.session_id,
            Body::Update(update) => update.session_id,
            Body::End(end) => end.session_id,
            Body::Heartbeat(alive) => alive.session_id,
            Body::Delete(delete) => delete.session_id,
            Body::DeleteUser(delete) => delete.user_id.as_uuid().into(),
            Body::EditMessages(edit) => edit.session_id,
            Body::Message(stamped) => stamped.message.session_id,
        }
    }

    /// Returns the bytes of text that the record occupies on the heap, without the struct itself.
    pub fn heap_bytes(&self) -> usize {
        match &self.body {
            Body::Start(start) => {
                start.external_id.as_ref().map_or(0, String::len)
                    + start.metadata.as_ref().map_or(0, |json| json.as_str().len())
                    + start.dimensions.heap_bytes()
            }
            Body::Update(update) => update.metadata.as_str().len() + update.dimensions.heap_bytes(),
            Body::End(end) => end.reason.len(),
            Body::Heartbeat(_) | Body::Delete(_) | Body::DeleteUser(_) => 0,
            Body::EditMessages(edit) => edit.heap_bytes(),
            Body::Message(stamped) => stamped.message.heap_bytes(),
        }
    }

    /// Returns the record's owner, if the record names one.
    pub fn owner(&self) -> Option<&UserId> {
        match &self.body {
            Body::Start(start) => Some(&start.user_id),
            Body::Update(update) => update.owner.as_ref(),
            Body::End(end) => end.owner.as_ref(),
            Body::Heartbeat(alive) => alive.owner.as_ref(),
            Body::Message(stamped) => stamped.owner.as_ref(),
            Body::Delete(delete) => delete.owner.as_ref(),
            Body::DeleteUser(delete) => Some(&delete.user_id),
            Body::EditMessages(edit) => edit.owner.as_ref(),
        }
    }

    /// True if the record deletes a session or a user. Purging a session from the journal keeps such a record until the
    /// store has confirmed it.
    pub fn is_deletion(&self) -> bool {
        matches!(self.body, Body::Delete(_) | Body::DeleteUser(_))
    }

    /// True if the record removes stored rows: it deletes a session, a user, or messages of a session. Such a record never
    /// becomes a dead letter, because it has no content to keep.
    pub fn removes_rows(&self) -> bool {
        self.is_deletion() || matches!(self.body, Body::EditMessages(_))
    }

    /// Returns the message, if the record is one.
    pub fn message(&self) -> Option<&StampedMessage> {
        match &self.body {
            Body::Message(stamped) => Some(stamped),
            _ => None,
        }
    }
}

/// The kinds of record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// Starts or resumes a session.
    Start(SessionStart),
    /// Merges keys into the session's metadata.
    Update(SessionUpdate),
    /// Ends a session.
    End(SessionEnd),
    /// A heartbeat: the session's connection is alive although it sends no messages.
    #[serde(rename = "alive")]
    Heartbeat(SessionHeartbeat),
    /// A message.
    Message(StampedMessage),
    /// Removes or replaces messages of a session.
    EditMessages(MessagesEdit),
    /// Deletes a session with all its messages.
    Delete(SessionDelete),
    /// Marks a user as deleted: sessions of the user that started before are refused from now on.
    DeleteUser(UserDelete),
}

/// Starts a session, or resumes it if it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStart {
    /// The session.
    pub session_id: SessionId,
    /// The user who owns the session.
    pub user_id: UserId,
    /// The caller's own id.
    pub external_id: Option<String>,
    /// Merged into the metadata if the session is resumed.
    pub metadata: Option<JsonObject>,
    /// What sessions are filtered and grouped by.
    #[serde(default, skip_serializing_if = "Dimensions::is_empty")]
    pub dimensions: Dimensions,
    /// When the session started. A resumed session keeps its earlier start.
    pub started_at: Timestamp,
    /// True if the caller gave `started_at`. Otherwise it is the time of acceptance, and moves down to the first message or the
    /// end.
    #[serde(default = "true_before_there_was_a_choice")]
    pub has_given_start: bool,
    /// True if this process knows the session already.
    pub resumed: bool,
    /// True if the session continues even if it has ended. A start without it changes nothing in a session that exists.
    #[serde(default = "true_before_there_was_a_choice")]
    pub reopens: bool,
}

/// A record that was written before the field existed means `true`.
fn true_before_there_was_a_choice() -> bool {
    true
}

impl SessionStart {
    /// Creates the start of a session whose row was removed, from what another record knows of it.
    pub fn restored(session_id: SessionId, user_id: UserId, started_at: Timestamp) -> Self {
        Self {
            session_id,
            user_id,
            external_id: None,
            metadata: None,
            dimensions: Dimensions::default(),
            started_at,
            has_given_start: true,
            resumed: true,
            reopens: true,
        }
    }

    /// Returns the start of a new session.
    pub fn start_time(&self) -> StartTime {
        StartTime::new(self.started_at, self.has_given_start)
    }

    /// Returns the time that counts as the session's last event: never later than the time of acceptance.
    pub fn happened_at(&self, seq: Seq) -> Timestamp {
        seq.accepted_at().map_or(self.started_at, |accepted| accepted.min(self.started_at))
    }
}

/// Merges keys into a session's metadata, and changes its dimensions. A key replaces an existing key of the same name; a key
/// with the value `null` removes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionUpdate {
    /// The session.
    pub session_id: SessionId,
    /// The keys.
    pub metadata: JsonObject,
    /// The dimensions to change.
    #[serde(default, skip_serializing_if = "Dimensions::is_empty")]
    pub dimensions: Dimensions,
    /// The owner of the session, if the tracker knew it. The store refuses the update if the session belongs to another
    /// user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// When the session started, if the tracker knew it. With it, the session's row can be written again if it was
    /// removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_started_at: Option<Timestamp>,
}

/// Ends a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session.
    pub session_id: SessionId,
    /// `ended`, or `abandoned` if no caller ended the session.
    pub status: Status,
    /// The reason, in one word.
    pub reason: String,
    /// When the session ended.
    pub ended_at: Timestamp,
    /// The duration and the message count as this process knows them: the answer while the store cannot be reached.
    pub known: Option<Ended>,
    /// For an end that no caller sent and that this node infers (from a lost connection, silence, a shutdown or a
    /// crash): the latest event of the session that this node has seen. If the store knows a later event, the session
    /// is active on another node and does not end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_until: Option<Timestamp>,
    /// The owner of the session, if the tracker knew it. The store refuses the end if the session belongs to another
    /// user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
}

impl SessionEnd {
    /// Creates the end of an abandoned session, at its last event.
    pub fn abandoned(session_id: SessionId, reason: &str, ended_at: Timestamp) -> Self {
        let status = Status::Abandoned;
        let reason = reason.to_owned();
        Self { session_id, status, reason, ended_at, known: None, seen_until: None, owner: None }
    }

    /// Returns when the session started, if the tracker knew it.
    pub fn session_started_at(&self) -> Option<Timestamp> {
        let duration = Duration::try_from_secs_f64(self.known?.duration_seconds).ok()?;
        // Rounded to the microsecond: the nanoseconds of a duration in seconds are not exact.
        Some(self.ended_at.minus(duration + Duration::from_nanos(500)))
    }

    /// True if no caller sent this end: a node saw a lost connection or silence, or found the session open after a
    /// crash.
    pub fn is_inferred(&self) -> bool {
        self.seen_until.is_some() || self.status == Status::Abandoned
    }

    /// True if the session is active on another node, going by the last event that the store knows.
    pub fn is_outdated(&self, last_event_at: Option<Timestamp>) -> bool {
        self.seen_until.zip(last_event_at).is_some_and(|(seen, stored)| stored > seen)
    }
}

/// A heartbeat of a session that sends no messages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionHeartbeat {
    /// The session.
    pub session_id: SessionId,
    /// The last time at which the session's peer was known to be alive.
    pub at: Timestamp,
    /// The user whose claim is alive. The heartbeat does not count for another user's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
}

/// A message with everything that the tracker knows about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StampedMessage {
    /// The message's id in the store.
    pub id: MessageId,
    /// The session's user, if the tracker knew it. Otherwise it is read from the stored session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// True if a user wrote the message with a token: it can revise only messages that a user wrote, and its row says
    /// so in `extra.talktrack.by`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_user: bool,
    /// When the session started, if the tracker knew it. With it, the session's row can be written again if it was
    /// removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_started_at: Option<Timestamp>,
    /// When the message was spoken or written.
    pub created_at: Timestamp,
    /// An inferred end of the session before this time is cancelled by the message. The time is `grace_period` before
    /// the message was accepted. `None` if the tracker had the session in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<Timestamp>,
    /// The message.
    pub message: Message,
}

impl StampedMessage {
    /// Returns the `user_id` of the message's row, given the session's owner. System messages have none.
    pub fn user_id<'o>(&self, owner: &'o UserId) -> Option<&'o UserId> {
        (self.message.role != Role::System).then_some(owner)
    }

    /// Compares the message with the one that is stored under its id. `stored.created_at` is the stored message's place
    /// in the session.
    pub fn compare_revision(&self, stored: &Message) -> RevisionOrder {
        let mine = &self.message;
        if mine.session_id != stored.session_id {
            RevisionOrder::Conflict
        } else if mine.revision > stored.revision && self.by_user && !stored.is_by_user() {
            RevisionOrder::NotTheirs
        } else if mine.revision > stored.revision {
            RevisionOrder::Newer
        } else if mine.revision < stored.revision {
            RevisionOrder::Older
        } else if self.has_same_content(stored) {
            // If a client sends a message again through another node, two copies with different times of acceptance
            // reach the store.
            let is_placed_by_acceptance = mine.created_at.is_none();
            let is_earlier = stored.created_at.is_some_and(|place| self.created_at < place);
            if is_placed_by_acceptance && is_earlier { RevisionOrder::Older } else { RevisionOrder::Same }
        } else {
            RevisionOrder::Conflict
        }
    }

    /// Returns the time that counts as the session's last event: never later than the time of acceptance.
    pub fn happened_at(&self, seq: Seq) -> Timestamp {
        seq.accepted_at().map_or(self.created_at, |accepted| accepted.min(self.created_at))
    }

    /// Returns the time before which an inferred end of the session is cancelled by this message. A message that the
    /// store may have seen before cancels none.
    pub fn takes_back(&self, attempt: Attempt) -> Option<Timestamp> {
        self.takes_back.filter(|_| attempt.is_first()).map(|latest| latest.min(self.created_at))
    }

    /// True if `other` has the same content. The time of acceptance does not count, because a retry has a later one. Neither
    /// does what the end of the session changed in `other`.
    pub fn has_same_content(&self, other: &Message) -> bool {
        let mine = &self.message;
        mine.session_id == other.session_id
            && mine.role == other.role
            && mine.name == other.name
            && mine.kind == other.kind
            && mine.content == other.content
            && mine.content_generated == other.content_generated
            && (other.is_closed() || (mine.status, mine.interrupted) == (other.status, other.interrupted))
            && mine.audio_url == other.audio_url
            && mine.metadata == other.metadata
            && mine.parts == other.parts
            && mine.metrics == other.metrics
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// How a message relates to the one that is stored under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevisionOrder {
    /// A later revision.
    Newer,
    /// The same message: nothing to do.
    Same,
    /// An earlier revision, or a copy that another node accepted earlier. It arrives late. In the second case its time
    /// is the message's place in the session.
    Older,
    /// Another message under the same id.
    Conflict,
    /// A user's later revision of a message that no user wrote.
    NotTheirs,
}

words! {
    /// The status of a session.
    Status, "status" {
        /// The session is active.
        Active = "active",
        /// A caller ended the session.
        Ended = "ended",
        /// No caller ended the session. talktrack ended it because it was idle for too long, or after a crash.
        Abandoned = "abandoned"
    }
}
