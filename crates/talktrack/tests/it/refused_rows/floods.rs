//! One user sends many rows that PostgreSQL refuses, over two nodes. The rows of all other users are stored meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::store::Store;
use talktrack::{SessionId, UserId};
use talktrack_testbed::Database;
use talktrack_testkit::PATIENCE;

use crate::node::Node;
use crate::postgres::{migrated, store_at};

/// The user whose rows the database refuses.
const BAD: UserId = UserId::from_u128(0xbad);
const OTHERS: u128 = 16;
/// The number of messages of each other user on each node.
const TURNS: usize = 5;

async fn database() -> Database {
    let database = migrated().await;
    database.psql("ALTER TABLE conversation_messages ADD CHECK (content NOT LIKE 'bad%')");
    database
}

fn session(node: u128, user: u128) -> SessionId {
    SessionId::from_u128((node << 32) + 0x2000 + user)
}

/// Tracks 60 bad messages in twelve sessions, interleaved with the messages of the other users.
async fn flood(node: &Node, number: u128) {
    for user in 0..OTHERS {
        node.start_as(session(number, user), UserId::from_u128(0x1000 + user)).await;
    }
    for user in 100..112 {
        node.start_as(session(number, user), BAD).await;
    }
    for round in 0..TURNS {
        for user in 100..112 {
            node.say_all(session(number, user), [format!("bad {round}")].into_iter()).await;
        }
        for user in 0..OTHERS {
            node.say_all(session(number, user), [format!("good {round}")].into_iter()).await;
        }
    }
}

/// Waits until the database has all messages of the other users, and checks that meanwhile no node
/// reports the whole store as failing.
async fn others_are_stored(database: &Database, nodes: &[&Node], number: usize) {
    let good = "SELECT count(*) FROM conversation_messages WHERE content LIKE 'good%'";
    let deadline = Instant::now() + PATIENCE;
    while database.psql(good) != number.to_string() {
        nodes.iter().for_each(|node| assert_eq!(node.tracker.health().store, None));
        assert!(Instant::now() < deadline, "the rows of the others are stored");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_user_with_many_bad_rows_holds_up_nobody_on_two_nodes_nor_after_a_restart() {
    let database = database().await;
    let a = Node::at(&database.url());
    let b = Node::at(&database.url());
    tokio::join!(flood(&a, 1), flood(&b, 2));
    let all = 2 * usize::try_from(OTHERS).unwrap() * TURNS;
    others_are_stored(&database, &[&a, &b], all).await;
    let dir = a.dies();
    let store = Arc::new(store_at(&database.url())) as Arc<dyn Store>;
    let a = Node::back(dir, &store, |options| options);
    flood(&a, 3).await;
    others_are_stored(&database, &[&a, &b], all + all / 2).await;
    for (node, dead) in [(&a, 120), (&b, 60)] {
        let books = node.settled().await;
        assert_eq!((books.dead_lettered, node.tracker.health().warning), (dead, None));
    }
}

/// Counts the statements that write messages, including those that are rolled back, and records the
/// count with each good row.
const COUNTED: &str = "
CREATE SEQUENCE attempts;
CREATE TABLE noted (content text, attempt bigint);
CREATE FUNCTION attempted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('attempts'); RETURN NULL; END $$;
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO noted SELECT NEW.content, last_value FROM attempts; RETURN NULL; END $$;
CREATE TRIGGER attempted BEFORE INSERT ON conversation_messages FOR EACH STATEMENT EXECUTE FUNCTION attempted();
CREATE TRIGGER note AFTER INSERT ON conversation_messages FOR EACH ROW WHEN (NEW.content LIKE 'good%') EXECUTE FUNCTION note();
GRANT ALL ON noted, attempts TO PUBLIC";

/// The bad rows of a long flood fill the window of a lane. The messages of another user must still get
/// past them, as soon as the bisect has found the bad row that it is searching for.
#[tokio::test]
async fn what_others_say_during_a_long_flood_waits_for_few_attempts_at_its_rows() {
    // Session ids that are divisible by four are all in one lane.
    let other = SessionId::from_u128(0x1000);
    let flooding = |number: u128| SessionId::from_u128(0x2000 + 4 * number);
    let database = database().await;
    database.psql(COUNTED);
    let node = Node::at(&database.url());
    node.start(other).await;
    for number in 0..10 {
        node.start_as(flooding(number), BAD).await;
    }
    node.settled().await;
    for number in 0..10 {
        node.say_all(flooding(number), (0..250).map(|row| format!("bad {row}"))).await;
    }
    let mut attempts = Vec::new();
    for round in 1..=5 {
        let before: u64 = database.psql("SELECT last_value FROM attempts").parse().unwrap();
        node.say_all(other, [format!("good {round}")].into_iter()).await;
        others_are_stored(&database, &[&node], round).await;
        let noted = format!("SELECT attempt FROM noted WHERE content = 'good {round}'");
        attempts.push(database.psql(&noted).parse::<u64>().unwrap() - before);
    }
    // To bisect twenty bad rows takes more than a hundred attempts. To find one takes ten.
    attempts.sort_unstable();
    assert!(attempts[2] < 60, "{attempts:?}");
}
