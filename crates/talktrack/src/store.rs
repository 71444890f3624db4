//! Stores: where conversations end up and are read from. Every store passes the same suite, [`crate::testing::conformance`].

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use crate::books::Books;
use crate::clock::Timestamp;
use crate::error::ReadError;
use crate::json::JsonObject;
use crate::noted_store::NotedStore;
use crate::record::{Status, Verdict};
use crate::search::{Hit, Query, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Range, Stats, StatsError};

pub use error::{Class, StoreError};

mod error;
pub(crate) mod absent;
mod cursor;
mod limited;
mod conflict;
pub mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
pub mod sqlite;
mod row;
mod page;
mod delivery;

pub use delivery::{Delivery, Numbers};

pub use cursor::{MessageCursor, SessionCursor};
pub use limited::LimitedRows;
pub(crate) use page::SEARCHED_BYTES;
pub use page::{PAGE_BYTES, Page, Weigh};
pub use row::{GLIMPSE_CHARS, Glimpse, MessageRow, SessionRow};

/// A remote store: fed by the writer from the journal, in the order of each session.
#[async_trait]
pub trait Store: Read {
    /// Writes the records in order and says what became of each, in the same order. Must be idempotent: after an error
    /// or a crash the same records come again, whatever part of them was written.
    ///
    /// # Errors
    /// If the records were not written, or it is not known whether they were, with the class that decides what happens next.
    async fn write(&self, delivery: Delivery<'_>) -> Result<Vec<Verdict>, StoreError>;

    /// The number of the last delivery of a lane that the store knows of, if it knows any (see [`Numbers`]).
    ///
    /// # Errors
    /// If the store cannot be asked now.
    async fn delivered(&self, node: Uuid, lane: usize) -> Result<Option<i64>, StoreError>;

    /// Asks whether the store would take records now, without writing any.
    ///
    /// # Errors
    /// Where it would not, in the words of a failed write.
    async fn check(&self) -> Result<(), StoreError>;

    /// Those of these sessions that are there.
    ///
    /// # Errors
    /// If the store cannot be asked now.
    async fn known_sessions(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, ReadError> {
        let rows = self.sessions_by_id(ids).await?;
        Ok(rows.into_iter().map(|row| row.session_id).collect())
    }

    /// Messages of these sessions that were deleted by themselves within this time, with their session.
    ///
    /// # Errors
    /// If the store cannot be asked now.
    async fn deleted_messages(
        &self,
        _sessions: &[Uuid],
        _within: Duration,
    ) -> Result<Vec<(Uuid, Uuid)>, ReadError> {
        Ok(Vec::new())
    }

    /// Ends every session of which nothing was heard since this moment, as abandoned, at its last event. Several nodes may
    /// do so at once. Says how many sessions it ended.
    ///
    /// # Errors
    /// Where the store cannot be asked now.
    async fn abandon_silent(&self, since: Timestamp) -> Result<u64, StoreError>;

    /// The id that the store carries, by which a data directory knows whose outbox it is. `None` if it carries none.
    ///
    /// # Errors
    /// If the store cannot be asked now, in the words of a failed write.
    async fn identity(&self) -> Result<Option<Uuid>, StoreError> {
        Ok(None)
    }

    /// Where the store is, for people, without the password.
    fn address(&self) -> String {
        "a remote store".to_owned()
    }

    /// From now on nothing is read from or written to a store with another id than this one notes, if it notes one.
    fn expect(&self, _noted: Option<NotedStore>) {}

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

    /// How many messages are known not to be found yet, without a look at the store: also while it does not answer.
    fn known_lag(&self) -> u64 {
        0
    }
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

    /// Those of these messages that are there, in the order of the ids. If there are more than fit on a page, those whose ids
    /// come after the last row's were not looked up.
    async fn messages_by_id(&self, ids: &[Uuid]) -> Result<Page<MessageRow>, ReadError>;

    /// When the last message of the session was said, going by its place; `None` without a message, or if that is no time of the
    /// calendar.
    async fn last_said_at(&self, session_id: Uuid) -> Result<Option<Timestamp>, ReadError>;

    /// Those of these sessions that were deleted for good, in no order.
    async fn deleted_sessions(&self, ids: &[Uuid]) -> Result<Vec<DeletedSession>, ReadError>;

    /// The sessions of a user that were there at this moment, in no order: those that were accepted by then, and those that began
    /// before.
    async fn sessions_of_user_at(&self, user_id: Uuid, moment: Timestamp) -> Result<Vec<Uuid>, ReadError> {
        const PAGE: usize = 1_000;
        let filter =
            SessionFilter { user_id: Some(user_id), until: Some(moment), ..SessionFilter::default() };
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = self.sessions(filter.clone(), after, PAGE).await?;
            found.extend(page.iter().map(|row| row.session_id));
            match page.last_before_more() {
                Some(last) => after = Some(last.cursor()),
                None => return Ok(found),
            }
        }
    }

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

    /// A page of the sessions, newest first, after the cursor.
    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError>;

    /// The newest session of this user that was started under this name.
    async fn session_by_external_id(
        &self,
        user_id: Uuid,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError>;

    /// Sessions whose id begins with this text, in the order of their ids.
    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError>;

    /// A page of a session's messages in the order in which they were said, after the cursor.
    async fn messages(
        &self,
        session_id: Uuid,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError>;

    /// Those of these messages that whoever asks may see, in no order. The messages are stored in sessions that they may see. Only a
    /// database with policies of its own hides some of them.
    async fn visible_messages(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, ReadError> {
        Ok(ids.to_vec())
    }

    /// What shows at a glance how these sessions went; of those that are there and have a message, in no order.
    async fn glimpses(&self, ids: &[Uuid]) -> Result<Vec<Glimpse>, ReadError>;

    /// A page of messages with these words in them, newest first, after the cursor. What was said a moment ago may be missing yet: the
    /// index is brought up to it behind the path.
    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError>;

    /// What happened in a range of time in the sessions of one user, counted from the rows.
    async fn stats_of(&self, user_id: Uuid, range: &Range) -> Result<Stats, StatsError>;
}

/// A session that was deleted for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedSession {
    /// The session.
    pub session_id: Uuid,
    /// Whose it was, as far as is known.
    pub user_id: Option<Uuid>,
}

/// A user who looks: at own sessions, and at every message in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Viewer {
    /// Who.
    pub user_id: Uuid,
    /// What the token says, for the policies of a database.
    pub claims: JsonObject,
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
