//! Single differences: what the doctor reports, and what a migration does about it.

use std::sync::LazyLock;

use talktrack::store::postgres::schema::{self, MigrateError};
use talktrack_testbed::{Database, KEYED_PASSWORD, PgBouncer, Postgres, open_client};
use talktrack_testkit::eventually;
use tokio::time::Duration;

use super::{connect, differences, migrate, problems, rows};
use crate::postgres::address;
use crate::support::within;

pub(super) const SESSIONS: &str = "conversation_sessions";
pub(super) const MESSAGES: &str = "conversation_messages";

/// Applies a drift to a migrated database, and returns the problems and the repairs that the doctor reports.
pub(super) async fn after(drift: &str) -> (Database, Vec<(String, String)>) {
    // Through psql, because a connection of this thread's runtime would stay open, and PostgreSQL copies
    // no database that is in use.
    static RIGHT: LazyLock<Database> = LazyLock::new(|| {
        let database = Postgres::plain().database();
        database.psql(&schema::script());
        database
    });
    let database = Postgres::plain().database_from(RIGHT.name());
    database.psql(drift);
    let found = differences(&database).await;
    (database, found.into_iter().map(|difference| (difference.problem, difference.fix)).collect())
}

/// Applies a drift, and checks that the doctor reports exactly this problem.
async fn after_alone(drift: &str, problem: &str) -> (Database, Vec<(String, String)>) {
    let (database, found) = after(drift).await;
    assert_eq!(found.iter().map(|(problem, _)| problem.as_str()).collect::<Vec<_>>(), [problem], "{drift}");
    (database, found)
}

/// Checks that the drift causes exactly this problem, and that the doctor's SQL repairs it, as does a migration.
pub(super) async fn assert_mended(drift: &str, problem: &str) {
    let (database, found) = after_alone(drift, problem).await;
    database.psql(&found[0].1);
    assert_eq!(problems(&database).await, [""; 0], "{drift}: {}", found[0].1);
    let (database, _) = after(drift).await;
    migrate(&database).await;
}

/// Checks that the drift causes exactly this problem, that a migration reports it and leaves it, and
/// that the SQL in its report repairs it.
pub(super) async fn assert_left_over(drift: &str, problem: &str) {
    let (database, _) = after_alone(drift, problem).await;
    let left = schema::migrate(&connect(&database).await).await.unwrap();
    assert_eq!(left.iter().map(|left| left.problem.as_str()).collect::<Vec<_>>(), [problem], "{drift}");
    database.psql(&left[0].fix);
    assert_eq!(problems(&database).await, [""; 0], "{drift}: {}", left[0].fix);
}

#[tokio::test]
async fn columns_that_drifted_are_named_and_mended() {
    for (drift, problem) in [
        (
            "ALTER TABLE conversation_messages DROP audio_url",
            "Could not find the 'audio_url' column of 'conversation_messages'",
        ),
        (
            "ALTER TABLE conversation_sessions DROP message_count",
            "Could not find the 'message_count' column of 'conversation_sessions'",
        ),
        (
            "ALTER TABLE conversation_sessions RENAME ended_at TO session_end",
            "Could not find the 'ended_at' column of 'conversation_sessions'",
        ),
        (
            "ALTER TABLE conversation_messages ALTER user_id SET NOT NULL",
            "The 'user_id' column of 'conversation_messages' does not allow null",
        ),
        (
            "ALTER TABLE conversation_messages ALTER kind DROP NOT NULL",
            "The 'kind' column of 'conversation_messages' allows null",
        ),
        (
            "ALTER TABLE conversation_messages ALTER interrupted DROP DEFAULT",
            "The 'interrupted' column of 'conversation_messages' has no default",
        ),
    ] {
        assert_mended(drift, problem).await;
    }
}

#[tokio::test]
async fn keys_references_checks_and_indexes_that_drifted_are_named_and_mended() {
    for (drift, problem) in [
        (
            "ALTER TABLE conversation_messages DROP CONSTRAINT conversation_messages_pkey",
            "The 'id' column of 'conversation_messages' is not unique",
        ),
        (
            "ALTER TABLE conversation_messages DROP CONSTRAINT conversation_messages_session_id_fkey;
             INSERT INTO conversation_messages (session_id, role, content) VALUES (gen_random_uuid(), 'system', 'an orphan')",
            "The 'session_id' column of 'conversation_messages' does not refer to 'conversation_sessions'",
        ),
        (
            "ALTER TABLE conversation_messages ADD CONSTRAINT \"who, it is\" CHECK (role IN ('user', 'assistant', 'it''s me'))",
            "The check 'who, it is' of 'conversation_messages' does not allow 'system', 'developer', 'tool'",
        ),
        (
            "ALTER TABLE conversation_messages ADD CHECK (role = 'user') NOT VALID",
            "The check 'conversation_messages_role_check' of 'conversation_messages' does not allow 'assistant', 'system', \
             'developer', 'tool'",
        ),
        (
            "ALTER TABLE conversation_sessions ADD CHECK (status IN ('open', 'closed'))",
            "The check 'conversation_sessions_status_check' of 'conversation_sessions' does not allow 'active', 'ended', 'abandoned'",
        ),
        (
            "DROP INDEX conversation_messages_in_order",
            "Could not find the index 'conversation_messages_in_order' of 'conversation_messages'",
        ),
    ] {
        assert_mended(drift, problem).await;
    }
}

#[tokio::test]
async fn what_cannot_be_mended_without_touching_the_users_own_is_left_over_and_named() {
    for (drift, problem) in [
        (
            "ALTER TABLE conversation_messages ALTER metadata TYPE json USING metadata::json",
            "The 'metadata' column of 'conversation_messages' is json, not jsonb",
        ),
        (
            "ALTER TABLE conversation_sessions ALTER ended_at TYPE timestamp",
            "The 'ended_at' column of 'conversation_sessions' is timestamp without time zone, not timestamptz",
        ),
        (
            "ALTER TABLE conversation_messages ALTER content TYPE varchar(200)",
            "The 'content' column of 'conversation_messages' is character varying(200), not text",
        ),
        (
            "ALTER TABLE conversation_messages ADD team text NOT NULL",
            "The 'team' column of 'conversation_messages' is your own, allows no null and has no default, so that talktrack \
             cannot write a row",
        ),
        (
            "ALTER TABLE conversation_messages ADD CONSTRAINT to_id FOREIGN KEY (session_id) REFERENCES conversation_sessions (id)",
            "The foreign key 'to_id' of 'conversation_messages' refers to the 'id' column of 'conversation_sessions', not to \
             'session_id'",
        ),
        (
            "CREATE FUNCTION insert_conversation_message(p_session_id uuid, p_role text, p_content text) RETURNS uuid
               LANGUAGE sql AS 'SELECT p_session_id'",
            "There is another function 'insert_conversation_message' (uuid, text, text), so that calls by name are ambiguous",
        ),
    ] {
        assert_left_over(drift, problem).await;
    }
}

#[tokio::test]
async fn one_column_of_another_type_keeps_nothing_else_from_being_mended() {
    let database = Postgres::plain().database();
    database.psql(
        "CREATE TYPE state AS ENUM ('open', 'closed');
         CREATE TABLE conversation_sessions (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, session_id text, user_id text,
           status state);
         CREATE TABLE conversation_messages (id uuid, session_id uuid, role text, content text);
         INSERT INTO conversation_sessions (session_id) VALUES ('one'), ('one');
         INSERT INTO conversation_messages VALUES (NULL, NULL, 'user', NULL);",
    );
    let left = schema::migrate(&connect(&database).await).await.unwrap();
    let columns: Vec<_> =
        left.iter().filter_map(|left| Some((left.table?, left.column.as_deref()?))).collect();
    for expected in [
        (SESSIONS, "id"),
        (SESSIONS, "session_id"),
        (SESSIONS, "user_id"),
        (SESSIONS, "status"),
        (MESSAGES, "session_id"),
        (MESSAGES, "content"),
    ] {
        assert!(columns.contains(&expected), "{expected:?}: {left:#?}");
    }
    assert!(!columns.contains(&(MESSAGES, "id")), "it was filled and became the key: {left:#?}");
    let there = database.psql("SELECT count(audio_url), count(*) FROM conversation_messages");
    assert_eq!(there, "0|1");
    let row_security = "SELECT bool_and(relrowsecurity) FROM pg_class WHERE relkind = 'r' AND relname LIKE 'conversation\\___ss%s'";
    assert_eq!(database.psql(row_security), "t", "without policies nobody sees anything");
}

#[tokio::test]
async fn two_names_for_one_time_become_one() {
    let database = Postgres::plain().database();
    database.psql(
        "CREATE TABLE conversation_sessions (session_id uuid UNIQUE NOT NULL, user_id uuid NOT NULL,
           session_start timestamptz NOT NULL, session_end timestamptz, started_at timestamptz, ended_at timestamptz);
         INSERT INTO conversation_sessions VALUES
           (gen_random_uuid(), gen_random_uuid(), '2024-05-01 10:00Z', '2024-05-01 11:00Z', NULL, NULL),
           (gen_random_uuid(), gen_random_uuid(), '2024-05-01 10:00Z', NULL, '2024-05-01 10:30Z', NULL);",
    );
    migrate(&database).await;
    let times =
        "SELECT started_at AT TIME ZONE 'UTC', ended_at AT TIME ZONE 'UTC', status, session_start IS NOT NULL
                 FROM conversation_sessions ORDER BY 1";
    let expected = "2024-05-01 10:00:00|2024-05-01 11:00:00|ended|t\n2024-05-01 10:30:00||active|t";
    assert_eq!(database.psql(times), expected);
    // The session is resumed. The former column must no longer override the new one.
    database.psql("UPDATE conversation_sessions SET ended_at = NULL, status = 'active'");
    migrate(&database).await;
    assert_eq!(database.psql("SELECT count(ended_at) FROM conversation_sessions"), "0");
}

#[tokio::test]
async fn a_role_without_rights_is_told_so_and_changes_nothing() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql("ALTER TABLE conversation_messages DROP audio_url");
    let address =
        database.url_as(&format!("keyed:{KEYED_PASSWORD}")).parse::<talktrack::store::postgres::Address>();
    let client = match address.unwrap().connect().await {
        Ok(client) => client,
        Err(error) => panic!("{error:?}"),
    };
    let refused = schema::migrate(&client).await.unwrap_err();
    assert!(matches!(refused, MigrateError::Rights(_)), "{refused:?}");
    assert!(
        refused.to_string().starts_with("permission denied for schema public; run it as the owner"),
        "{refused}"
    );
    // Every role may read the catalog, even on this connection after the refusal.
    let found = schema::differences(&client).await.unwrap();
    assert_eq!(found[0].problem, "Could not find the 'audio_url' column of 'conversation_messages'");
}

#[tokio::test]
async fn two_migrations_at_once_wait_for_each_other() {
    let database = Postgres::plain().database();
    let one = connect(&database).await;
    let two = connect(&database).await;
    let (one, two) = within(async { tokio::join!(schema::migrate(&one), schema::migrate(&two)) }).await;
    assert_eq!((one.unwrap(), two.unwrap()), (vec![], vec![]));
}

#[tokio::test]
async fn a_migration_that_a_reader_of_both_tables_brings_into_a_deadlock_is_begun_again() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    let reader = open_client(&database.url()).await;
    let checks_soon = format!("{}?options=-c%20deadlock_timeout%3D3s", database.url());
    let client = address(&checks_soon).connect().await.unwrap();
    // Only the migration checks for deadlocks soon enough, so it is the one that PostgreSQL aborts.
    reader
        .batch_execute("SET deadlock_timeout = '1h'; BEGIN; SELECT * FROM conversation_messages")
        .await
        .unwrap();
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    let reads = async {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'conversation_messages'::regclass";
        eventually("the migration waits", || database.psql(waiting) == "1").await;
        reader.batch_execute("SELECT * FROM conversation_sessions; COMMIT").await.unwrap();
    };
    let (migrated, ()) = within(async { tokio::join!(schema::migrate(&client), reads) }).await;
    assert_eq!(migrated.unwrap(), []);
    eventually("the deadlock is counted", || database.psql(deadlocks) == "1").await;
}

#[tokio::test]
async fn tables_in_use_are_left_alone_after_a_while() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    let reader = open_client(&database.url()).await;
    reader.batch_execute("BEGIN; SELECT * FROM conversation_messages").await.unwrap();
    let client = connect(&database).await;
    let waited = tokio::time::timeout(Duration::from_secs(60), schema::migrate(&client)).await.unwrap();
    assert!(matches!(waited, Err(MigrateError::Busy(_))), "{waited:?}");
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(schema::migrate(&client).await.unwrap(), []);
}

#[tokio::test]
async fn a_pooler_that_shares_connections_between_transactions_is_no_hindrance() {
    let database = Postgres::shared().database();
    let pooler = PgBouncer::in_front_of(Postgres::shared());
    let address: talktrack::store::postgres::Address = pooler.url(&database).parse().unwrap();
    let client = address.connect().await.unwrap();
    for _ in 0..3 {
        assert_eq!(schema::migrate(&client).await.unwrap(), []);
        assert_eq!(schema::describe(&client).await.unwrap().len(), 74);
    }
    assert!(rows(&database, SESSIONS).is_empty());
}
