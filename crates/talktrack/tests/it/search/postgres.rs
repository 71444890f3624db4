//! The search index in PostgreSQL finds a row wherever it lies in the table, because new rows fill the
//! space that a `VACUUM` has freed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::search::{FOLDING, SearchFilter};
use talktrack::store::postgres::PostgresStore;
use talktrack::store::{Projection, Rows as _, Step, Store};
use talktrack::{Message, MessageId, Role, SessionId};
use talktrack_testbed::Database;
use talktrack_testkit::PATIENCE;

use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER, within};

const DELETED: SessionId = SessionId::from_u128(0xdd);

/// A node and its indexer, which advances only when the test calls it.
struct Indexed {
    node: Node,
    store: PostgresStore,
    indexer: Box<dyn Projection>,
}

impl Indexed {
    fn at(database: &Database) -> Self {
        let store = store_at(&database.url());
        let as_store: Arc<dyn Store> = Arc::new(store.clone());
        let node = Node::with(&as_store, |options| options.with_search(false));
        let indexer = store.search_indexer().expect("the store has an index");
        Self { node, store, indexer }
    }

    async fn caught_up(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.indexer.step().await.expect("a step") != Step::UpToDate {
            assert!(Instant::now() < deadline, "the index is never up to date");
        }
    }

    async fn finds(&self, query: &str) -> usize {
        let wanted = SearchFilter::new(query.parse().unwrap());
        self.store.search(wanted, None, 1_000).await.expect("the index is there").len()
    }
}

/// Creates a table with free space before its last page, and an indexer that has seen all of it.
async fn with_freed_room(database: &Database) -> Indexed {
    let mut before = Indexed::at(database);
    for session in [DELETED, SESSION] {
        before.node.start(session).await;
    }
    before.node.say_all(DELETED, (0..1_200).map(|number| format!("hay {number}"))).await;
    before.node.settled().await;
    before.node.say(SESSION, "the last row keeps the file from becoming shorter").await;
    before.node.settled().await;
    before.caught_up().await;
    let deletion = before.node.tracker.delete_session(DELETED, None).expect("accepted");
    within(deletion.here.durable()).await.expect("durable");
    before.node.settled().await;
    database.psql("VACUUM conversation_messages");
    // Needs a new indexer: for 40 seconds the old one takes the current pages for the end of the table.
    let mut indexed = Indexed::at(database);
    indexed.caught_up().await;
    indexed
}

/// Checks that a row lies before the last page, where an indexer that reads only the end does not find it.
fn is_in_freed_room(database: &Database, content: &str) {
    let sql = "SELECT (ctid::text::point)[0] < pg_relation_size('conversation_messages') / 8192 - 1 \
         FROM conversation_messages WHERE content = ";
    assert_eq!(database.psql(&format!("{sql}'{content}'")), "t", "{content} is where the test needs it");
}

#[tokio::test]
async fn what_is_stored_in_room_that_a_vacuum_has_freed_is_found_at_once() {
    let database = migrated().await;
    let mut indexed = with_freed_room(&database).await;
    indexed.node.say(SESSION, "a needle").await;
    indexed.node.settled().await;
    is_in_freed_room(&database, "a needle");
    assert_eq!((indexed.indexer.known_lag(), indexed.finds("needle").await), (1, 0));
    indexed.indexer.step().await.expect("a step");
    assert_eq!((indexed.indexer.known_lag(), indexed.finds("needle").await), (0, 1));

    // A revision writes a new row version too.
    let id = database.psql("SELECT id FROM conversation_messages WHERE content LIKE 'the last row%'");
    let revised = Message::new(SESSION, Role::User, "revised")
        .with_id(id.trim().parse::<MessageId>().unwrap())
        .with_revision(1);
    indexed.node.track(revised).await;
    indexed.node.settled().await;
    indexed.indexer.step().await.expect("a step");
    assert_eq!((indexed.finds("revised").await, indexed.finds("shorter").await), (1, 0));
}

#[tokio::test]
async fn what_others_put_into_freed_room_is_found_by_a_pass_soon() {
    let database = migrated().await;
    let mut indexed = with_freed_room(&database).await;
    let other = Indexed::at(&database);
    other.node.say(SESSION, "a needle").await;
    other.node.settled().await;
    database.psql(&format!(
        "INSERT INTO conversation_messages (session_id, user_id, role, content) \
         VALUES ('{SESSION}', '{USER}', 'user', 'a pin')"
    ));
    for content in ["a needle", "a pin"] {
        is_in_freed_room(&database, content);
    }
    let deadline = Instant::now() + PATIENCE;
    while (indexed.finds("needle").await, indexed.finds("pin").await) != (1, 1) {
        assert!(Instant::now() < deadline, "what others wrote is not found");
        indexed.indexer.step().await.expect("a step");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn what_is_stored_while_the_index_cannot_be_written_counts_as_lag_and_is_found_later() {
    let database = migrated().await;
    let mut indexed = with_freed_room(&database).await;
    database.psql("ALTER TABLE conversation_search RENAME TO conversation_search_elsewhere");
    indexed.node.say_all(SESSION, (0..3).map(|number| format!("needle {number}"))).await;
    indexed.node.settled().await;
    indexed.indexer.step().await.expect_err("there is no index");
    assert_eq!(indexed.indexer.known_lag(), 3);
    database.psql("ALTER TABLE conversation_search_elsewhere RENAME TO conversation_search");
    indexed.indexer.step().await.expect("a step");
    assert_eq!((indexed.indexer.known_lag(), indexed.finds("needle").await), (0, 3));
}

#[tokio::test]
async fn what_was_indexed_by_older_rules_is_indexed_anew_and_found_meanwhile() {
    let database = migrated().await;
    let mut before = Indexed::at(&database);
    before.node.start(SESSION).await;
    before.node.say_all(SESSION, (0..1_200).map(|number| format!("hay {number}, Łódź"))).await;
    before.node.settled().await;
    before.caught_up().await;
    let folding = format!(
        "SELECT string_agg(DISTINCT folding::text, ' ') || ' ' || count(*) FROM conversation_search WHERE folding <= {FOLDING}"
    );
    assert_eq!(database.psql(&folding), format!("{FOLDING} 1200"));
    // A node of an older version knows no column `folding`. One of a newer version has indexed a row too.
    database.psql(
        "UPDATE conversation_search SET folding = 0, words = replace(words::text, 'lodz', 'łodz')::tsvector",
    );
    database.psql(&format!(
        "UPDATE conversation_search SET folding = {FOLDING} + 1, words = $$'newer'$$ \
         WHERE message_id = (SELECT id FROM conversation_messages WHERE content LIKE 'hay 7,%')"
    ));
    let mut indexed = Indexed::at(&database);
    assert_eq!((indexed.finds("lodz").await, indexed.finds("hay").await), (0, 1_000));
    while indexed.indexer.step().await.expect("a step") != Step::UpToDate {
        assert_eq!(indexed.finds("hay").await, 1_000, "the old words are found until the new ones are there");
    }
    assert_eq!(database.psql(&folding), format!("{FOLDING} 1199"));
    assert_eq!(database.psql("SELECT count(*) FROM conversation_search WHERE words @@ 'lodz'"), "1199");
    assert_eq!(
        database.psql("SELECT count(*) FROM conversation_search WHERE words @@ 'newer'"),
        "1",
        "newer rules win"
    );
}

#[tokio::test]
async fn texts_that_are_too_much_for_one_step_are_found_in_several() {
    let database = migrated().await;
    let mut indexed = with_freed_room(&database).await;
    let long = "hay ".repeat(100_000);
    indexed.node.say_all(SESSION, (0..8).map(|number| format!("needle {number} {long}"))).await;
    indexed.node.settled().await;
    indexed.caught_up().await;
    assert_eq!((indexed.indexer.known_lag(), indexed.finds("needle").await), (0, 8));
}
