//! PostgreSQL in every kind of trouble: callers notice nothing, health names the cause, and afterwards
//! every message is there, once and in order, without a restart.

mod away;
mod full;
mod mendable;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use talktrack::{SessionId, Status};
use talktrack_testbed::Database;

use crate::node::Node;
use crate::support::within;

/// One session in each lane of the writer, so that every lane meets the trouble.
const SESSIONS: [SessionId; 4] =
    [SessionId::from_u128(1), SessionId::from_u128(2), SessionId::from_u128(3), SessionId::from_u128(4)];

/// Conversations that continue in spite of all trouble of the database.
struct Talk {
    node: Node,
    /// The number of messages in each session so far.
    said: usize,
    store_up: StoreUp,
}

impl Talk {
    /// Starts the conversations.
    async fn over(url: &str) -> Self {
        let store_up = StoreUp::default();
        let node = metrics::with_local_recorder(&store_up, || Node::at(url));
        for session in SESSIONS {
            node.start(session).await;
        }
        Self { node, said: 0, store_up }
    }

    /// Tracks this many more messages in each session, and waits until they are durable.
    async fn goes_on(&mut self, messages: usize) {
        for number in self.said..self.said + messages {
            for session in SESSIONS {
                self.node.say(session, format!("message {number}")).await;
            }
        }
        self.said += messages;
    }

    /// Continues while the database is in trouble, until health names the trouble in these words.
    async fn goes_on_despite(&mut self, words: &str) {
        self.goes_on(5).await;
        self.node.complains_of(words).await;
        assert!(!self.store_up.get(), "the metrics say it too");
        assert!(self.node.tracker.health().books.pending() > 0, "it waits");
        self.goes_on(5).await;
    }

    /// Waits until all messages so far are stored.
    async fn is_stored(&self) {
        let books = self.node.settled().await;
        assert_eq!((books.stored, books.dead_lettered), ((self.said * SESSIONS.len()) as u64, 0));
        assert!(self.store_up.get(), "the metrics say that all is well");
    }

    /// Checks that all messages arrive, once and in order, and that further messages arrive too.
    async fn arrives(mut self) {
        self.is_stored().await;
        self.goes_on(1).await;
        for session in SESSIONS {
            let end = self.node.tracker.end_session(session, "completed").unwrap();
            within(end.durable()).await.unwrap();
        }
        self.is_stored().await;
        let all: Vec<_> = (0..self.said).map(|number| format!("message {number}")).collect();
        for session in SESSIONS {
            assert_eq!(self.node.contents(session).await, all);
            let row = self.node.session(session).await;
            assert_eq!((row.message_count, row.status), (self.said as i64, Status::Ended.into()));
        }
        assert_eq!(within(self.node.tracker.reader().audit()).await.unwrap().problems, [""; 0]);
    }
}

/// The value of the gauge `talktrack_store_up`.
#[derive(Default)]
struct StoreUp(Arc<AtomicU64>);

impl StoreUp {
    fn get(&self) -> bool {
        f64::from_bits(self.0.load(Ordering::Acquire)) > 0.5
    }
}

impl Recorder for StoreUp {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        if key.name() == "talktrack_store_up" { Gauge::from_arc(Arc::clone(&self.0)) } else { Gauge::noop() }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Terminates every connection to this database, on the server's side.
fn terminate_connections(database: &Database) {
    let whom = format!("datname = '{}' AND pid <> pg_backend_pid()", database.name());
    database.psql(&format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {whom}"));
}
