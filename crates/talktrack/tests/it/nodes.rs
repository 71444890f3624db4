//! Several nodes share one store, each with its own journal. A session may move between them at any time.

mod conflicts;
mod ends;
mod metadata;
mod same_ids;
mod unknown;

use std::sync::Arc;
use std::time::Duration;

use talktrack::store::Store;
use talktrack::{Options, SessionId};
use talktrack_testbed::Database;
use talktrack_testkit::ManualClock;
use talktrack_testkit::Setup;
use talktrack_testkit::memory::MemoryStore;
use tempfile::TempDir;
use uuid::Uuid;

use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER};

/// Long enough for a session to become idle.
const LONG: Duration = Duration::from_secs(60 * 60);
/// The ids of nodes that write to the store without a journal. The store tells them apart by these ids.
const NODES: [Uuid; 2] = [Uuid::from_u128(0xd0), Uuid::from_u128(0xd1)];
const MOMENT: Duration = Duration::from_secs(1);

/// A store that two nodes share. Their clocks agree, and stand still until the test moves them.
struct Shared {
    /// The store, once for each node: each has its own connections.
    ways: [Arc<dyn Store>; 2],
    clock: ManualClock,
    /// The database, if the store is one. Dropped with its rows at the end of the test.
    database: Option<Database>,
}

impl Shared {
    fn memory() -> Self {
        let store = MemoryStore::new();
        Self::of([Arc::new(store.clone()), Arc::new(store)], None)
    }

    async fn postgres() -> Self {
        let database = migrated().await;
        let way = || Arc::new(store_at(&database.url())) as Arc<dyn Store>;
        Self::of([way(), way()], Some(database))
    }

    fn of(ways: [Arc<dyn Store>; 2], database: Option<Database>) -> Self {
        Self { ways, clock: Setup::sqlite("").clock().clone(), database }
    }

    fn options(&self) -> impl FnOnce(Options) -> Options + use<> {
        let clock = Arc::new(self.clock.clone());
        move |options| options.with_clock(clock)
    }

    /// Starts both nodes.
    fn nodes(&self) -> [Node; 2] {
        [0, 1].map(|which| Node::with(&self.ways[which], self.options()))
    }

    /// Starts a node that looks for idle sessions every 200 ms and has an idle timeout of less than a
    /// second. Its clock stands still meanwhile.
    fn impatient_node(&self) -> Node {
        let options = self.options();
        let idle_timeout = IMPATIENCE;
        Node::with(&self.ways[1], |defaults| options(defaults).with_idle_timeout(idle_timeout))
    }

    /// Starts the first node again, on its data directory.
    fn back(&self, dir: TempDir) -> Node {
        Node::back(dir, &self.ways[0], self.options())
    }
}

const IMPATIENCE: Duration = Duration::from_millis(800);

/// Makes each function a test that runs on both stores.
macro_rules! over_both_stores {
    ($($test:ident,)+) => {
        mod memory {
            $(#[tokio::test] async fn $test() {
                super::$test(&crate::nodes::Shared::memory()).await;
            })+
        }

        mod postgres {
            $(#[tokio::test] async fn $test() {
                super::$test(&crate::nodes::Shared::postgres().await).await;
            })+
        }
    };
}
use over_both_stores;

over_both_stores! {
    a_message_of_a_session_that_another_node_started_is_stored_with_its_user,
    a_node_that_starts_again_knows_the_sessions_of_all_nodes,
    a_session_can_move_to_and_fro_between_nodes,
}

async fn a_message_of_a_session_that_another_node_started_is_stored_with_its_user(shared: &Shared) {
    let [one, other] = shared.nodes();
    one.start(SESSION).await;
    one.say(SESSION, "here").await;
    one.settled().await;
    shared.clock.advance(MOMENT);
    other.say(SESSION, "there").await;
    assert_eq!(other.settled().await.stored, 1);
    let rows = other.tracker.reader().messages(SESSION, None, 10).await.unwrap();
    let rows: Vec<_> = rows.iter().map(|row| (row.content.as_str(), row.user_id.clone())).collect();
    assert_eq!(rows, [("here", Some(USER)), ("there", Some(USER))]);
    assert_eq!(one.session(SESSION).await.message_count, 2);
}

async fn a_node_that_starts_again_knows_the_sessions_of_all_nodes(shared: &Shared) {
    let [one, other] = shared.nodes();
    let second = SessionId::from_u128(0xa1);
    one.start(SESSION).await;
    other.start(second).await;
    one.settled().await;
    other.settled().await;
    let one = shared.back(one.dies());
    for session in [SESSION, second] {
        one.say(session, "after").await;
    }
    assert_eq!(one.settled().await.dead_lettered, 0);
    for session in [SESSION, second] {
        assert_eq!(one.contents(session).await, ["after"]);
    }
}

async fn a_session_can_move_to_and_fro_between_nodes(shared: &Shared) {
    let nodes = shared.nodes();
    let texts: Vec<_> = (0..10).map(|number| format!("message {number}")).collect();
    for (number, text) in texts.iter().enumerate() {
        let node = &nodes[number % 2];
        node.start(SESSION).await;
        node.say(SESSION, text).await;
        node.settled().await;
        shared.clock.advance(MOMENT);
    }
    assert_eq!(nodes[0].contents(SESSION).await, texts);
    assert_eq!(nodes[0].session(SESSION).await.message_count, 10);
}
