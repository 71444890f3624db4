//! A record: what travels behind the tracker. Stamped, valid, complete; nothing later adds to it.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::json::JsonObject;
use crate::message::{Message, Role};

mod deletion;
mod verdict;

pub use deletion::{Removed, RemovedRows, SessionDelete, UserDelete};
pub use verdict::{DeadReason, Ended, Reopened, Verdict};

/// One stamped thing to write.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Order of acceptance; stamped by the queue.
    pub seq: Seq,
    /// What it is.
    pub body: Body,
    /// Whether the store may have seen it before.
    #[serde(default, skip_serializing_if = "Attempt::is_first")]
    pub attempt: Attempt,
}

impl Record {
    /// A record that the store has not seen yet.
    pub fn new(seq: Seq, body: Body) -> Self {
        Self { seq, body, attempt: Attempt::First }
    }

    /// From now on the store may have seen the record.
    pub(crate) fn may_have_been_seen(&mut self) {
        if self.attempt.is_first() {
            self.attempt = Attempt::Retry;
        }
    }

    /// The session it belongs to: the key of its lane. The deletion of a user belongs to no session; the user stands for it.
    pub fn session_id(&self) -> Uuid {
        match &self.body {
            Body::Start(start) => start.session_id,
            Body::Update(update) => update.session_id,
            Body::End(end) => end.session_id,
            Body::Alive(alive) => alive.session_id,
            Body::Delete(delete) => delete.session_id,
            Body::DeleteUser(delete) => delete.user_id,
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
            Body::Alive(_) | Body::Delete(_) | Body::DeleteUser(_) => 0,
            Body::Message(stamped) => stamped.message.heap_bytes(),
        }
    }

    /// Whose it is, as far as it says so itself.
    pub fn owner(&self) -> Option<Uuid> {
        match &self.body {
            Body::Start(start) => Some(start.user_id),
            Body::Update(update) => update.owner,
            Body::End(end) => end.owner,
            Body::Alive(alive) => alive.owner,
            Body::Message(stamped) => stamped.owner,
            Body::Delete(delete) => delete.owner,
            Body::DeleteUser(delete) => Some(delete.user_id),
        }
    }

    /// True if the record deletes something. It stays in the journal when its session leaves that, until the store has done it
    /// too.
    pub(crate) fn is_deletion(&self) -> bool {
        matches!(self.body, Body::Delete(_) | Body::DeleteUser(_))
    }

    /// The message in it, where it is one.
    pub fn message(&self) -> Option<&Stamped> {
        match &self.body {
            Body::Message(stamped) => Some(stamped),
            _ => None,
        }
    }
}

/// Whether the store may have seen a record before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attempt {
    /// The store has not seen the record.
    #[default]
    First,
    /// The store may have applied the record: its answer was lost, or a later process read the record back.
    Retry,
    /// An operator replayed a dead letter: newer records of the session may have been applied since.
    Replay,
}

impl Attempt {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Retry => "retry",
            Self::Replay => "replay",
        }
    }

    pub(crate) fn is_first(&self) -> bool {
        *self == Self::First
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
    /// A user goes: sessions of the user that started before are refused from now on.
    DeleteUser(UserDelete),
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

    /// True if nobody spoke this end: a node saw a lost connection or silence, or found the session open after a crash.
    pub fn is_inferred(&self) -> bool {
        self.seen_until.is_some() || self.status == Status::Abandoned
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
    /// The user whose claim lives: a sign of life does not count for another user's session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
}

/// A message with all that the tracker knows about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Its id in the store.
    pub id: Uuid,
    /// The session's user where the tracker knew it; else it is read from the stored session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
    /// A user wrote it with a token: it revises only what a user wrote, and its row says so in `extra.talktrack.by`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub by_user: bool,
    /// When the session began, where the tracker knew it: its row can be written again if somebody took it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_started_at: Option<Timestamp>,
    /// When it was said.
    pub created_at: Timestamp,
    /// The message takes back an end that nobody spoke and that lies before this moment: `grace_period` before the message
    /// was accepted. `None` if the tracker held the session in memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<Timestamp>,
    /// The message.
    pub message: Message,
}

impl Stamped {
    /// The `user_id` of its row, given the session's: system messages have none.
    pub fn user_id(&self, owner: Uuid) -> Option<Uuid> {
        (self.message.role != Role::System).then_some(owner)
    }

    /// What it is to the message that is stored under its id, whose `created_at` is the place it has there.
    pub(crate) fn meets(&self, stored: &Message) -> Meeting {
        let mine = &self.message;
        if mine.session_id != stored.session_id {
            Meeting::Conflict
        } else if mine.revision > stored.revision && self.by_user && !stored.is_by_user() {
            Meeting::NotTheirs
        } else if mine.revision > stored.revision {
            Meeting::Newer
        } else if mine.revision < stored.revision {
            Meeting::Overtaken
        } else if self.same_content(stored) {
            // If a client sends a message again over another node, two copies with two moments of acceptance reach the store.
            let is_placed_by_acceptance = mine.created_at.is_none();
            let is_earlier = stored.created_at.is_some_and(|place| self.created_at < place);
            if is_placed_by_acceptance && is_earlier { Meeting::Overtaken } else { Meeting::Known }
        } else {
            Meeting::Conflict
        }
    }

    /// When it happened, for the session's last event: nothing happens after it was accepted.
    pub fn happened_at(&self, seq: Seq) -> Timestamp {
        Timestamp::from_micros(seq).map_or(self.created_at, |accepted| accepted.min(self.created_at))
    }

    /// The message takes back an end that nobody spoke if that lies before this moment. A message that the store may have
    /// seen before takes back none.
    pub(crate) fn takes_back(&self, attempt: Attempt) -> Option<Timestamp> {
        self.takes_back.filter(|_| attempt.is_first()).map(|latest| latest.min(self.created_at))
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference over")]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// What a message is to the one that is stored under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meeting {
    /// A later revision of it.
    Newer,
    /// The same: nothing to do.
    Known,
    /// An earlier revision of it, or a copy that another node accepted earlier. It comes late, and its place is where the
    /// message belongs.
    Overtaken,
    /// Something else.
    Conflict,
    /// A user's later revision of what no user wrote.
    NotTheirs,
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
