//! Rows that are deleted with SQL, directly in the tables, stay deleted too.

use talktrack::Redirect;
use talktrack::store::postgres::schema::{self, UserAccess};
use talktrack::{Message, MessageId, NotDurable, Role};
use talktrack_testbed::{Database, Postgres, like_supabase};
use talktrack_testkit::Setup;

use super::{OTHER_SESSION, SECRET, delete, files_with, two_sessions};
use crate::node::Node;
use crate::postgres::migrated;
use crate::rls::{ANN, ANNS, Caller, as_caller, fill};
use crate::schema::{connect, differences};
use crate::support::{SESSION, accept, dir, message, sqlite, value, within};

fn numbered(number: u32, text: &str) -> Message {
    message(text).with_external_id(number.to_string())
}

/// Returns the number of rows in each of these tables.
fn rows(database: &Database, tables: [&str; 2]) -> [String; 2] {
    tables.map(|table| database.psql(&format!("SELECT count(*) FROM {table}")).trim().to_owned())
}

const MARKS: [&str; 2] = ["conversation_deletions", "conversation_message_deletions"];

#[tokio::test]
async fn a_message_that_somebody_deleted_by_sql_does_not_come_back_and_its_session_goes_on() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    let other = Node::at(&database.url());
    node.start(SESSION).await;
    for number in 0..3 {
        node.track(numbered(number, &format!("{number} {SECRET}"))).await;
    }
    node.settled().await;
    database.psql("DELETE FROM conversation_messages WHERE content LIKE '1 %'");
    assert_eq!(rows(&database, MARKS), ["0", "1"]);
    // The same message comes again over another node, as after a lost answer. A revision of it is the
    // same message, so it must stay deleted too.
    other.track(numbered(1, &format!("1 {SECRET}"))).await;
    other.track(numbered(1, "revised").with_revision(1)).await;
    other.track(numbered(2, &format!("2 {SECRET}"))).await;
    let books = other.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (3, 0), "it counts as stored");
    let late = accept(&other.tracker, numbered(1, "once more"));
    assert_eq!(within(late).await, Err(NotDurable::Deleted), "now the node knows it");
    node.say(SESSION, "and on").await;
    node.settled().await;
    let left = ["0", "2"].map(|number| format!("{number} {SECRET}"));
    assert_eq!(node.contents(SESSION).await, [&left[..], &["and on".into()]].concat());
    assert!(other.dead_letters().is_empty());
    // The tombstone of a message applies only within its session.
    other.start(OTHER_SESSION).await;
    let id: MessageId =
        database.psql("SELECT message_id FROM conversation_message_deletions").trim().parse().unwrap();
    other.track(Message::new(OTHER_SESSION, Role::User, "another").with_id(id)).await;
    other.settled().await;
    assert_eq!(other.contents(OTHER_SESSION).await, ["another"]);
    delete(&node.tracker).await;
    assert_eq!(rows(&database, MARKS), ["1", "0"], "the mark of the session is enough");
}

#[tokio::test]
async fn a_session_that_somebody_deleted_by_sql_leaves_one_mark_however_its_messages_went() {
    for cascades in [false, true] {
        let database = migrated().await;
        let node = Node::at(&database.url());
        for session in [SESSION, OTHER_SESSION] {
            node.start(session).await;
            node.say_all(session, (0..50).map(|number| number.to_string())).await;
        }
        node.settled().await;
        if cascades {
            database.psql(
                "ALTER TABLE conversation_messages DROP CONSTRAINT conversation_messages_session_id_fkey,
                 ADD FOREIGN KEY (session_id) REFERENCES conversation_sessions (session_id) ON DELETE CASCADE",
            );
            database.psql("DELETE FROM conversation_sessions");
        } else {
            database.psql("DELETE FROM conversation_messages; DELETE FROM conversation_sessions");
        }
        assert_eq!(rows(&database, MARKS), ["2", "0"], "{cascades}");
        node.say(SESSION, SECRET).await;
        let books = node.settled().await;
        assert_eq!((books.dead_lettered, books.letters()), (1, 0));
        assert_eq!(files_with(SECRET, node.dir()), [""; 0]);
        assert_eq!(within(accept(&node.tracker, message("late"))).await, Err(NotDurable::Deleted));
        assert_eq!(rows(&database, ["conversation_sessions", "conversation_messages"]), ["0", "0"]);
    }
}

#[tokio::test]
async fn users_who_delete_their_own_rows_leave_marks_that_they_neither_see_nor_change() {
    let database = Postgres::shared().database();
    like_supabase(&database);
    let left = schema::migrate_for(&connect(&database).await, UserAccess::Delete).await;
    assert_eq!(left.expect("the migration"), []);
    fill(&database);
    let ann = |sql: &str| as_caller(&database, Caller::User(ANN), sql);
    ann("DELETE FROM conversation_messages WHERE content = 'said'").unwrap();
    assert_eq!(rows(&database, MARKS), ["0", "1"]);
    ann("DELETE FROM conversation_messages").unwrap();
    ann("DELETE FROM conversation_sessions").unwrap();
    let marks = database.psql("SELECT session_id FROM conversation_deletions");
    assert_eq!(marks.trim(), ANNS.to_string());
    for table in MARKS.into_iter().chain(["conversation_user_deletions"]) {
        let seen = ann(&format!("SELECT count(*) FROM {table}"));
        assert!(seen.is_err() || seen.unwrap() == "0", "{table}");
        assert!(ann(&format!("INSERT INTO {table} DEFAULT VALUES")).is_err(), "{table}");
    }
    assert!(ann("SELECT conversation_deleted()").is_err());
}

#[tokio::test]
async fn nothing_that_is_wrong_with_the_marks_keeps_anyone_from_deleting_and_the_doctor_mends_it() {
    let database = migrated().await;
    for (broken, is_own) in [
        ("ALTER TABLE conversation_messages DISABLE TRIGGER talktrack_deletions", false),
        ("DROP TRIGGER talktrack_deletions ON conversation_sessions", false),
        ("DROP FUNCTION conversation_deleted CASCADE", false),
        (
            "CREATE OR REPLACE FUNCTION conversation_deleted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            false,
        ),
        ("ALTER FUNCTION conversation_deleted() RESET enable_seqscan", false),
        ("DROP TABLE conversation_message_deletions", false),
        ("DROP TABLE conversation_deletions", false),
        ("DROP TABLE conversation_user_deletions", false),
        ("ALTER TABLE conversation_deletions ADD CONSTRAINT own CHECK (deleted_at < '2000-01-01')", true),
        ("ALTER TABLE conversation_message_deletions ADD COLUMN own text NOT NULL", true),
    ] {
        fill(&database);
        database.psql(broken);
        database.psql("DELETE FROM conversation_messages WHERE content = 'said'");
        database.psql("DELETE FROM conversation_messages; DELETE FROM conversation_sessions");
        let found = differences(&database).await;
        assert!(is_own || !found.is_empty(), "{broken}");
        for difference in found {
            database.psql(&difference.fix);
        }
        assert_eq!(differences(&database).await, [], "{broken}");
        for table in MARKS {
            database.psql(&format!("ALTER TABLE {table} DROP CONSTRAINT IF EXISTS own, DROP COLUMN IF EXISTS own; TRUNCATE {table}"));
        }
    }
    fill(&database);
    database.psql("DELETE FROM conversation_messages; DELETE FROM conversation_sessions");
    assert_eq!(rows(&database, MARKS), ["2", "0"], "mended");
}

/// Deletes a single message and leaves its tombstone, as a later version or another program would.
fn tombstone(data_dir: &std::path::Path, content: &str) {
    let connection = sqlite(data_dir);
    let note = "INSERT INTO conversation_message_deletions SELECT id, session_id, '2026-11-30T00:00:00.000000Z' \
                FROM conversation_messages WHERE content = ?1";
    assert_eq!(connection.execute(note, [content]).unwrap(), 1);
    connection.execute("DELETE FROM conversation_messages WHERE content = ?1", [content]).unwrap();
}

#[tokio::test]
async fn a_message_that_was_deleted_in_sqlite_is_refused_until_its_session_goes_also_after_damage() {
    let dir = dir();
    let setup = Setup::sqlite(dir.path());
    let tracker = setup.open(setup.options()).unwrap();
    two_sessions(&tracker).await;
    let deleted = message("to be deleted").with_external_id("x");
    within(accept(&tracker, deleted.clone())).await.unwrap();
    tombstone(dir.path(), "to be deleted");
    assert_eq!(within(accept(&tracker, deleted.clone())).await, Err(NotDurable::Deleted));
    within(accept(&tracker, message("and on"))).await.unwrap();
    drop(tracker);
    let file = dir.path().join(talktrack::DATABASE_FILE);
    let mut bytes = std::fs::read(&file).unwrap();
    // Overwrites the beginning of the schema's first page, so that no table can be found by its name.
    bytes[100..108].fill(0xff);
    std::fs::write(&file, bytes).unwrap();
    let tracker = setup.open(setup.options().with_redirect(Redirect::Never)).unwrap();
    assert_eq!(talktrack::quarantines(&file).len(), 1);
    assert_eq!(within(accept(&tracker, deleted)).await, Err(NotDurable::Deleted));
    let count = "SELECT count(*) FROM conversation_message_deletions";
    assert_eq!(value::<u64>(dir.path(), count), 1);
    delete(&tracker).await;
    assert_eq!(value::<u64>(dir.path(), count), 0, "the mark of the session is enough");
}
