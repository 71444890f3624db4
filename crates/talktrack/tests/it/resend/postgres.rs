//! The ways in which PostgreSQL forgets rows that it confirmed.

use std::sync::Arc;

use talktrack::store::Store;
use talktrack::{SessionId, Status};
use talktrack_testbed::{Database, Postgres};
use talktrack_testkit::eventually;

use super::{has_all, texts};
use crate::node::Node;
use crate::postgres::{migrate, migrated, store_at};
use crate::support::{SESSION, within};

/// A session that ends before PostgreSQL forgets.
const ENDED: SessionId = SessionId::from_u128(0xe0);

/// Plays two sessions, one of which ends, so that PostgreSQL has rows to forget.
async fn talk(node: &Node) {
    for session in [SESSION, ENDED] {
        node.start(session).await;
        node.say_all(session, texts(0..200).into_iter()).await;
    }
    within(node.tracker.end_session(ENDED, "completed").unwrap().durable()).await.unwrap();
    node.settled().await;
}

/// Checks that all messages are there, once and in order, and that the ended session is still ended.
async fn is_whole(node: &Node, said: usize) {
    has_all(node, ENDED, &texts(0..200)).await;
    let books = has_all(node, SESSION, &texts(0..said)).await;
    assert_eq!((books.durable, books.stored), (said as u64 + 200, said as u64 + 200));
    let ended = node.session(ENDED).await;
    assert_eq!((ended.status, ended.end_reason.as_deref()), (Status::Ended.into(), Some("completed")));
    assert_eq!((ended.message_count, node.session(SESSION).await.message_count), (200, said as i64));
}

#[tokio::test]
async fn a_database_that_answers_before_it_syncs_loses_nothing_by_a_crash() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database).await;
    // Keeps the WAL writer from flushing commits that did not wait for the disk.
    database.psql("ALTER SYSTEM SET wal_writer_delay = '10s'; ALTER SYSTEM SET wal_writer_flush_after = 0");
    database.psql(&format!("ALTER DATABASE {} SET synchronous_commit = off", database.name()));
    database.psql("SELECT pg_reload_conf()");
    let node = Node::at(&database.url());
    talk(&node).await;
    for round in 0..3 {
        let said = 200 + round * 50;
        node.say_all(SESSION, texts(said..said + 50).into_iter()).await;
        node.settled().await;
        postgres.stop();
        postgres.start_again();
        assert_eq!(
            database.psql(&said_in(SESSION)),
            (said + 50).to_string(),
            "what was confirmed was on the disk"
        );
    }
    is_whole(&node, 350).await;
}

#[tokio::test]
async fn tables_that_are_emptied_by_a_crash_are_filled_again() {
    let mut postgres = Postgres::start();
    let database = postgres.database();
    migrate(&database).await;
    for table in ["conversation_messages", "conversation_sessions", "conversation_nodes"] {
        database.psql(&format!("ALTER TABLE {table} SET UNLOGGED"));
    }
    let node = Node::at(&database.url());
    talk(&node).await;
    postgres.stop();
    postgres.start_again();
    assert_eq!(database.psql("SELECT count(*) FROM conversation_messages"), "0");
    node.say_all(SESSION, texts(200..220).into_iter()).await;
    is_whole(&node, 220).await;
}

#[tokio::test]
async fn a_standby_that_is_promoted_while_it_lags_gets_what_it_has_not_seen() {
    let mut primary = Postgres::start();
    let database = primary.database();
    migrate(&database).await;
    let standby = primary.standby();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", primary.port(), standby.port());
    let url = format!("postgres://talktrack@{hosts}/{}?target_session_attrs=read-write", database.name());
    let node = Node::at(&url);
    talk(&node).await;
    eventually("the standby has followed", || primary.is_followed_by(&standby)).await;
    standby.lag();
    // One of these sessions ends and the other is deleted while the standby receives nothing.
    let late = SessionId::from_u128(0x1a7e);
    let gone = SessionId::from_u128(0x60e);
    for session in [late, gone] {
        node.start(session).await;
        node.say_all(session, texts(0..50).into_iter()).await;
    }
    within(node.tracker.end_session(late, "completed").unwrap().durable()).await.unwrap();
    within(node.tracker.delete_session(gone, None).unwrap().in_store.durable()).await.unwrap();
    node.say_all(SESSION, texts(200..2_400).into_iter()).await;
    node.settled().await;
    primary.stop();
    standby.promote();
    let lost = 2_400 - standby.psql(database.name(), &said_in(SESSION)).parse::<usize>().unwrap();
    assert!(lost >= 2_200, "the standby lagged: {lost}");
    has_all(&node, late, &texts(0..50)).await;
    has_all(&node, SESSION, &texts(0..2_400)).await;
    assert_eq!(node.session(late).await.status, Status::Ended);
    assert_eq!(node.session(ENDED).await.status, Status::Ended);
    assert!(node.contents(gone).await.is_empty());
    let deleted = format!("SELECT count(*) FROM conversation_deletions WHERE session_id = '{gone}'");
    assert_eq!(standby.psql(database.name(), &deleted), "1");
    assert_eq!(node.tracker.health().books.pending(), 0);
}

fn said_in(session: SessionId) -> String {
    format!("SELECT count(*) FROM conversation_messages WHERE session_id = '{session}'")
}

/// Copies every table, to be restored later, as a dump does.
pub(super) fn dump(database: &Database) {
    database.psql("CREATE SCHEMA dump");
    for table in TABLES {
        database.psql(&format!("CREATE TABLE dump.{table} AS TABLE public.{table}"));
    }
}

pub(super) fn restore(database: &Database) {
    let tables = TABLES.join(", ");
    let fill = TABLES.map(|table| format!("INSERT INTO {table} SELECT * FROM dump.{table};")).concat();
    let script = format!(
        "BEGIN; SET LOCAL session_replication_role = replica; TRUNCATE {tables} CASCADE; {fill} COMMIT"
    );
    // The tables are locked one after the other, and talktrack may read them in another order at this moment.
    while let Err(complaint) = database.try_psql(&script) {
        assert!(complaint.contains("deadlock detected"), "{complaint}");
    }
}

const TABLES: [&str; 6] = [
    "conversation_sessions",
    "conversation_messages",
    "conversation_deletions",
    "conversation_user_deletions",
    "conversation_message_deletions",
    "conversation_nodes",
];

#[tokio::test]
async fn a_restored_dump_gets_everything_since_it_was_made() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.say_all(SESSION, texts(0..30).into_iter()).await;
    node.settled().await;
    dump(&database);
    node.say_all(SESSION, texts(30..200).into_iter()).await;
    node.start(ENDED).await;
    node.say_all(ENDED, texts(0..200).into_iter()).await;
    within(node.tracker.end_session(ENDED, "completed").unwrap().durable()).await.unwrap();
    node.settled().await;
    restore(&database);
    assert_eq!(database.psql(&said_in(SESSION)), "30");
    // No new record is tracked, so the lanes must discover the loss by themselves.
    is_whole(&node, 200).await;
    restore(&database);
    node.say_all(SESSION, texts(200..210).into_iter()).await;
    is_whole(&node, 210).await;
}

#[tokio::test]
async fn a_dump_without_the_numbers_of_deliveries_gets_the_whole_window_and_doubles_nothing() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    talk(&node).await;
    database.psql("TRUNCATE conversation_nodes");
    node.say_all(SESSION, texts(200..210).into_iter()).await;
    is_whole(&node, 210).await;
}

/// PostgreSQL may complete a write of a killed server after the next server has read the number of the
/// last delivery. That must not be taken for a second running server.
#[tokio::test]
async fn what_the_server_before_sent_and_postgresql_completes_late_is_no_other_server() {
    let database = migrated().await;
    let store = Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    let node = Node::on(&store);
    node.start(SESSION).await;
    node.say(SESSION, "before").await;
    // The session ends, so that the next server has nothing to deliver until a message is tracked.
    within(node.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    node.settled().await;
    let dir = node.dies();
    let died = database.psql("SELECT clock_timestamp()");
    let node = Node::back(dir, &store, |options| options);
    let looked = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND query LIKE 'SELECT delivery%' AND query_start > '{died}' AND state = 'idle'"
    );
    eventually("the server has looked", || database.psql(&looked) != "0").await;
    // The killed server may have tried several times, each time with a new delivery number.
    let late = "UPDATE conversation_nodes SET delivery = delivery + 5";
    database.psql(late);
    node.say(SESSION, "after").await;
    node.settled().await;
    assert_eq!(node.contents(SESSION).await, ["before", "after"]);
    assert_eq!(node.dead_letters().len(), 0);
    // By now no write of a killed server can arrive any more, so this one comes from another running server.
    database.psql(late);
    node.say(SESSION, "beside another server").await;
    node.complains_of("another server delivers under the node id").await;
}
