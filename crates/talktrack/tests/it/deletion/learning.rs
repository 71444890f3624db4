//! A node that delivered part of a session learns that the session was deleted elsewhere, and keeps none of its text.

use std::sync::Arc;
use std::time::Duration;

use talktrack::store::Store;
use talktrack::{Deletion, JsonObject, NotDurable, SessionId};
use talktrack_testbed::{Database, open_client};
use talktrack_testkit::eventually;
use uuid::Uuid;

use super::{OTHER_SESSION, SECRET, files_with};
use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER, accept, message, sqlite, value, within};

/// Starts a node that polls for deletions every 20 ms.
fn curious(database: &Database) -> Node {
    let store = Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    let deletions_interval = Duration::from_millis(20);
    Node::with(&store, |options| options.with_deletions_interval(deletions_interval))
}

async fn done(Deletion { here, in_store, .. }: Deletion) {
    within(here.durable()).await.unwrap();
    within(in_store.durable()).await.unwrap();
}

/// Plays a session with the secret in its messages and its metadata, and another session without it.
async fn talk(node: &Node) {
    for session in [SESSION, OTHER_SESSION] {
        node.start(session).await;
    }
    let metadata = JsonObject::parse(&format!(r#"{{"note": "{SECRET}"}}"#)).unwrap();
    within(node.tracker.update_session(SESSION, metadata).unwrap()).await.unwrap();
    node.say_all(SESSION, (0..20).map(|number| format!("{number} {SECRET}"))).await;
    node.say(OTHER_SESSION, "something else").await;
    node.settled().await;
    assert_ne!(files_with(SECRET, node.dir()), [""; 0]);
}

/// Removes all rows from the database, including the tombstones, as after a failover to a standby
/// that never received them.
fn forget(database: &Database) {
    database.psql(
        "TRUNCATE conversation_messages, conversation_sessions, conversation_deletions, conversation_user_deletions,
         conversation_message_deletions, conversation_nodes",
    );
}

fn count(database: &Database, rows: &str) -> String {
    database.psql(&format!("SELECT count(*) FROM {rows}")).trim().to_owned()
}

const BY_SQL: &str = "DELETE FROM conversation_messages WHERE session_id = '{session}';
    DELETE FROM conversation_sessions WHERE session_id = '{session}'";

#[tokio::test]
async fn text_that_was_deleted_elsewhere_leaves_the_window_of_every_node_and_is_not_sent_again() {
    for how in ["by SQL", "on another node", "with its user"] {
        let database = migrated().await;
        let node = curious(&database);
        let other = Node::at(&database.url());
        talk(&node).await;
        match how {
            "by SQL" => _ = database.psql(&BY_SQL.replace("{session}", &SESSION.to_string())),
            "on another node" => done(other.tracker.delete_session(SESSION, None).unwrap()).await,
            _ => {
                done(other.tracker.delete_user(USER).unwrap()).await;
                done(other.tracker.delete_session(SESSION, Some(USER)).unwrap()).await;
            }
        }
        eventually("its words have left the node", || files_with(SECRET, node.dir()).is_empty()).await;
        assert_eq!(within(accept(&node.tracker, message("late"))).await, Err(NotDurable::Deleted), "{how}");
        forget(&database);
        node.say(OTHER_SESSION, "and on").await;
        node.settled().await;
        assert_eq!(node.contents(OTHER_SESSION).await, ["something else", "and on"], "{how}");
        let of_session = format!("conversation_messages WHERE session_id = '{SESSION}'");
        assert_eq!(count(&database, &of_session), "0", "{how}");
    }
}

#[tokio::test]
async fn a_message_that_was_deleted_by_sql_leaves_the_window_and_its_session_goes_on() {
    let database = migrated().await;
    let node = curious(&database);
    talk(&node).await;
    let deleted = message("to be deleted by itself").with_external_id("x");
    node.track(deleted.clone()).await;
    node.settled().await;
    database.psql("DELETE FROM conversation_messages WHERE content LIKE 'to be deleted%'");
    eventually("its words have left the node", || files_with("to be deleted", node.dir()).is_empty()).await;
    assert_eq!(within(accept(&node.tracker, deleted)).await, Err(NotDurable::Deleted));
    forget(&database);
    node.say(SESSION, "and on").await;
    let books = node.settled().await;
    assert_eq!(node.contents(SESSION).await.len(), 21);
    assert_eq!((books.dead_lettered, books.letters()), (0, 0));
}

#[tokio::test]
async fn dead_letters_of_a_session_that_was_deleted_elsewhere_go() {
    let database = migrated().await;
    database.psql(&format!("ALTER TABLE conversation_messages ADD CHECK (content <> '{SECRET}')"));
    let node = curious(&database);
    let other = Node::at(&database.url());
    node.start(SESSION).await;
    node.say(SESSION, "hello").await;
    node.say(SESSION, SECRET).await;
    node.say(SESSION, "and on").await;
    eventually("the row is a dead letter", || node.dead_letters().len() == 1).await;
    done(other.tracker.delete_session(SESSION, None).unwrap()).await;
    eventually("the letter is gone", || node.dead_letters().is_empty()).await;
    eventually("its words are gone", || files_with(SECRET, node.dir()).is_empty()).await;
    eventually("the books know", || node.tracker.health().books.letters() == 0).await;
    assert_eq!(node.settled().await.dead_lettered, 1);
}

#[tokio::test]
async fn a_row_that_is_restored_while_its_user_is_being_deleted_does_not_come_back() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.settled().await;
    // `TRUNCATE` does not fire the triggers that record deletions, so the session has no tombstone.
    database.psql("TRUNCATE conversation_messages, conversation_sessions");
    let deletes = open_client(&database.url()).await;
    let mark = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(1952541803, hashtext('{USER}') & 63);
         INSERT INTO conversation_user_deletions (user_id, session_id) VALUES ('{USER}', '{}')",
        Uuid::nil()
    );
    deletes.batch_execute(&mark).await.unwrap();
    node.say(SESSION, SECRET).await;
    let waits = "pg_locks WHERE locktype = 'advisory' AND NOT granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    eventually("the node waits for the deletion", || count(&database, waits) == "1").await;
    deletes.batch_execute("COMMIT").await.unwrap();
    let books = node.settled().await;
    assert_eq!((books.stored, books.letters()), (0, 0));
    assert_eq!(count(&database, "conversation_sessions"), "0");
    assert_eq!(count(&database, "conversation_messages"), "0");
}

#[tokio::test]
async fn tombstones_of_messages_go_when_retention_removes_their_session() {
    let database = migrated().await;
    let store = Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    let node = Node::with(&store, |options| options.with_grace_period(Duration::ZERO));
    node.start(SESSION).await;
    let deleted = message(SECRET).with_external_id("x");
    node.track(deleted.clone()).await;
    node.settled().await;
    database.psql("DELETE FROM conversation_messages");
    node.track(deleted.with_revision(1)).await;
    within(node.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    node.settled().await;
    let tombstones = "SELECT count(*) FROM conversation_message_deletions";
    assert_eq!(value::<u64>(node.dir(), tombstones), 1);
    eventually("it is no longer in memory", || {
        node.tracker.sweep();
        node.tracker.sessions_in_memory() == 0
    })
    .await;
    let since = talktrack::clock::Clock::now(&talktrack::clock::SystemClock).plus(Duration::from_secs(60));
    let deletion = node.tracker.delete_inactive_session(SESSION, None, since).unwrap();
    done(deletion.expect("it is not in memory")).await;
    assert_eq!(value::<u64>(node.dir(), tombstones), 0);
    assert_eq!(count(&database, "conversation_message_deletions"), "0");
}

/// Selects the length of the longest run of deletions that this node learned without a commit in between.
const LONGEST_RUN: &str = "SELECT max(run) FROM (SELECT count(*) AS run FROM (SELECT what, sum(what = 'commit') OVER (ORDER BY place)
    AS commits FROM seen) WHERE what = 'deletion' GROUP BY commits)";

#[tokio::test]
async fn many_deletions_by_sql_are_learned_in_small_steps_while_messages_are_accepted() {
    const SESSIONS: u64 = 1_500;
    let database = migrated().await;
    let node = curious(&database);
    node.start(SESSION).await;
    let starts = (1..=u128::from(SESSIONS)).map(|number| node.start(SessionId::from_u128(number << 64)));
    futures_util::future::join_all(starts).await;
    node.settled().await;
    sqlite(node.dir())
        .execute_batch(
            "CREATE TABLE seen (place integer PRIMARY KEY, what text);
             CREATE TRIGGER see_deletion AFTER INSERT ON deleted_sessions BEGIN INSERT INTO seen (what) VALUES ('deletion'); END;
             CREATE TRIGGER see_commit AFTER UPDATE ON books BEGIN INSERT INTO seen (what) VALUES ('commit'); END;",
        )
        .unwrap();
    database.psql(&format!("DELETE FROM conversation_sessions WHERE session_id <> '{SESSION}'"));
    let learned = || value::<u64>(node.dir(), "SELECT count(*) FROM deleted_sessions");
    let mut said = 0;
    while learned() < SESSIONS {
        node.say(SESSION, format!("number {said}")).await;
        said += 1;
    }
    let longest = value::<u64>(node.dir(), LONGEST_RUN);
    assert!(longest <= 500, "{longest} deletions in one transaction");
    node.settled().await;
    assert_eq!(node.contents(SESSION).await.len(), said);
}
