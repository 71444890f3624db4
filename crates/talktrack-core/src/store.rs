//! Stores: the databases that conversations are written to and read from. Every store passes the same
//! conformance suite, which is in the crate `talktrack-testkit`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::ids::{MessageId, SessionId, UserId};
use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use crate::books::Books;
use crate::clock::{Seq, Timestamp};
use crate::error::{NotDurable, ReadError};
use crate::record::{MessagesEdit, Verdict};
use crate::search::{Hit, SearchCursor, SearchError, SearchFilter};
use crate::stats::{Stats, StatsError, TimeRange};

mod error;
mod filter;
mod noted_store;
mod cursor;
mod limited;
pub mod conflict;
mod row;
mod page;
mod delivery;
mod edited;

pub use cursor::{MessageCursor, SessionCursor};
pub use delivery::{Delivery, DeliveryNumbers};
pub use edited::{CountedMessage, EditedMessages, plan_replacement};
pub use error::{ErrorClass, StoreError};
pub use filter::{SessionFilter, Viewer};
pub use limited::LimitedRows;
pub use noted_store::NotedStore;
pub use page::{PAGE_BYTES, Page, SEARCHED_BYTES, Weigh};
pub use row::{MessageRow, PREVIEW_CHARS, SessionPreview, SessionRow};

/// A remote store. The writer delivers records from the journal to it, and keeps the order of the records
/// of each session.
#[async_trait]
pub trait Store: Read {
    /// Writes the records in order and returns one verdict per record, in the same order. The write must be
    /// idempotent: after an error or a crash the writer delivers the same records again, and any part of
    /// them may have been written before.
    ///
    /// # Errors
    /// If the records were not written, or if the outcome is unknown. The [`ErrorClass`] of the error decides
    /// what the writer does next.
    async fn write(&self, delivery: Delivery<'_>) -> Result<Vec<Verdict>, StoreError>;

    /// Returns the number of the last delivery of this lane that the store has committed, or `None` if the
    /// store knows of none (see [`DeliveryNumbers`]).
    ///
    /// # Errors
    /// If the store cannot answer now.
    async fn last_delivery(&self, node: Uuid, lane: usize) -> Result<Option<i64>, StoreError>;

    /// Checks that the store would accept records now. Writes none.
    ///
    /// # Errors
    /// If the store would refuse them, with the error that a write would fail with.
    async fn check(&self) -> Result<(), StoreError>;

    /// Returns those of these sessions that the store has.
    ///
    /// # Errors
    /// If the store cannot answer now.
    async fn known_sessions(&self, ids: &[SessionId]) -> Result<Vec<SessionId>, ReadError> {
        let rows = self.sessions_by_id(ids).await?;
        Ok(rows.into_iter().map(|row| row.session_id).collect())
    }

    /// Returns messages of these sessions that were deleted one by one (not with their session) within this
    /// time, each with its session. The default implementation returns none.
    ///
    /// # Errors
    /// If the store cannot answer now.
    async fn deleted_messages(
        &self,
        _sessions: &[SessionId],
        _within: Duration,
    ) -> Result<Vec<(SessionId, MessageId)>, ReadError> {
        Ok(Vec::new())
    }

    /// Applies an edit now, in one transaction, and returns the rows that it removed and wrote. `accepted` is the `seq`
    /// of the messages that it inserts. The writer has delivered everything that waited for the session. The default
    /// implementation refuses every edit.
    ///
    /// # Errors
    /// The inner error is the store's refusal: the session is absent or another user's, a message may not be replaced, or
    /// an id is taken. The outer one says that the edit was not applied, or that the outcome is unknown.
    async fn edit_messages(
        &self,
        _edit: &MessagesEdit,
        _accepted: Seq,
    ) -> Result<Result<EditedMessages, NotDurable>, StoreError> {
        Err(StoreError::new(ErrorClass::Systemic, "this store cannot remove or replace single messages"))
    }

    /// Ends every session without an event since this moment: the session becomes abandoned, as of its last
    /// event. Several nodes may do this at the same time. Returns the number of sessions that this call
    /// ended.
    ///
    /// # Errors
    /// If the store cannot do this now.
    async fn end_idle_sessions(&self, since: Timestamp) -> Result<u64, StoreError>;

    /// Returns the id that the store carries. A data directory notes this id and so knows which store its
    /// outbox belongs to. `None` if the store carries no id.
    ///
    /// # Errors
    /// If the store cannot answer now, with the error that a write would fail with.
    async fn identity(&self) -> Result<Option<Uuid>, StoreError> {
        Ok(None)
    }

    /// Returns the address of the store for people to read, without the password.
    fn address(&self) -> String {
        "a remote store".to_owned()
    }

    /// From now on the store refuses reads and writes if its id differs from the noted one. If nothing is
    /// noted, it accepts them.
    fn set_expected(&self, _noted: Option<NotedStore>) {}

    /// Returns the projection that maintains the index for [`Rows::search`] in the background, if the store
    /// needs one.
    fn search_indexer(&self) -> Option<Box<dyn Projection>> {
        None
    }

    /// Returns the projection that maintains the rollup for [`Read::stats`] in the background, if the store
    /// needs one.
    fn stats_rollup(&self) -> Option<Box<dyn Projection>> {
        None
    }
}

/// Brings data that is derived from the rows, such as the search index, up to date with them. A projection
/// runs on a thread of its own, which may block.
#[async_trait]
pub trait Projection: Send {
    /// Does a short piece of work.
    ///
    /// # Errors
    /// If the work cannot be done now. The caller tries again later.
    async fn step(&mut self) -> Result<Step, StoreError>;

    /// Returns the known number of messages that are not indexed yet. It does not ask the store, so it also
    /// answers during an outage.
    fn known_lag(&self) -> u64 {
        0
    }
}

/// The progress after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Everything that is stored is indexed.
    UpToDate,
    /// At least this many messages are not indexed yet.
    More(u64),
    /// No unindexed message is known; a verification pass is checking this.
    Verifying,
}

/// Queries that every store answers to callers who may see everything.
///
/// # Errors
/// Every query fails with [`ReadErrorKind::Unavailable`](crate::ReadErrorKind::Unavailable) if the store cannot be asked
/// at present, and with [`ReadErrorKind::Damaged`](crate::ReadErrorKind::Damaged) if it is damaged. A session or a message
/// that does not exist is no error: the answer is `None`, or is left out.
#[async_trait]
pub trait Read: Rows {
    /// Returns the same rows as this user may see them. The store itself hides all others, for every query.
    fn as_user(&self, viewer: Viewer) -> Arc<dyn Rows>;

    /// Returns sessions without an event since this moment, oldest start first, after the cursor.
    async fn inactive_since(
        &self,
        since: Timestamp,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Vec<SessionRow>, ReadError>;

    /// Returns those of these sessions that the store has, in no particular order.
    async fn sessions_by_id(&self, ids: &[SessionId]) -> Result<Vec<SessionRow>, ReadError>;

    /// Returns those of these messages that the store has, in the order of `ids`. If they do not fit on one
    /// page, the ids that come after the id of the last row were not looked up.
    async fn messages_by_id(&self, ids: &[MessageId]) -> Result<Page<MessageRow>, ReadError>;

    /// Returns the number of messages that the session's row counts, and the revision and the finality of those of these messages
    /// that the session has, from one moment. `None` if the store has no such session. The default implementation asks twice, and returns the state of
    /// two moments.
    async fn message_count(
        &self,
        session_id: SessionId,
        ids: &[MessageId],
    ) -> Result<Option<(i64, Vec<CountedMessage>)>, ReadError> {
        let Some(row) = self.session(session_id).await? else { return Ok(None) };
        let mut found = Vec::new();
        let mut left = ids;
        while !left.is_empty() {
            let page = self.messages_by_id(left).await?;
            let last = page.last_before_more().map(|row| row.id);
            let counted = page.iter().filter(|row| row.session_id == session_id);
            found.extend(counted.map(CountedMessage::of_row));
            let looked_up = last.and_then(|last| left.iter().position(|id| *id == last));
            left = looked_up.map_or(&[], |last| &left[last + 1..]);
        }
        Ok(Some((row.message_count, found)))
    }

    /// Returns the time of the session's last message in transcript order. `None` if the session has no
    /// message, or if that time is not a valid calendar time.
    async fn last_said_at(&self, session_id: SessionId) -> Result<Option<Timestamp>, ReadError>;

    /// Returns those of these sessions that were deleted for good, in no particular order.
    async fn deleted_sessions(&self, ids: &[SessionId]) -> Result<Vec<DeletedSession>, ReadError>;

    /// Returns the sessions of a user that existed at this moment, in no particular order: those accepted
    /// by then, and those that started before it.
    async fn sessions_of_user_at(
        &self,
        user_id: &UserId,
        moment: Timestamp,
    ) -> Result<Vec<SessionId>, ReadError> {
        const PAGE: usize = 1_000;
        let filter =
            SessionFilter { user_id: Some(user_id.clone()), until: Some(moment), ..SessionFilter::default() };
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = self.sessions(filter.clone(), after, PAGE).await?;
            found.extend(page.iter().map(|row| row.session_id));
            match page.last_before_more() {
                Some(last) => after = Some(last.cursor()),
                None => return Ok(found),
            }
        }
    }

    /// Returns statistics about all users for a range of time. They may lag behind the rows, and [`Stats`]
    /// says by how much.
    async fn stats(&self, range: &TimeRange) -> Result<Stats, StatsError>;

    /// Counts all rows and lists inconsistencies.
    async fn audit(&self) -> Result<Audit, ReadError>;
}

/// The rows that the caller may see.
///
/// A page has at most `limit` rows, and fewer if they are large ([`PAGE_BYTES`]): only
/// [`Page::last_before_more`] says whether more follow. A cursor is the place of a row; the row itself need not exist any
/// more.
///
/// # Errors
/// As for [`Read`]. A row that the caller may not see is treated as one that does not exist.
#[async_trait]
pub trait Rows: Send + Sync + 'static {
    /// Returns one session.
    async fn session(&self, session_id: SessionId) -> Result<Option<SessionRow>, ReadError>;

    /// Returns a page of sessions, newest first, after the cursor.
    async fn sessions(
        &self,
        filter: SessionFilter,
        after: Option<SessionCursor>,
        limit: usize,
    ) -> Result<Page<SessionRow>, ReadError>;

    /// Returns this user's newest session with this external id.
    async fn session_by_external_id(
        &self,
        user_id: &UserId,
        external_id: &str,
    ) -> Result<Option<SessionRow>, ReadError>;

    /// Returns sessions whose id begins with this text, ordered by id.
    async fn sessions_by_prefix(&self, prefix: &str, limit: usize) -> Result<Vec<SessionRow>, ReadError>;

    /// Returns a page of a session's messages in the order in which they were said, after the cursor.
    async fn messages(
        &self,
        session_id: SessionId,
        after: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError>;

    /// Returns a page of a session's messages from its end, or before the cursor, newest first. It is the list of
    /// [`messages`](Self::messages) read backwards. The default reads that list from its beginning; a store that can
    /// read backwards should do so.
    async fn latest_messages(
        &self,
        session_id: SessionId,
        before: Option<MessageCursor>,
        limit: usize,
    ) -> Result<Page<MessageRow>, ReadError> {
        let mut latest = VecDeque::new();
        let mut after = None;
        loop {
            let page = self.messages(session_id, after, limit).await?;
            after = page.last_before_more().map(MessageRow::cursor);
            for row in page {
                match before {
                    Some(before) if row.cursor() >= before => after = None,
                    _ => latest.push_back(row),
                }
            }
            latest.drain(..latest.len().saturating_sub(limit));
            if after.is_none() {
                return Page::fill(latest.into_iter().rev().map(Ok), Some(limit));
            }
        }
    }

    /// Returns those of these messages that the caller may see, in no particular order. The caller must
    /// already be allowed to see the sessions of these messages. Only a database with row-level policies of
    /// its own hides some of them; the default returns all.
    async fn visible_messages(&self, ids: &[MessageId]) -> Result<Vec<MessageId>, ReadError> {
        Ok(ids.to_vec())
    }

    /// Returns a short summary of each of these sessions that exists and has a message, in no particular
    /// order.
    async fn session_previews(&self, ids: &[SessionId]) -> Result<Vec<SessionPreview>, ReadError>;

    /// Returns a page of messages that match the query, newest first. The index is updated in the
    /// background, so the most recent messages may be missing.
    async fn search(
        &self,
        wanted: SearchFilter,
        after: Option<SearchCursor>,
        limit: usize,
    ) -> Result<Page<Hit>, SearchError>;

    /// Returns statistics for a range of time about one user's sessions, counted from the rows.
    async fn user_stats(&self, user_id: &UserId, range: &TimeRange) -> Result<Stats, StatsError>;
}

/// A session that was deleted for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedSession {
    /// The session.
    pub session_id: SessionId,
    /// The user it belonged to, if known.
    pub user_id: Option<UserId>,
}

/// The counts and findings of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// The books of the data directory, if the store keeps them.
    pub books: Option<Books>,
    /// Number of rows in `conversation_sessions`.
    pub sessions: u64,
    /// Number of rows in `conversation_messages`.
    pub messages: u64,
    /// Number of dead letters that hold a message. Dead letters of session records are not counted.
    pub dead_letters: u64,
    /// Number of messages in the journal that are pending, that is, not yet stored.
    pub journal: u64,
    /// The inconsistencies, one sentence each.
    pub problems: Vec<String>,
}

/// How many problems of one kind an [`Audit`] names.
const MOST_NAMED: usize = 20;

impl Audit {
    /// How many problems of one kind a store should look for: one more than an audit names.
    pub const PROBLEMS_WANTED: usize = MOST_NAMED + 1;

    /// Adds problems of one kind. If there are many, adds the first of them, and says that there are more.
    pub fn add_problems(&mut self, mut problems: Vec<String>) {
        let has_more = problems.len() > MOST_NAMED;
        problems.truncate(MOST_NAMED);
        self.problems.append(&mut problems);
        if has_more {
            self.problems
                .push(format!("there are more problems of this kind; only the first {MOST_NAMED} are named"));
        }
    }
}
