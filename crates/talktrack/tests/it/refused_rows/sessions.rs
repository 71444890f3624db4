//! Rows of sessions that are gone, or that the database never accepts.

use talktrack::store::SessionRow;
use talktrack::{JsonObject, Message, Role, SessionId, Status, UserId};
use talktrack_testbed::{Database, Postgres, Proxy};
use uuid::Uuid;

use crate::node::Node;
use crate::postgres::migrated;
use crate::support::{SESSION, USER, within};

const STRANGER: UserId = UserId::from_u128(0xb9);
const KEY: &str = "violates foreign key constraint \"conversation_sessions_user_id_fkey\"";

/// Creates a database in which the user of each session must be in a table of users. Only [`USER`] is.
async fn with_users() -> Database {
    let database = migrated().await;
    database.psql("CREATE TABLE users (id uuid PRIMARY KEY)");
    database.psql(&format!("INSERT INTO users VALUES ('{USER}')"));
    database.psql("ALTER TABLE conversation_sessions ADD FOREIGN KEY (user_id) REFERENCES users (id)");
    database
}

/// Deletes rows without firing the triggers that record deletions.
fn take_away(database: &Database, rows: &str) {
    database.psql(&format!("SET session_replication_role = replica; DELETE FROM {rows}"));
}

/// Starts a session with a message, and removes the rows of both. Returns the row of the session as it was.
async fn take_session_away(database: &Database, node: &Node) -> SessionRow {
    node.start(SESSION).await;
    node.say(SESSION, "before").await;
    node.settled().await;
    let row = node.session(SESSION).await;
    take_away(database, "conversation_messages");
    take_away(database, "conversation_sessions");
    row
}

#[tokio::test]
async fn the_row_of_a_session_that_was_taken_away_is_written_again() {
    let database = migrated().await;
    let node = Node::at(&database.url());
    let before = take_session_away(&database, &node).await;
    node.say(SESSION, "after").await;
    node.track(Message::new(SESSION, Role::System, "without user")).await;
    assert_eq!(node.settled().await.dead_lettered, 0);
    let row = node.session(SESSION).await;
    assert_eq!(
        (row.user_id, row.started_at, row.status),
        (Some(USER), before.started_at, Status::Active.into())
    );
    assert_eq!(row.message_count, 2);
    assert_eq!(node.contents(SESSION).await, ["after", "without user"]);
    within(node.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    node.settled().await;
    assert_eq!(node.session(SESSION).await.end_reason.as_deref(), Some("completed"));
}

/// Regression test, found by dropping the tables under load: the message restored the row of its
/// session, but the end of the session became a dead letter.
#[tokio::test]
async fn what_is_told_of_a_deleted_session_beside_its_message_is_told_of_the_row_that_is_written_again() {
    let database = migrated().await;
    let proxy = Proxy::to(Postgres::shared().port());
    let node = Node::at(&database.url_at(proxy.port()));
    node.start(SESSION).await;
    node.settled().await;
    proxy.cut();
    // Another session of the same lane already waits, so that all of the following goes out in one batch.
    node.start(SessionId::from_u128(SESSION.as_uuid().as_u128() + 4)).await;
    node.complains_of("cannot be reached").await;
    take_away(&database, "conversation_sessions");
    node.say(SESSION, "after").await;
    let metadata = JsonObject::parse(r#"{"room": 7}"#).unwrap();
    drop(node.tracker.update_session(SESSION, metadata).unwrap());
    within(node.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    proxy.fix();
    node.settled().await;
    assert_eq!(node.dead_letters().len(), 0);
    let row = node.session(SESSION).await;
    assert_eq!((row.end_reason.as_deref(), row.message_count), (Some("completed"), 1));
    assert_eq!(row.metadata.unwrap().into_known().unwrap().to_value()["room"], 7);
}

/// Starts a session, removes its rows, and lets `then` say something about the session.
/// Returns the row that the node wrote again.
async fn row_after(then: impl AsyncFnOnce(&Node)) -> SessionRow {
    let database = migrated().await;
    let node = Node::at(&database.url());
    let before = take_session_away(&database, &node).await;
    then(&node).await;
    assert_eq!(node.settled().await.dead_lettered, 0);
    let row = node.session(SESSION).await;
    assert_eq!(row.started_at, before.started_at);
    assert_eq!((row.user_id.clone(), row.message_count), (Some(USER), 0));
    row
}

/// Regression test, found by dropping the tables ten times under load: the last message of a session was stored and removed,
/// and its end waited ten minutes for a start that no node had.
#[tokio::test]
async fn an_end_alone_writes_the_row_of_its_session_again() {
    let row = row_after(async |node| {
        within(node.tracker.end_session(SESSION, "completed").unwrap().durable()).await.unwrap();
    })
    .await;
    assert_eq!(row.end_reason.as_deref(), Some("completed"));
}

#[tokio::test]
async fn an_update_alone_writes_the_row_of_its_session_again() {
    let row = row_after(async |node| {
        let metadata = JsonObject::parse(r#"{"room": 7}"#).unwrap();
        within(node.tracker.update_session(SESSION, metadata).unwrap().durable()).await.unwrap();
    })
    .await;
    assert_eq!(row.metadata.unwrap().into_known().unwrap().to_value()["room"], 7);
}

#[tokio::test]
async fn neither_an_update_nor_an_end_writes_the_row_of_a_deleted_session_again() {
    let mark = format!("'{USER}', '{}', now()", Uuid::nil());
    for sql in [
        "DELETE FROM conversation_sessions".to_owned(),
        format!("INSERT INTO conversation_user_deletions (user_id, session_id, deleted_at) VALUES ({mark})"),
    ] {
        let database = migrated().await;
        let node = Node::at(&database.url());
        node.start(SESSION).await;
        node.settled().await;
        database.psql(&sql);
        take_away(&database, "conversation_sessions");
        drop(node.tracker.update_session(SESSION, JsonObject::parse(r#"{"room": 7}"#).unwrap()).unwrap());
        drop(node.tracker.end_session(SESSION, "completed").unwrap());
        node.settled().await;
        assert_eq!(database.psql("SELECT count(*) FROM conversation_sessions"), "0", "{sql}");
    }
}

#[tokio::test]
async fn a_session_of_an_unknown_user_is_laid_aside_with_its_messages_and_all_others_are_stored() {
    let database = with_users().await;
    let node = Node::at(&database.url());
    let sessions: Vec<_> = (1..=12).map(SessionId::from_u128).collect();
    let stranger = sessions[4];
    for &session in &sessions {
        node.start_as(session, if session == stranger { STRANGER } else { USER }).await;
    }
    for number in 0..5 {
        for &session in &sessions {
            node.say(session, format!("message {number}")).await;
        }
    }
    for &session in &sessions {
        within(node.tracker.end_session(session, "completed").unwrap().durable()).await.unwrap();
    }
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (55, 5));
    for &session in sessions.iter().filter(|session| **session != stranger) {
        assert_eq!(node.session(session).await.message_count, 5);
    }
    let letters = node.dead_letters();
    assert!(letters.iter().all(|letter| letter.record.session_id() == stranger), "{letters:?}");
    let (said, told): (Vec<_>, Vec<_>) = letters.iter().partition(|letter| letter.content().is_some());
    assert_eq!(said.iter().filter_map(|letter| letter.content()).count(), 5);
    assert!(
        said.iter().all(|letter| letter.detail.starts_with("its session cannot be stored: ")),
        "{said:?}"
    );
    assert!(said.iter().chain(&told[..1]).all(|letter| letter.detail.contains(KEY)), "{letters:?}");
}

#[tokio::test]
async fn messages_are_laid_aside_whose_session_is_gone_and_cannot_be_written_again() {
    let database = with_users().await;
    let node = Node::at(&database.url());
    let other = SessionId::from_u128(7);
    database.psql(&format!("INSERT INTO users VALUES ('{STRANGER}')"));
    node.start_as(SESSION, STRANGER).await;
    node.start(other).await;
    node.settled().await;
    take_away(&database, &format!("conversation_sessions WHERE user_id = '{STRANGER}'"));
    database.psql(&format!("DELETE FROM users WHERE id = '{STRANGER}'"));
    for session in [SESSION, other, SESSION, other] {
        node.say(session, "still there?").await;
    }
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (2, 2));
    for letter in node.dead_letters() {
        assert_eq!((letter.record.session_id(), letter.reason.as_str()), (SESSION, "data"));
        assert!(letter.detail.contains(KEY), "{letter:?}");
    }
    assert_eq!(node.contents(other).await, ["still there?"; 2]);
}

#[tokio::test]
async fn many_sessions_of_a_user_who_is_missing_wait_whole_until_the_user_is_there() {
    let database = with_users().await;
    let proxy = Proxy::to(Postgres::shared().port());
    proxy.cut();
    let node = Node::at(&database.url_at(proxy.port()));
    // All sessions are in one lane, so that few writes contain them.
    let sessions: Vec<_> = (1..=30).map(|number| SessionId::from_u128(number * 4)).collect();
    for &session in &sessions {
        node.start_as(session, STRANGER).await;
        node.say(session, "here").await;
        within(node.tracker.end_session(session, "completed").unwrap().durable()).await.unwrap();
    }
    proxy.fix();
    node.warns_of(KEY).await;
    assert_eq!(node.tracker.health().books.dead_lettered, 0);
    database.psql(&format!("INSERT INTO users VALUES ('{STRANGER}')"));
    let books = node.settled().await;
    assert_eq!((books.stored, books.dead_lettered), (30, 0), "{books:?}");
    assert_eq!(node.dead_letters().len(), 0, "neither a start nor an end was laid aside");
    for session in sessions {
        let row = node.session(session).await;
        assert_eq!((row.message_count, row.end_reason.as_deref()), (1, Some("completed")));
    }
}
