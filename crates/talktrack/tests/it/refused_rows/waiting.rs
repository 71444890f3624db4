//! Refusals that concern the database and not the row: the row waits, and is stored as soon as
//! the database is repaired.

use talktrack::{Message, Role};

use super::{BAD, refusing_trigger};
use crate::node::Node;
use crate::postgres::{migrate, migrated};
use crate::support::SESSION;

/// Tracks this message for a database with this drift. Checks that health names the drift, and that the
/// message is stored after `talktrack migrate`.
async fn waits_for_the_migration(drift: &str, message: Message, words: &str) {
    let database = migrated().await;
    database.psql(drift);
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.say(SESSION, "before").await;
    node.settled().await;
    let text = message.content.clone();
    node.track(message).await;
    assert_eq!(node.complains_of("run: talktrack migrate").await, words);
    node.say(SESSION, "after").await;
    migrate(&database).await;
    assert_eq!(node.settled().await.dead_lettered, 0);
    assert_eq!(node.contents(SESSION).await, ["before", text.as_str(), "after"]);
}

#[tokio::test]
async fn a_lone_system_message_waits_where_the_schema_allows_no_message_without_user() {
    waits_for_the_migration(
        "ALTER TABLE conversation_messages ALTER COLUMN user_id SET NOT NULL",
        Message::new(SESSION, Role::System, "be brief"),
        "The 'user_id' column of 'conversation_messages' does not allow null (run: talktrack migrate)",
    )
    .await;
}

#[tokio::test]
async fn a_lone_tool_message_waits_where_a_check_on_the_role_does_not_know_tools() {
    waits_for_the_migration(
        "ALTER TABLE conversation_messages ADD CONSTRAINT messages_role_check \
         CHECK (role IN ('user', 'assistant', 'system', 'developer'))",
        Message::new(SESSION, Role::Tool, "12 degrees"),
        "The check 'messages_role_check' of 'conversation_messages' does not allow 'tool' (run: talktrack migrate)",
    )
    .await;
}

#[tokio::test]
async fn a_message_waits_where_a_column_of_the_users_own_has_to_be_filled() {
    let database = migrated().await;
    database.psql("ALTER TABLE conversation_messages ADD COLUMN tenant text NOT NULL");
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.say(SESSION, "whose?").await;
    node.complains_of("The 'tenant' column of 'conversation_messages' is your own").await;
    database.psql("ALTER TABLE conversation_messages ALTER COLUMN tenant SET DEFAULT 'none'");
    assert_eq!(node.settled().await.dead_lettered, 0);
    assert_eq!(node.contents(SESSION).await, ["whose?"]);
}

#[tokio::test]
async fn an_error_that_nobody_knows_drops_nothing_and_does_not_quote_what_was_said() {
    let database = migrated().await;
    database.psql(&refusing_trigger("'closed today: %', NEW.content"));
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.say(SESSION, BAD).await;
    let said = node.complains_of("function refuse()").await;
    assert!(said.contains("P0001") && !said.contains(BAD), "{said}");
    assert_eq!(node.tracker.health().books.pending(), 1);
    database.psql("DROP TRIGGER refuse ON conversation_messages");
    assert_eq!(node.settled().await.dead_lettered, 0);
    assert_eq!(node.contents(SESSION).await, [BAD]);
}

/// The number of refused rows does not decide, because the store accepts other rows of the same user.
#[tokio::test]
async fn rows_that_are_refused_alike_by_the_dozen_are_laid_aside_if_the_store_takes_their_neighbours() {
    let database = migrated().await;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT polite CHECK (content NOT LIKE 'bad%')");
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    let is_bad = |number: usize| number.is_multiple_of(4) && (300..400).contains(&number);
    let text = |number: usize| format!("{} {number}", if is_bad(number) { "bad" } else { "good" });
    node.say_all(SESSION, (0..500).map(text)).await;
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (475, 25));
    let good: Vec<_> = (0..500).filter(|number| !is_bad(*number)).map(text).collect();
    assert_eq!(node.contents(SESSION).await, good);
}
