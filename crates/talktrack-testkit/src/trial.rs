//! A tracker under trial: an answer that does not come fails the test instead of hanging it, and
//! acknowledgements are counted.

use std::future::Future;
use std::time::Duration;

use talktrack::store::{Audit, MessageRow, SessionFilter, SessionRow};
use talktrack::{NewSession, Options, Started, Tracker};
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock as _, Timestamp};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId};
use talktrack_core::message::{Author, Message, Role};
use talktrack_core::record::{DeletionCounts, Ended};

use crate::manual_clock::ManualClock;
use crate::setup::{PATIENCE, Setup};

/// More rows than any check writes.
const ALL: usize = 1_000_000;

/// A tracker on a [`Setup`], with the number of messages that it has acknowledged since the setup was
/// empty.
pub struct Trial {
    setup: Setup,
    tracker: Tracker,
    acknowledged: u64,
}

impl Trial {
    /// Opens a tracker with the default options.
    pub fn open(setup: Setup) -> Self {
        let options = setup.options();
        Self::open_with(setup, options)
    }

    /// Opens a tracker with these options.
    pub fn open_with(setup: Setup, options: Options) -> Self {
        let tracker = setup.open(options).expect("the tracker opens");
        Self { setup, tracker, acknowledged: 0 }
    }

    /// Shuts the tracker down and opens another one on the same data.
    pub async fn restart(self) -> Self {
        let shutdown = within("shutdown", self.tracker.shutdown(PATIENCE)).await;
        shutdown.expect("everything accepted is durable before the shutdown's deadline");
        self.reopen()
    }

    /// Drops the tracker without a shutdown, as a careless program does, and opens another one on the same
    /// data.
    pub fn reopen(self) -> Self {
        let options = self.setup.options();
        self.reopen_with(options)
    }

    /// The same as [`Trial::reopen`], with these options.
    pub(super) fn reopen_with(self, options: Options) -> Self {
        let Self { setup, tracker, acknowledged } = self;
        drop(tracker);
        Self { acknowledged, ..Self::open_with(setup, options) }
    }

    /// Returns the default options.
    pub(super) fn options(&self) -> Options {
        self.setup.options()
    }

    /// Returns the tracker.
    pub fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    /// Returns the tracker's clock.
    pub fn clock(&self) -> &ManualClock {
        self.setup.clock()
    }

    /// Returns the clock's present moment.
    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// Lets this much time pass.
    pub fn wait(&self, time: Duration) {
        self.clock().advance(time);
    }

    /// Starts a session, and waits until the start is durable.
    pub async fn start(&self, session: NewSession) -> Started {
        let receipt = self.tracker.start_session(session).expect("the session is accepted");
        within("the session's start", receipt.durable()).await.expect("the session's start becomes durable")
    }

    /// Ends a session, and waits until the end is durable.
    pub async fn end(&self, session_id: SessionId, reason: &str) -> Ended {
        let receipt = self.tracker.end_session(session_id, reason).expect("the end is accepted");
        within("the session's end", receipt.durable()).await.expect("the session's end becomes durable")
    }

    /// Deletes a session, here and in the store, and returns what was removed.
    pub async fn delete(&self, session_id: SessionId) -> DeletionCounts {
        let deletion = self.tracker.delete_session(session_id, None).expect("the deletion is accepted");
        let mut removed = within("the deletion", deletion.here.durable()).await.expect("it becomes durable");
        removed +=
            within("the store's deletion", deletion.in_store.durable()).await.expect("the store does it");
        removed
    }

    /// Tracks a message, waits until it is durable, and returns its id.
    pub async fn say(&mut self, session_id: SessionId, role: Role, content: &str) -> MessageId {
        let said = self.track(Message::new(session_id, role, content)).await;
        said.expect("the message becomes durable")
    }

    /// Tracks one message and waits for its receipt.
    ///
    /// # Errors
    /// If the message was refused after acceptance.
    pub async fn track(&mut self, message: Message) -> Result<MessageId, NotDurable> {
        let mut outcomes = self.track_all(vec![message]).await;
        outcomes.pop().expect("one message has one outcome")
    }

    /// Tracks one message on behalf of an author, and waits for its receipt.
    ///
    /// # Errors
    /// If the message was refused after acceptance.
    pub async fn track_as(&mut self, message: Message, author: Author) -> Result<MessageId, NotDurable> {
        let receipt = self.tracker.track_message_as(message, &author).expect("the message is accepted");
        let id = receipt.id();
        let outcome = within("a receipt", receipt.durable()).await.map(|()| id);
        self.acknowledged += u64::from(outcome.is_ok());
        outcome
    }

    /// Counts messages that were acknowledged in another way than by the methods of the trial.
    pub(super) fn acknowledge(&mut self, messages: usize) {
        self.acknowledged += messages as u64;
    }

    /// Tracks all messages, then waits for all receipts.
    pub async fn track_all(&mut self, messages: Vec<Message>) -> Vec<Result<MessageId, NotDurable>> {
        let accept = |message| self.tracker.track_message(message).expect("the message is accepted");
        let receipts: Vec<_> = messages.into_iter().map(accept).collect();
        let mut outcomes = Vec::with_capacity(receipts.len());
        for receipt in receipts {
            let id = receipt.id();
            outcomes.push(within("a receipt", receipt.durable()).await.map(|()| id));
        }
        self.acknowledged += outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u64;
        outcomes
    }

    /// Waits until everything is stored, and checks that the books contain every acknowledged message.
    pub async fn settled(&self) -> Books {
        within("flushing to the store", self.tracker.flush_to_store()).await.expect("everything is flushed");
        let Books { durable, stored, dead_lettered, .. } = self.tracker.health().books;
        assert_eq!(durable, self.acknowledged, "durable in the books, and messages acknowledged");
        assert_eq!(
            durable,
            stored + dead_lettered,
            "durable, and stored + dead_lettered with nothing pending"
        );
        let problems = self.audit().await.problems;
        assert!(problems.is_empty(), "the audit finds: {problems:#?}");
        self.tracker.health().books
    }

    /// Returns the store's own counts.
    pub async fn audit(&self) -> Audit {
        within("the audit", self.tracker.reader().audit()).await.expect("the store can be read")
    }

    /// Returns a session's row, if there is one.
    pub async fn find_session(&self, session_id: SessionId) -> Option<SessionRow> {
        within("a session", self.tracker.reader().session(session_id)).await.expect("the store can be read")
    }

    /// Returns a session's row. Panics if there is none.
    pub async fn session(&self, session_id: SessionId) -> SessionRow {
        let row = self.find_session(session_id).await;
        row.unwrap_or_else(|| panic!("session {session_id} is not in the store"))
    }

    /// Returns all sessions that pass the filter, in the store's order.
    pub async fn sessions(&self, filter: SessionFilter) -> Vec<SessionRow> {
        let reader = self.tracker.reader();
        let mut all: Vec<SessionRow> = Vec::new();
        loop {
            let after = all.last().map(SessionRow::cursor);
            let page = within("the sessions", reader.sessions(filter.clone(), after, ALL)).await;
            let page = page.expect("the store can be read");
            let more = page.more;
            all.extend(page);
            if !more {
                return all;
            }
        }
    }

    /// Returns all messages of a session, in the store's order.
    pub async fn transcript(&self, session_id: SessionId) -> Vec<MessageRow> {
        let reader = self.tracker.reader();
        let mut all: Vec<MessageRow> = Vec::new();
        loop {
            let after = all.last().map(MessageRow::cursor);
            let page = within("a transcript", reader.messages(session_id, after, ALL)).await;
            let page = page.expect("the store can be read");
            let more = page.more;
            all.extend(page);
            if !more {
                return all;
            }
        }
    }

    /// Returns the texts of a session, in the store's order.
    pub async fn contents(&self, session_id: SessionId) -> Vec<String> {
        self.transcript(session_id).await.into_iter().map(|row| row.content).collect()
    }
}

/// Waits for an answer that must come.
///
/// # Panics
/// If it does not come within [`PATIENCE`].
pub(super) async fn within<T>(what: &str, answer: impl Future<Output = T>) -> T {
    let answer = tokio::time::timeout(PATIENCE, answer).await;
    answer.unwrap_or_else(|_| panic!("{what}: no answer within {PATIENCE:?}"))
}
