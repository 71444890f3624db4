//! Unusual databases: their checks, generated columns and encodings, and settings that lose rows in a crash.

use std::time::Duration;

use talktrack::store::postgres::schema;
use talktrack_testbed::{Database, Postgres};

use super::drift::{assert_left_over, assert_mended};
use super::{connect, differences, migrate, problems};
use crate::node::Node;
use crate::support::{SESSION, accept, message, new_session, within};

#[tokio::test]
async fn a_check_that_is_no_list_is_the_users_own_and_is_named_by_what_it_refuses() {
    let check = |condition: &str| {
        format!("ALTER TABLE conversation_messages ADD CONSTRAINT mine CHECK ({condition})")
    };
    for (condition, refused) in [
        ("role <> 'developer'", "'developer'"),
        ("role NOT IN ('tool', 'robot')", "'tool'"),
        ("length(role) < 9", "'assistant', 'developer'"),
        ("role = 'user' OR role = 'assistant'", "'system', 'developer', 'tool'"),
        ("role ~ '^[a-s]'", "'user', 'tool'"),
    ] {
        let problem = format!("The check 'mine' of 'conversation_messages' does not allow {refused}");
        assert_left_over(&check(condition), &problem).await;
    }
    for condition in [
        "role <> 'robot'",
        "role NOT IN ('robot', 'user ')",
        "role = lower(role)",
        "role ~ '^[a-z]+$'",
        "NULLIF(role, 'user') <> 'robot'",
        // A check that fails with an error for some words is inconclusive, so it is not reported.
        "1 / length(replace(role, 'robot', '')) >= 0",
    ] {
        let database = Postgres::plain().database();
        migrate(&database).await;
        database.psql(&check(condition));
        let kept = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'mine'";
        let before = database.psql(kept);
        assert_eq!(problems(&database).await, [""; 0], "{condition}");
        migrate(&database).await;
        assert_eq!(database.psql(kept), before, "{condition}");
    }
}

#[tokio::test]
async fn what_a_check_calls_changes_nothing_while_it_is_tried() {
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql(
        "CREATE TABLE tried (role text);
         CREATE FUNCTION note(role text) RETURNS boolean LANGUAGE plpgsql AS
           $$ BEGIN INSERT INTO public.tried VALUES (role); RETURN false; END $$;
         ALTER TABLE conversation_messages ADD CONSTRAINT mine CHECK (note(role))",
    );
    let client = connect(&database).await;
    for _ in 0..2 {
        assert_eq!(schema::differences(&client).await.unwrap(), []);
    }
    assert_eq!(database.psql("SELECT count(*) FROM tried"), "0");
}

#[tokio::test]
async fn generated_columns_are_named_and_left_to_the_user() {
    for (drift, column, table) in [
        (
            "ALTER TABLE conversation_sessions DROP duration_seconds, ADD duration_seconds double precision
               GENERATED ALWAYS AS (extract(epoch FROM ended_at - started_at)) STORED",
            "duration_seconds",
            "conversation_sessions",
        ),
        (
            "ALTER TABLE conversation_messages ALTER seq SET NOT NULL, ALTER seq ADD GENERATED ALWAYS AS IDENTITY",
            "seq",
            "conversation_messages",
        ),
        (
            "ALTER TABLE conversation_sessions DROP message_count, ADD message_count bigint GENERATED ALWAYS AS (7) STORED",
            "message_count",
            "conversation_sessions",
        ),
    ] {
        // Dropping the column has also dropped the users' rights to it.
        let drift = format!(
            "{drift}; GRANT INSERT (duration_seconds), UPDATE (duration_seconds) ON conversation_sessions TO authenticated"
        );
        let problem =
            format!("The '{column}' column of '{table}' is generated, so that talktrack cannot write it");
        assert_left_over(&drift, &problem).await;
    }
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql(
        "ALTER TABLE conversation_sessions ADD place bigint GENERATED ALWAYS AS IDENTITY,
           ADD long boolean GENERATED ALWAYS AS (duration_seconds > 60) STORED",
    );
    assert_eq!(problems(&database).await, [""; 0], "columns of the user's own");
}

#[tokio::test]
async fn a_generated_column_is_named_while_everything_waits_and_nothing_is_lost() {
    let database = crate::postgres::migrated().await;
    database.psql(
        "ALTER TABLE conversation_sessions DROP duration_seconds, ADD duration_seconds double precision
           GENERATED ALWAYS AS (extract(epoch FROM ended_at - started_at)) STORED",
    );
    let node = Node::at(&database.url());
    drop(node.tracker.start_session(new_session()).unwrap());
    drop(accept(&node.tracker, message("waits")));
    drop(node.tracker.end_session(SESSION, "completed").unwrap());
    let problem = "The 'duration_seconds' column of 'conversation_sessions' is generated, so that talktrack cannot write it";
    let told = node.complains_of(problem).await;
    assert!(told.contains("(run: talktrack doctor)"), "{told}");
    for difference in differences(&database).await {
        database.psql(&difference.fix);
    }
    within(node.tracker.flush_to_store()).await.unwrap();
    assert_eq!(node.tracker.health().books.dead_lettered, 0);
    let row = "SELECT status, duration_seconds IS NOT NULL, message_count FROM conversation_sessions";
    assert_eq!(database.psql(row), "ended|t|1");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_named_with_how_to_get_one_of_utf8() {
    for (encoding, consequence) in [
        ("LATIN1", "a message with a character outside this encoding cannot be stored"),
        ("EUC_JP", "a message with a character outside this encoding cannot be stored"),
        ("SQL_ASCII", "other programs can store bytes that are not valid text"),
    ] {
        let database =
            Postgres::plain().database_from(&format!("template0 ENCODING '{encoding}' LOCALE 'C'"));
        let client = connect(&database).await;
        let left = schema::migrate(&client).await.unwrap();
        let problem = format!("The encoding of the database is {encoding}, not UTF8: {consequence}");
        assert_eq!(left.iter().map(|left| &*left.problem).collect::<Vec<_>>(), [&*problem]);
        database.psql(&left[0].fix);
        let copy = format!("{}_utf8", database.name());
        let made = format!("SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = '{copy}'");
        assert_eq!(database.psql(&made), "UTF8");
        database.psql(&format!("DROP DATABASE {copy}"));
    }
}

/// Checks that the doctor reports exactly this problem, as a warning that a migration does not leave
/// over, and that its SQL repairs the problem.
async fn assert_warned(database: &Database, problem: &str) {
    let found = differences(database).await;
    assert_eq!(found.iter().map(|found| &*found.problem).collect::<Vec<_>>(), [problem]);
    assert!(found[0].warning);
    migrate(database).await;
    database.psql(&found[0].fix);
    let mended = async || problems(database).await.is_empty();
    // The server rereads its settings a moment after it is told to.
    within(async {
        while !mended().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn tables_that_a_crash_empties_are_named_as_a_warning() {
    for table in ["conversation_messages", "conversation_search", "conversation_nodes"] {
        let database = Postgres::plain().database();
        migrate(&database).await;
        database.psql(&format!("ALTER TABLE {table} SET UNLOGGED"));
        let problem = format!("The table '{table}' is UNLOGGED: a crash of the server empties it");
        assert_warned(&database, &problem).await;
    }
    // The sessions must be repaired first, because a logged table may not refer to an unlogged one.
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql("ALTER TABLE conversation_messages SET UNLOGGED");
    database.psql("ALTER TABLE conversation_sessions SET UNLOGGED");
    for difference in differences(&database).await {
        database.psql(&difference.fix);
    }
    assert_eq!(problems(&database).await, [""; 0]);
}

#[tokio::test]
async fn defaults_that_do_not_wait_for_the_disk_are_named_as_a_warning() {
    // Roles belong to the whole server, so this test needs a separate cluster.
    let cluster = Postgres::start();
    let database = cluster.database();
    migrate(&database).await;
    let name = database.name();
    for (target, whose) in [
        (format!("DATABASE {name}"), "database"),
        (format!("ROLE authenticated IN DATABASE {name}"), "role 'authenticated' in this database"),
        ("ROLE service_role".to_owned(), "role 'service_role'"),
        ("ROLE ALL".to_owned(), "server's roles"),
    ] {
        for off in ["off", "false"] {
            database.psql(&format!("ALTER {target} SET synchronous_commit = {off}"));
            let problem = format!(
                "The default of the {whose} is synchronous_commit = off: a crash can lose what was confirmed just before it \
                 (talktrack itself waits for the disk)"
            );
            assert_warned(&database, &problem).await;
        }
    }
    database.psql(&format!("ALTER DATABASE {name} SET synchronous_commit = local"));
    assert_eq!(problems(&database).await, [""; 0], "its own disk it waits for");
}

#[tokio::test]
async fn a_server_that_does_not_wait_for_the_disk_is_named_as_a_warning() {
    let mut cluster = Postgres::start();
    let database = cluster.database();
    migrate(&database).await;
    for (setting, consequence) in [
        ("fsync", "a crash of the machine can destroy the whole server"),
        ("full_page_writes", "a crash of the machine can destroy pages that were being written"),
        ("synchronous_commit", "a crash can lose what was confirmed just before it"),
    ] {
        cluster.stop();
        cluster.start_with(&format!("{setting} = off"));
        assert_warned(&database, &format!("The server has {setting} = off: {consequence}")).await;
    }
}

#[tokio::test]
async fn a_list_of_words_gets_the_others_and_keeps_its_own() {
    for (words, kept) in [("'user', 'it''s me'", "it's me"), ("'user', '''', 'a,b(c)'", "a,b(c)")] {
        let check =
            format!("ALTER TABLE conversation_messages ADD CONSTRAINT mine CHECK (role IN ({words}))");
        let problem = "The check 'mine' of 'conversation_messages' does not allow 'assistant', 'system', 'developer', 'tool'";
        assert_mended(&check, problem).await;
        let database = Postgres::plain().database();
        migrate(&database).await;
        database.psql(&check);
        migrate(&database).await;
        let allowed = format!(
            "INSERT INTO conversation_sessions (session_id, user_id) VALUES ('{SESSION}', gen_random_uuid());
             INSERT INTO conversation_messages (session_id, role, content) VALUES ('{SESSION}', $${kept}$$, '')"
        );
        database.psql(&allowed);
    }
}
