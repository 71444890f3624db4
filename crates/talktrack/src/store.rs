//! Stores: where conversations end up and are read from. Every store passes the same suite, [`crate::testing::conformance`].

use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use crate::books::Books;
use crate::clock::{Seq, Timestamp};
use crate::error::ReadError;
use crate::json::{JsonArray, JsonObject};
use crate::message::{Kind, Message, Role, TurnMetrics};
use crate::record::{Record, SessionStart, Stamped, Status, Verdict};
use crate::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Range, Stats, StatsError};

pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sqlite;

/// A remote store: fed by the writer from the journal, in the order of each session.
#[async_trait]
pub trait Store: Read {
    /// Writes the records in order and says what became of each, in the same order. Must be idempotent: after an error
    /// or a crash the same records come again, whatever part of them was written.
    ///
    /// # Errors
    /// Where none of the records was written, with the class that decides what happens next.
    async fn write(&self, records: &[Record]) -> Result<Vec<Verdict>, StoreError>;

    /// Asks whether the store would take records now, without writing any.
    ///
    /// # Errors
    /// Where it would not, in the words of a failed write.
    async fn check(&self) -> Result<(), StoreError>;

    /// Ends every session of which nothing was heard since this moment, as abandoned, at its last event. Several nodes may
    /// do so at once. Says how many sessions it ended.
    ///
    /// # Errors
    /// Where the store cannot be asked now.
    async fn abandon_silent(&self, since: Timestamp) -> Result<u64, StoreError>;

    /// What keeps the index for [`Rows::search`], where the store needs somebody to do that behind the path.
    fn indexer(&self) -> Option<Box<dyn Indexer>> {
        None
    }

    /// What keeps the tallies for [`Read::stats`], where the store needs somebody to do that behind the path.
    fn tallier(&self) -> Option<Box<dyn Indexer>> {
        None
    }
}

/// Brings the index by which messages are found up to what is stored. It works on a thread of its own, where it may wait.
#[async_trait]
pub trait Indexer: Send {
    /// A moment's work.
    ///
    /// # Errors
    /// Where it cannot be done now. It is tried again.
    async fn step(&mut self) -> Result<Step, StoreError>;
}

/// How far a step has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Everything that is stored is found.
    UpToDate,
    /// So many messages are not found yet, as far as is known.
    More(u64),
    /// Nothing is known that is not found, and it is being looked whether that is so.
    Passing,
}

/// What every store can show to those who may see everything.
#[async_trait]
pub trait Read: Rows {
    /// The same rows as this user sees them. The store itself keeps all others from being seen, whoever asks for what.
    fn seen_by(&self, viewer: Viewer) -> Arc<dyn Rows>;

    /// Sessions of which nothing was heard since this moment, oldest first, after the cursor.
    async fn silent(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError>;

    /// Those of these sessions that are there, in no order.
    async fn sessions_by_id(&self, ids: &[Uuid]) -> Result<Vec<SessionRow>, ReadError>;

    /// Those of these messages that are there, in no order.
    async fn messages_by_id(&self, ids: &[Uuid]) -> Result<Vec<MessageRow>, ReadError>;

    /// What happened in a range of time, of all users. It may be a moment behind, and says so.
    async fn stats(&self, range: &Range) -> Result<Stats, StatsError>;

    /// Counts everything and names what does not add up.
    async fn audit(&self) -> Result<Audit, ReadError>;
}

/// Rows, as far as whoever asks may see them.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// One session.
    async fn session(&self, session_id: Uuid) -> Result<Option<SessionRow>, ReadError>;

    /// Sessions, newest first, after the cursor.
    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError>;

    /// Sessions whose id begins with this text, in the order of their ids.
    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError>;

    /// A session's messages in the order in which they were said, after the cursor.
    async fn messages(
        &self,
        session_id: Uuid,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Vec<MessageRow>, ReadError>;

    /// What shows at a glance how these sessions went; of those that are there and have a message, in no order.
    async fn glimpses(&self, ids: &[Uuid]) -> Result<Vec<Glimpse>, ReadError>;

    /// Messages with these words in them, newest first, after the cursor. What was said a moment ago may be missing yet: the
    /// index is brought up to it behind the path.
    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Vec<Hit>, SearchError>;

    /// What happened in a range of time in the sessions of one user, counted from the rows.
    async fn stats_of(&self, user_id: Uuid, range: &Range) -> Result<Stats, StatsError>;
}

/// A user who looks: at own sessions, and at every message in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Viewer {
    /// Who.
    pub user_id: Uuid,
    /// What the token says, for the policies of a database.
    pub claims: JsonObject,
}

/// A write that failed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StoreError {
    /// What happens next.
    pub class: Class,
    /// The store's words, fit for the log.
    pub message: String,
}

/// What a failed write means for what was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The store is away or busy: try again for as long as it takes.
    Transient,
    /// The store takes no row as it stands: wait until somebody mends it. Unknown errors are of this class too:
    /// nothing is dropped for want of a rule.
    Systemic,
    /// A row among these will never be taken: find it.
    Data,
}

impl Class {
    /// The word in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Systemic => "systemic",
            Self::Data => "data",
        }
    }
}

/// A row of `conversation_sessions`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns of the schema, described there")]
pub struct SessionRow {
    pub session_id: Uuid,
    pub user_id: Uuid,
    pub external_id: Option<String>,
    pub status: Status,
    pub end_reason: Option<String>,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub duration_seconds: Option<f64>,
    pub last_event_at: Option<Timestamp>,
    pub message_count: u64,
    pub metadata: Option<JsonObject>,
}

impl SessionRow {
    /// The row of a session that begins.
    pub fn begun(start: &SessionStart, seq: Seq) -> Self {
        Self {
            session_id: start.session_id,
            user_id: start.user_id,
            external_id: start.external_id.clone(),
            status: Status::Active,
            end_reason: None,
            started_at: start.started_at,
            ended_at: None,
            duration_seconds: None,
            last_event_at: Some(start.happened_at(seq)),
            message_count: 0,
            metadata: Some(start.metadata.clone().unwrap_or_default()),
        }
    }

    /// Where the list goes on after this row.
    pub fn cursor(&self) -> SessionCursor {
        SessionCursor { started_at: self.started_at, session_id: self.session_id }
    }
}

/// A session at a glance, beside its row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glimpse {
    /// The session.
    pub session_id: Uuid,
    /// Who spoke last: the user or the assistant.
    pub last_role: Role,
    /// The first [`GLIMPSE_CHARS`] characters of what was said last.
    pub last_words: String,
    /// Messages in which somebody was interrupted.
    pub interruptions: u64,
}

/// What of the last words a [`Glimpse`] shows, in characters.
pub const GLIMPSE_CHARS: usize = 200;

/// A row of `conversation_messages`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns of the schema, described there")]
pub struct MessageRow {
    pub id: Uuid,
    pub session_id: Uuid,
    pub user_id: Option<Uuid>,
    pub role: Role,
    pub content: String,
    pub audio_url: Option<String>,
    pub metadata: Option<JsonObject>,
    pub created_at: Timestamp,
    pub seq: Option<Seq>,
    pub external_id: Option<String>,
    pub kind: Kind,
    pub revision: u32,
    pub interrupted: bool,
    pub content_generated: Option<String>,
    pub parts: Option<JsonArray>,
    pub metrics: Option<JsonObject>,
}

impl MessageRow {
    /// The row of a message that is accepted, in a session of this user; the user is `None` where nobody knows whose it is.
    pub fn accepted(stamped: &Stamped, seq: Seq, owner: Option<Uuid>) -> Self {
        let message = &stamped.message;
        Self {
            id: stamped.id,
            session_id: message.session_id,
            user_id: owner.and_then(|owner| stamped.user_id(owner)),
            role: message.role,
            content: message.content.clone(),
            audio_url: message.audio_url.clone(),
            metadata: message.metadata.clone(),
            created_at: stamped.created_at,
            seq: Some(seq),
            external_id: message.external_id.clone(),
            kind: message.kind,
            revision: message.revision,
            interrupted: message.interrupted,
            content_generated: message.content_generated.clone(),
            parts: message.parts.clone(),
            metrics: message.metrics.as_ref().map(|metrics| metrics.as_json().clone()),
        }
    }

    /// The message that was handed over, as far as a row tells.
    pub(crate) fn into_message(self) -> Message {
        Message {
            session_id: self.session_id,
            role: self.role,
            content: self.content,
            id: Some(self.id),
            external_id: self.external_id,
            created_at: Some(self.created_at),
            kind: self.kind,
            revision: self.revision,
            interrupted: self.interrupted,
            audio_url: self.audio_url,
            metadata: self.metadata,
            content_generated: self.content_generated,
            parts: self.parts,
            metrics: self.metrics.and_then(|json| TurnMetrics::try_from(json).ok()),
        }
    }

    /// Where the list goes on after this row.
    pub fn cursor(&self) -> MessageCursor {
        MessageCursor { created_at: self.created_at, seq: self.seq.unwrap_or(0), id: self.id }
    }
}

/// Which sessions to list; all that is `None` admits every session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Of this user.
    pub user_id: Option<Uuid>,
    /// In this state.
    pub status: Option<Status>,
    /// Begun at this moment or later.
    pub since: Option<Timestamp>,
    /// Begun before this moment.
    pub until: Option<Timestamp>,
    /// With a message in which all of this is found.
    pub matching: Option<Query>,
}

/// A place in the list of sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionCursor {
    /// The last row's start.
    pub started_at: Timestamp,
    /// The last row's session.
    pub session_id: Uuid,
}

/// A place in a transcript.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageCursor {
    /// When the last message was said.
    pub created_at: Timestamp,
    /// Its order of acceptance.
    pub seq: Seq,
    /// Its id.
    pub id: Uuid,
}

/// What an audit counts in a store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The books of the data directory, where the store keeps them.
    pub books: Option<Books>,
    /// Rows in `conversation_sessions`.
    pub sessions: u64,
    /// Rows in `conversation_messages`.
    pub messages: u64,
    /// Rows in the dead letters.
    pub dead_letters: u64,
    /// Messages in the journal.
    pub journal: u64,
    /// What does not add up, one sentence each.
    pub problems: Vec<String>,
}
