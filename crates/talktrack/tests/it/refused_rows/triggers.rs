//! Triggers of the user's own that change what talktrack writes.

use std::time::Duration;

use talktrack::record::{Body, Record, Stamped, Verdict};
use talktrack::store::{Delivery, Store as _};
use uuid::Uuid;

use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER, message};

/// A trigger that does this to each row of this table.
fn trigger(table: &str, does: &str) -> String {
    format!(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {does}; RETURN NEW; END $$;
         CREATE TRIGGER meddle BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION meddle();"
    )
}

#[tokio::test]
async fn a_trigger_that_gives_messages_another_id_is_named_and_makes_no_copies() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.settled().await;
    database.psql(&trigger("conversation_messages", "NEW.id := gen_random_uuid()"));
    node.say(SESSION, "once").await;
    let said = node.complains_of("'meddle'").await;
    assert!(said.contains("conversation_messages"), "{said}");
    // A few more attempts.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(database.psql("SELECT count(*) FROM conversation_messages"), "0");
    database.psql("DROP TRIGGER meddle ON conversation_messages");
    assert_eq!(node.settled().await.dead_lettered, 0);
    assert_eq!(node.contents(SESSION).await, ["once"]);
}

#[tokio::test]
async fn a_trigger_that_gives_sessions_another_user_is_named_and_nothing_is_kept() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    database.psql(&trigger("conversation_sessions", "NEW.user_id := gen_random_uuid()"));
    node.start(SESSION).await;
    node.complains_of("'meddle'").await;
    assert_eq!(database.psql("SELECT count(*) FROM conversation_sessions"), "0");
    database.psql("DROP TRIGGER meddle ON conversation_sessions");
    assert_eq!(node.settled().await.dead_lettered, 0);
    assert_eq!(node.session(SESSION).await.user_id, Some(USER));
}

#[tokio::test]
async fn a_message_whose_content_a_trigger_edits_is_no_conflict_when_it_comes_again() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.settled().await;
    database.psql(&trigger("conversation_messages", "NEW.content := upper(NEW.content)"));
    let created_at = "2026-02-03T04:05:06Z".parse().unwrap();
    let stamped = Stamped {
        id: Uuid::from_u128(7),
        owner: Some(USER),
        session_started_at: None,
        created_at,
        takes_back: None,
        by_user: false,
        message: message("hush"),
    };
    let record = Record::new(created_at.as_micros(), Body::Message(stamped));
    let store = store_at(&database.url());
    for expected in [Verdict::Inserted, Verdict::AlreadyThere] {
        let node = Uuid::from_u128(0xd7);
        let verdicts = store.write(Delivery::new(node, 0, std::slice::from_ref(&record))).await.unwrap();
        assert_eq!(verdicts, [expected]);
    }
    assert_eq!(node.contents(SESSION).await, ["HUSH"]);
}
