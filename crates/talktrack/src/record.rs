//! A record: what travels behind the tracker. Stamped, valid, complete; nothing later adds to it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::json::JsonObject;
use crate::message::{Message, Role};

/// One stamped thing to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Order of acceptance; stamped by the queue.
    pub seq: Seq,
    /// What it is.
    pub body: Body,
}

impl Record {
    /// The session it belongs to: the key of its lane.
    pub fn session_id(&self) -> Uuid {
        match &self.body {
            Body::Start(start) => start.session_id,
            Body::Update(update) => update.session_id,
            Body::End(end) => end.session_id,
            Body::Alive(alive) => alive.session_id,
            Body::Delete(delete) => delete.session_id,
            Body::Message(stamped) => stamped.message.session_id,
        }
    }

    /// The bytes of text that it keeps in memory beyond the struct itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.body {
            Body::Start(start) => {
                start.external_id.as_ref().map_or(0, String::len)
                    + start.metadata.as_ref().map_or(0, |json| json.as_str().len())
            }
            Body::Update(update) => update.metadata.as_str().len(),
            Body::End(end) => end.reason.len(),
            Body::Alive(_) | Body::Delete(_) => 0,
            Body::Message(stamped) => stamped.message.heap_bytes(),
        }
    }

    /// Whose it is, as far as it says so itself.
    pub(crate) fn owner(&self) -> Option<Uuid> {
        match &self.body {
            Body::Start(start) => Some(start.user_id),
            Body::Update(update) => update.owner,
            Body::End(end) => end.owner,
            Body::Alive(_) => None,
            Body::Message(stamped) => stamped.owner,
            Body::Delete(delete) => delete.owner,
        }
    }

    /// Whether it goes from the journal with its session. What deletes that stays until the store has done it too.
    pub(crate) fn may_be_let_go(&self) -> bool {
        !matches!(self.body, Body::Delete(_))
    }

    /// The message in it, where it is one.
    pub fn message(&self) -> Option<&Stamped> {
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
    /// A session begins, or goes on.
    Start(SessionStart),
    /// The session's metadata grow.
    Update(SessionUpdate),
    /// A session ends.
    End(SessionEnd),
    /// Nobody speaks, but the session's connection lives.
    Alive(SessionAlive),
    /// Something was said.
    Message(Stamped),
    /// The session goes, with everything that was said in it.
    Delete(SessionDelete),
}

/// A session begins, or goes on where it is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionStart {
    /// The session.
    pub session_id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// The caller's own id.
    pub external_id: Option<String>,
    /// Merged into the metadata of a session that goes on.
    pub metadata: Option<JsonObject>,
    /// When it began; kept where the session goes on.
    pub started_at: Timestamp,
    /// This process knows the session already.
    pub resumed: bool,
}

impl SessionStart {
    /// When it happened, for the session's last event: nothing happens after it was accepted.
    pub fn happened_at(&self, seq: Seq) -> Timestamp {
        Timestamp::from_micros(seq).map_or(self.started_at, |accepted| accepted.min(self.started_at))
    }
}

/// Keys to be merged into a session's metadata, each replacing the one of its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionUpdate {
    /// The session.
    pub session_id: Uuid,
    /// The keys.
    pub metadata: JsonObject,
    /// Whose the session is, where the tracker knew it: nobody changes another user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
}

/// A session ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// The session.
    pub session_id: Uuid,
    /// `ended`, or `abandoned` where nobody ended it.
    pub status: Status,
    /// Why, in a word.
    pub reason: String,
    /// When.
    pub ended_at: Timestamp,
    /// The figures as this process knows them: the answer while the store is out of reach.
    pub known: Option<Ended>,
    /// Where nobody told the end, and this node infers it (a connection gone, silence, a stop, a crash): the latest it has
    /// seen of the session. If the store knows of something later, another node has the session, and it goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen_until: Option<Timestamp>,
    /// Whose the session is, where the tracker knew it: nobody changes another user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
}

impl SessionEnd {
    /// The end of a session that nobody ended, at its last event.
    pub(crate) fn abandoned(session_id: Uuid, reason: &str, ended_at: Timestamp) -> Self {
        let (status, reason) = (Status::Abandoned, reason.to_owned());
        Self { session_id, status, reason, ended_at, known: None, seen_until: None, owner: None }
    }

    /// Whether the session goes on elsewhere, going by the last event that the store knows of.
    pub fn is_outdated(&self, last_event_at: Option<Timestamp>) -> bool {
        self.seen_until.zip(last_event_at).is_some_and(|(seen, stored)| stored > seen)
    }
}

/// A sign of life of a session in which nobody speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionAlive {
    /// The session.
    pub session_id: Uuid,
    /// When its peer was last heard of.
    pub at: Timestamp,
}

/// A session goes, with everything that was said in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionDelete {
    /// The session.
    pub session_id: Uuid,
    /// Whose it has to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
    /// Only where nothing was heard of it since: it is too old to be kept. Nobody wants to be rid of it, so that it may begin
    /// again. Otherwise whatever comes of it later is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub silent_since: Option<Timestamp>,
}

impl SessionDelete {
    /// Whether it is for good: what comes later is refused.
    pub fn is_for_good(&self) -> bool {
        self.silent_since.is_none()
    }

    /// Whether a session that was last heard of at this moment is too young to go.
    pub fn spares(&self, last_event_at: Timestamp) -> bool {
        self.silent_since.is_some_and(|since| last_event_at >= since)
    }
}

/// What was removed with a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Removed {
    /// Rows of sessions.
    pub sessions: u64,
    /// Rows of messages.
    pub messages: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Messages that were on their way to a remote store.
    pub journal: u64,
}

impl std::ops::AddAssign for Removed {
    fn add_assign(&mut self, more: Self) {
        self.sessions += more.sessions;
        self.messages += more.messages;
        self.dead_letters += more.dead_letters;
        self.journal += more.journal;
    }
}

/// A message with all that the tracker knows about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Its id in the store.
    pub id: Uuid,
    /// The session's user where the tracker knew it; else it is read from the stored session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
    /// When the session began, where the tracker knew it: its row can be written again if somebody took it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_started_at: Option<Timestamp>,
    /// When it was said.
    pub created_at: Timestamp,
    /// The message.
    pub message: Message,
}

impl Stamped {
    /// The `user_id` of its row, given the session's: system messages have none.
    pub fn user_id(&self, owner: Uuid) -> Option<Uuid> {
        (self.message.role != Role::System).then_some(owner)
    }

    /// What it is to the message that is stored under its id.
    pub(crate) fn meets(&self, stored: &Message) -> Meeting {
        let mine = &self.message;
        if mine.session_id != stored.session_id {
            Meeting::Conflict
        } else if mine.revision > stored.revision {
            Meeting::Newer
        } else if mine.revision < stored.revision {
            Meeting::Overtaken
        } else if self.same_content(stored) {
            Meeting::Known
        } else {
            Meeting::Conflict
        }
    }

    /// When it happened, for the session's last event: nothing happens after it was accepted.
    pub fn happened_at(&self, seq: Seq) -> Timestamp {
        Timestamp::from_micros(seq).map_or(self.created_at, |accepted| accepted.min(self.created_at))
    }

    /// Whether `other` says the same. The moment of acceptance does not count: a retry has a later one.
    pub fn same_content(&self, other: &Message) -> bool {
        let mine = &self.message;
        mine.session_id == other.session_id
            && mine.role == other.role
            && mine.kind == other.kind
            && mine.content == other.content
            && mine.content_generated == other.content_generated
            && mine.interrupted == other.interrupted
            && mine.audio_url == other.audio_url
            && mine.metadata == other.metadata
            && mine.parts == other.parts
            && mine.metrics == other.metrics
    }
}

/// What a message is to the one that is stored under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// A later revision of it.
    Newer,
    /// The same: nothing to do.
    Known,
    /// An earlier revision of it, which comes late: its place is where the message belongs.
    Overtaken,
    /// Something else.
    Conflict,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It goes on.
    Active,
    /// Somebody ended it.
    Ended,
    /// Nobody ended it; talktrack did, when it had been silent for too long or after a crash.
    Abandoned,
}

impl Status {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Ended => "ended",
            Self::Abandoned => "abandoned",
        }
    }

    /// From the word in the database.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Active, Self::Ended, Self::Abandoned].into_iter().find(|status| status.as_str() == word)
    }
}

/// What became of one record.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// A message's row was written.
    Inserted,
    /// A message's row was replaced by a later revision.
    Revised,
    /// The same message, or a later revision of it, was there already: nothing to do.
    AlreadyThere,
    /// It lies in the journal, on its way to the store.
    Journaled,
    /// The session's row was written or reopened.
    Started {
        /// The session was there before.
        resumed: bool,
    },
    /// The session's metadata were merged.
    Updated,
    /// The session was closed.
    Ended(Ended),
    /// The session goes on: it gave a sign of life, or another node has it and this one had inferred its end.
    GoesOn,
    /// The session was removed, as far as it is there and in the place that answers.
    Deleted(Removed),
    /// Refused after acceptance.
    Refused(crate::error::NotDurable),
    /// The store will never take it; it was laid aside with this reason.
    Dead(DeadReason),
}

/// A closed session's figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// From start to end, in seconds.
    pub duration_seconds: f64,
    /// Messages stored in it.
    pub message_count: u64,
}

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// No session of this id exists anywhere.
    UnknownSession,
    /// The session belongs to another user.
    OtherUser,
    /// The id is taken by a message with other content (found out only in the store).
    IdConflict,
    /// The store refuses this very row, in its own words.
    Data(String),
    /// Its bytes in the journal no longer match their checksum.
    Corrupt,
    /// Its session was deleted: it is let go, and no letter is kept of it.
    Deleted,
}

impl DeadReason {
    /// The word in the database.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::UnknownSession => "unknown_session",
            Self::OtherUser => "other_user",
            Self::IdConflict => "id_conflict",
            Self::Data(_) => "data",
            Self::Corrupt => "corrupt",
            Self::Deleted => "deleted",
        }
    }

    /// More than the word, where there is more.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Self::Data(detail) => Some(detail),
            _ => None,
        }
    }
}
