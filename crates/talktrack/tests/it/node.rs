//! A node for the tests: a tracker in front of a store, with the checks that concern both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::record::Record;
use talktrack::store::{SessionRow, Store};
use talktrack::{Books, Message, NewSession, Options, Role, SessionId, Tracker, UserId};
use talktrack_testkit::{PATIENCE, eventually};
use tempfile::TempDir;

use crate::postgres::store_at;
use crate::support::{USER, accept, dir, sqlite, within};

/// More rows than any test writes.
const ALL: usize = 1_000_000;

/// By default a node learns of deletions only from its own writes, not by polling, so that the test
/// decides what the node knows.
fn patient(dir: &std::path::Path) -> Options {
    Options::new(dir).with_deletions_interval(Duration::from_secs(60 * 60))
}

/// A tracker with a separate data directory.
pub(crate) struct Node {
    pub(crate) tracker: Tracker,
    dir: TempDir,
}

/// A record that the store will never accept.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) record: Record,
}

impl DeadLetter {
    /// Returns the text, if the record is a message.
    pub(crate) fn content(&self) -> Option<&str> {
        self.record.message().map(|stamped| stamped.message.content.as_str())
    }
}

impl Node {
    /// Starts a node in front of the database at this URL.
    pub(crate) fn at(url: &str) -> Self {
        Self::on(&(Arc::new(store_at(url)) as Arc<dyn Store>))
    }

    /// Starts a node in front of this store.
    pub(crate) fn on(store: &Arc<dyn Store>) -> Self {
        Self::with(store, |options| options)
    }

    /// Starts a node in front of this store, with changed options.
    pub(crate) fn with(store: &Arc<dyn Store>, options: impl FnOnce(Options) -> Options) -> Self {
        let dir = dir();
        let tracker = Tracker::open_with_store(options(patient(dir.path())), Arc::clone(store));
        Self { tracker: tracker.expect("the tracker opens, whatever the store does"), dir }
    }

    /// Returns the node's data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Ends the node as a kill would, without ending its sessions. Returns its data directory.
    pub(crate) fn dies(self) -> TempDir {
        self.dir
    }

    /// Starts a node on the data directory that another node left.
    pub(crate) fn back(
        dir: TempDir,
        store: &Arc<dyn Store>,
        options: impl FnOnce(Options) -> Options,
    ) -> Self {
        let tracker = Tracker::open_with_store(options(patient(dir.path())), Arc::clone(store));
        Self { tracker: tracker.expect("the tracker opens again"), dir }
    }

    /// Starts a session of [`USER`], and waits until the start is durable.
    pub(crate) async fn start(&self, session: SessionId) {
        self.start_as(session, USER).await;
    }

    /// Starts a session of this user, and waits until the start is durable.
    pub(crate) async fn start_as(&self, session: SessionId, user: UserId) {
        let receipt =
            self.tracker.start_session(NewSession::new(session, user)).expect("the session is accepted");
        within(receipt.durable()).await.expect("durable, whatever the store does");
    }

    /// Tracks a text as the user's message, and waits until it is durable.
    pub(crate) async fn say(&self, session: SessionId, text: impl Into<String>) {
        self.track(Message::new(session, Role::User, text)).await;
    }

    /// Tracks all of these texts, and waits until they are durable.
    pub(crate) async fn say_all(&self, session: SessionId, texts: impl Iterator<Item = String>) {
        for text in texts {
            drop(accept(&self.tracker, Message::new(session, Role::User, text)));
        }
        within(self.tracker.flush()).await.expect("durable, whatever the store does");
    }

    /// Tracks a message, and waits until it is durable.
    pub(crate) async fn track(&self, message: Message) {
        within(accept(&self.tracker, message)).await.expect("durable, whatever the store does");
    }

    /// Waits until health gives these words as the reason why nothing is stored. Returns the whole reason.
    pub(crate) async fn complains_of(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.tracker.health().store;
            match said {
                Some(said) if said.contains(words) => return said,
                said => assert!(Instant::now() < deadline, "health says {said:?}, not {words:?}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the warning of health contains these words. Returns the whole warning.
    pub(crate) async fn warns_of(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.tracker.health().warning {
                Some(said) if said.contains(words) => return said,
                said => assert!(Instant::now() < deadline, "health warns of {said:?}, not {words:?}"),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until no record waits for the store, and checks that health is good and that the books balance.
    pub(crate) async fn settled(&self) -> Books {
        let flushed = tokio::time::timeout(PATIENCE, self.tracker.flush_to_store()).await;
        flushed
            .unwrap_or_else(|_| panic!("everything is flushed in good time: {:?}", self.tracker.health()))
            .expect("everything is flushed");
        // If nothing waited for the store, the writer notices a moment later that the store is back.
        eventually("all is well", || self.tracker.health().store.is_none()).await;
        let health = self.tracker.health();
        let Books { durable, stored, dead_lettered, .. } = health.books;
        assert_eq!((health.store, health.journal), (None, None));
        assert_eq!(durable, stored + dead_lettered, "the books balance, and nothing is pending");
        health.books
    }

    /// Returns the texts of a session's messages, as the store has them.
    pub(crate) async fn contents(&self, session: SessionId) -> Vec<String> {
        let rows =
            within(self.tracker.reader().messages(session, None, ALL)).await.expect("the store can be read");
        rows.into_iter().map(|row| row.content).collect()
    }

    /// Returns the row of a session, which must be in the store.
    pub(crate) async fn session(&self, session: SessionId) -> SessionRow {
        let row = within(self.tracker.reader().session(session)).await.expect("the store can be read");
        row.unwrap_or_else(|| panic!("session {session} is not in the store"))
    }

    /// Returns all dead letters in the order of their `seq`.
    pub(crate) fn dead_letters(&self) -> Vec<DeadLetter> {
        let connection = sqlite(self.dir.path());
        let mut query = connection
            .prepare("SELECT reason, coalesce(detail, ''), body FROM dead_letters ORDER BY seq")
            .unwrap();
        let letters = query.query_map([], |row| {
            let body: String = row.get(2)?;
            let record = serde_json::from_str(&body).expect("a dead letter can be read back");
            Ok(DeadLetter { reason: row.get(0)?, detail: row.get(1)?, record })
        });
        letters.unwrap().map(Result::unwrap).collect()
    }
}
