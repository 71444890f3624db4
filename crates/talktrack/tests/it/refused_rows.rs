//! Rows that PostgreSQL refuses. A row that it will never accept becomes a dead letter alone, with a
//! reason that does not quote the row. If the refusal says something about the database instead, the row
//! waits until the database is repaired.

mod floods;
mod sessions;
mod triggers;
mod waiting;

use talktrack::MessageId;

use crate::node::{DeadLetter, Node};
use crate::postgres::migrated;
use crate::support::{SESSION, message};

/// The beginning of a text that must not appear in a reason.
const BAD: &str = "a secret word";

/// A trigger of the user's own that raises this for each message that begins with [`BAD`].
fn refusing_trigger(raised: &str) -> String {
    format!(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             IF NEW.content LIKE '{BAD}%' THEN RAISE EXCEPTION {raised}; END IF;
             RETURN NEW;
         END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON conversation_messages FOR EACH ROW EXECUTE FUNCTION refuse();"
    )
}

/// Tracks 500 messages for a database with this change, which refuses one of them, and checks that
/// exactly this one becomes a dead letter. Returns its reason.
async fn laid_aside_alone_of_500(change: &str, refused: &str) -> String {
    let database = migrated().await;
    database.psql(change);
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    let text = |number: usize| if number == 333 { refused.to_owned() } else { format!("message {number}") };
    node.say_all(SESSION, (0..500).map(text)).await;
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (499, 1));
    let neighbours: Vec<_> = (0..500).filter(|number| *number != 333).map(text).collect();
    assert_eq!(node.contents(SESSION).await, neighbours);
    let letter = only(node.dead_letters());
    assert_eq!((letter.content(), letter.reason.as_str()), (Some(refused), "data"), "whole");
    letter.detail
}

fn only(mut letters: Vec<DeadLetter>) -> DeadLetter {
    assert_eq!(letters.len(), 1, "{letters:?}");
    letters.remove(0)
}

#[tokio::test]
async fn a_row_that_breaks_a_check_of_the_users_own_is_laid_aside_alone() {
    let check = format!("CHECK (content NOT LIKE '{BAD}%')");
    let change = format!("ALTER TABLE conversation_messages ADD CONSTRAINT no_secrets {check}");
    let reason = laid_aside_alone_of_500(&change, BAD).await;
    let expected = "new row for relation \"conversation_messages\" violates check constraint \"no_secrets\" \
                    ('conversation_messages') (SQLSTATE 23514)";
    assert_eq!(reason, expected);
}

#[tokio::test]
async fn a_row_too_long_for_its_column_is_laid_aside_alone() {
    let change = "ALTER TABLE conversation_messages ALTER COLUMN content TYPE varchar(40)";
    let reason = laid_aside_alone_of_500(change, &BAD.repeat(4)).await;
    assert_eq!(reason, "value too long for type character varying(40) (SQLSTATE 22001)");
}

#[tokio::test]
async fn a_row_too_large_for_an_index_is_laid_aside_alone() {
    let mut random = fastrand::Rng::with_seed(5);
    // Random text of this length does not compress.
    let large = format!("{BAD} {}", (0..5_000).map(|_| random.alphanumeric()).collect::<String>());
    let reason =
        laid_aside_alone_of_500("CREATE INDEX by_content ON conversation_messages (content)", &large).await;
    assert!(reason.contains("by_content") && reason.ends_with("(SQLSTATE 54000)"), "{reason}");
    assert!(!reason.contains(BAD), "{reason}");
}

#[tokio::test]
async fn a_row_that_a_trigger_refuses_is_laid_aside_alone_and_not_quoted_though_the_trigger_does() {
    let raised =
        "'not this one: %', NEW.content USING ERRCODE = 'check_violation', CONSTRAINT = 'house_rules'";
    let reason = laid_aside_alone_of_500(&refusing_trigger(raised), BAD).await;
    assert!(!reason.contains(BAD), "{reason}");
    for part in ["function refuse()", "house_rules", "(SQLSTATE 23514)"] {
        assert!(reason.contains(part), "{part:?} in {reason:?}");
    }
}

/// If one user alone has one bad row, the store might be refusing everything. The next row that it accepts decides.
#[tokio::test]
async fn a_lone_message_that_breaks_a_check_of_the_users_own_is_laid_aside_once_the_store_takes_another() {
    let database = migrated().await;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT short CHECK (length(content) < 20)");
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    node.settled().await;
    node.say(SESSION, "this one is longer than that").await;
    let warning = node.warns_of("\"short\"").await;
    assert!(warning.contains("rows of other users are stored"), "{warning}");
    assert_eq!((node.tracker.health().store, node.tracker.health().books.pending()), (None, 1));
    node.say(SESSION, "this one is not").await;
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (1, 1));
    assert!(only(node.dead_letters()).detail.contains("\"short\""));
    assert_eq!(node.contents(SESSION).await, ["this one is not"]);
    assert_eq!(node.tracker.health().warning, None);
}

#[tokio::test]
async fn a_revision_that_breaks_a_check_is_laid_aside_and_what_was_said_before_stays() {
    let database = migrated().await;
    database.psql("ALTER TABLE conversation_messages ADD CONSTRAINT short CHECK (length(content) < 20)");
    let node = Node::at(&database.url());
    node.start(SESSION).await;
    let draft = |revision, text: &str| message(text).with_id(MessageId::from_u128(1)).with_revision(revision);
    node.track(draft(0, "first")).await;
    node.settled().await;
    node.track(draft(1, "second, and longer than that")).await;
    node.say(SESSION, "next").await;
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (2, 1));
    assert_eq!(node.contents(SESSION).await, ["first", "next"]);
}
