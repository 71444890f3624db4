//! A node for the tests: a tracker in front of a store, and what can be said of the two together.

use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::record::Record;
use talktrack::store::{SessionRow, Store};
use talktrack::testing::{PATIENCE, eventually};
use talktrack::{Books, Message, NewSession, Options, Role, Tracker};
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres::store_at;
use crate::support::{USER, accept, dir, sqlite, within};

/// More rows than any test writes.
const ALL: usize = 1_000_000;

/// By default a node hears only from its own writes what was deleted, so that tests decide what it knows.
fn patient(dir: &std::path::Path) -> Options {
    Options { deletions_interval: Duration::from_secs(60 * 60), ..Options::new(dir) }
}

/// A tracker with a data directory of its own.
pub(crate) struct Node {
    pub(crate) tracker: Tracker,
    dir: TempDir,
}

/// A record that the store will never take.
#[derive(Debug)]
pub(crate) struct DeadLetter {
    pub(crate) reason: String,
    pub(crate) detail: String,
    pub(crate) record: Record,
}

impl DeadLetter {
    /// What was said, where it is a message.
    pub(crate) fn content(&self) -> Option<&str> {
        self.record.message().map(|stamped| stamped.message.content.as_str())
    }
}

impl Node {
    /// A node in front of the database at this URL.
    pub(crate) fn at(url: &str) -> Self {
        Self::on(&(Arc::new(store_at(url)) as Arc<dyn Store>))
    }

    /// A node in front of this store.
    pub(crate) fn on(store: &Arc<dyn Store>) -> Self {
        Self::with(store, |options| options)
    }

    /// The same with other options than the defaults.
    pub(crate) fn with(store: &Arc<dyn Store>, options: impl FnOnce(Options) -> Options) -> Self {
        let dir = dir();
        let tracker = Tracker::open_with_store(options(patient(dir.path())), store);
        Self { tracker: tracker.expect("the tracker opens, whatever the store does"), dir }
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Dies as a process does that is killed: nothing is ended. What is left is its data directory.
    pub(crate) fn dies(self) -> TempDir {
        self.dir
    }

    /// Comes back to the data directory that another one left.
    pub(crate) fn back(
        dir: TempDir,
        store: &Arc<dyn Store>,
        options: impl FnOnce(Options) -> Options,
    ) -> Self {
        let tracker = Tracker::open_with_store(options(patient(dir.path())), store);
        Self { tracker: tracker.expect("the tracker opens again"), dir }
    }

    /// Starts a session of [`USER`], durably.
    pub(crate) async fn start(&self, session: Uuid) {
        self.start_as(session, USER).await;
    }

    /// Starts a session, durably.
    pub(crate) async fn start_as(&self, session: Uuid, user: Uuid) {
        let receipt =
            self.tracker.start_session(NewSession::new(session, user)).expect("the session is accepted");
        within(receipt.durable()).await.expect("durable, whatever the store does");
    }

    /// Says something, durably.
    pub(crate) async fn say(&self, session: Uuid, text: impl Into<String>) {
        self.track(Message::new(session, Role::User, text)).await;
    }

    /// Says all of it, and has it durable.
    pub(crate) async fn say_all(&self, session: Uuid, texts: impl Iterator<Item = String>) {
        for text in texts {
            drop(accept(&self.tracker, Message::new(session, Role::User, text)));
        }
        within(self.tracker.flush()).await.expect("durable, whatever the store does");
    }

    /// Tracks a message, durably.
    pub(crate) async fn track(&self, message: Message) {
        within(accept(&self.tracker, message)).await.expect("durable, whatever the store does");
    }

    /// Waits until health names these words as why nothing is stored. Gives all that it says.
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

    /// Waits until health warns with these words. Gives all that it says.
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

    /// Waits until nothing waits for the store any more, and checks that all is well and the books balance.
    pub(crate) async fn settled(&self) -> Books {
        let flushed = tokio::time::timeout(PATIENCE, self.tracker.flush_to_store()).await;
        flushed
            .unwrap_or_else(|_| panic!("everything is flushed in good time: {:?}", self.tracker.health()))
            .expect("everything is flushed");
        // That the store is back is noticed a moment later, if nothing waited for it.
        eventually("all is well", || self.tracker.health().store.is_none()).await;
        let health = self.tracker.health();
        let Books { durable, stored, dead_lettered, .. } = health.books;
        assert_eq!((health.store, health.journal), (None, None));
        assert_eq!(durable, stored + dead_lettered, "the books balance, and nothing is pending");
        health.books
    }

    /// What was said in a session, as the store has it.
    pub(crate) async fn contents(&self, session: Uuid) -> Vec<String> {
        let rows =
            within(self.tracker.reader().messages(session, None, ALL)).await.expect("the store can be read");
        rows.into_iter().map(|row| row.content).collect()
    }

    /// A session's row.
    pub(crate) async fn session(&self, session: Uuid) -> SessionRow {
        let row = within(self.tracker.reader().session(session)).await.expect("the store can be read");
        row.unwrap_or_else(|| panic!("session {session} is not in the store"))
    }

    /// Everything laid aside, in its order.
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
