//! Triggers of the user's own that change the rows that talktrack writes.

use std::time::Duration;

use talktrack::MessageId;
use talktrack::clock::{Seq, Timestamp};
use talktrack::record::{Body, DeadReason, Record, StampedMessage, Verdict};
use talktrack::store::{Delivery, Store as _};
use uuid::Uuid;

use crate::node::Node;
use crate::postgres::{migrated, store_at};
use crate::support::{SESSION, USER, message};

/// Returns a trigger that does this to each new row of the table.
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
    // Leaves time for a few more attempts.
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

/// Builds a revision of one message, delivered this many seconds after a fixed moment.
fn revision(revision: u32, second: i64) -> Record {
    let begun: Timestamp = "2026-02-03T04:05:06Z".parse().unwrap();
    let created_at = begun.plus(Duration::from_secs(second.unsigned_abs()));
    let stamped = StampedMessage {
        id: MessageId::from_u128(7),
        owner: Some(USER),
        session_started_at: None,
        created_at,
        takes_back: None,
        by_user: false,
        message: message("hush").with_revision(revision),
    };
    Record::new(Seq::from(created_at), Body::Message(stamped))
}

/// Delivers these records one by one to a database whose trigger edits the text, and checks the verdicts of the store.
async fn edited(on: &str, deliveries: &[(Record, Verdict)]) {
    let database = migrated().await;
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.settled().await;
    let trigger = trigger("conversation_messages", "NEW.content := upper(NEW.content)");
    database.psql(&trigger.replace("BEFORE INSERT", &format!("BEFORE {on}")));
    let store = store_at(&database.url());
    for (record, expected) in deliveries {
        let delivery = Delivery::new(Uuid::from_u128(0xd7), 0, std::slice::from_ref(record));
        assert_eq!(store.write(delivery).await.unwrap(), std::slice::from_ref(expected), "{record:?}");
    }
    assert_eq!(node.contents(SESSION).await, ["HUSH"]);
}

#[tokio::test]
async fn a_message_whose_content_a_trigger_edits_is_no_conflict_when_it_comes_again() {
    let first = || revision(0, 0);
    edited("INSERT", &[(first(), Verdict::Inserted), (first(), Verdict::AlreadyThere)]).await;
}

#[tokio::test]
async fn a_revision_whose_content_a_trigger_edits_is_no_conflict_when_it_comes_again() {
    let [first, second, third] = [0, 1, 2].map(|number| move || revision(number, number.into()));
    let deliveries = [
        (first(), Verdict::Inserted),
        (second(), Verdict::Revised { becomes_final: false }),
        (second(), Verdict::AlreadyThere),
        (first(), Verdict::AlreadyThere),
        (third(), Verdict::Revised { becomes_final: false }),
        (third(), Verdict::AlreadyThere),
    ];
    edited("INSERT OR UPDATE", &deliveries).await;
}

#[tokio::test]
async fn a_revision_that_came_first_is_no_conflict_when_it_comes_again_after_an_earlier_one() {
    let [first, second] = [0, 1].map(|number| move || revision(number, number.into()));
    let deliveries = [
        (second(), Verdict::Inserted),
        (first(), Verdict::AlreadyThere),
        (second(), Verdict::AlreadyThere),
        (first(), Verdict::AlreadyThere),
    ];
    edited("INSERT", &deliveries).await;
    edited("INSERT OR UPDATE", &deliveries).await;
}

/// Even if a trigger edits the text, a record with another text under the same id and revision is a conflict.
#[tokio::test]
async fn another_record_is_a_conflict_though_a_trigger_edits_what_it_meets() {
    let [first, second] = [0, 1].map(|number| move || revision(number, number.into()));
    let conflict = || Verdict::Dead(DeadReason::IdConflict);
    let deliveries = [
        (first(), Verdict::Inserted),
        (revision(0, 5), conflict()),
        (second(), Verdict::Revised { becomes_final: false }),
        (revision(1, 5), conflict()),
    ];
    edited("INSERT OR UPDATE", &deliveries).await;
}
