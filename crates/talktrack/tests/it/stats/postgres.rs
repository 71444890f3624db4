//! The statistics rollup in PostgreSQL counts the rows of every writer, and may run on any node.

use std::time::{Duration, Instant};

use talktrack::stats::{Lag, Resolution, Stats, StatsError, TimeRange};
use talktrack::store::postgres::{PostgresStore, schema};
use talktrack::store::{Projection, Read as _, Rows as _, Store as _};
use talktrack_testbed::{Database, Postgres, like_supabase, open_client};
use talktrack_testkit::PATIENCE;

use super::{figures, moment};
use crate::postgres::{migrate, migrated, store_at};
use crate::rls::{ANN, ANNS, Caller, as_caller};
use crate::schema::connect;

/// A store, and its rollup.
struct Counting {
    store: PostgresStore,
    rollup: Box<dyn Projection>,
}

/// The day in which all rows of these tests lie.
fn day(resolution: Resolution) -> TimeRange {
    let since = moment("2026-01-01T00:00:00Z");
    let until = moment("2026-01-02T00:00:00Z");
    TimeRange::new(Some(since), Some(until), Some(resolution), until).unwrap()
}

impl Counting {
    fn at(database: &Database) -> Self {
        let store = store_at(&database.url());
        let rollup = store.stats_rollup().expect("somebody counts");
        Self { store, rollup }
    }

    /// Counts until nothing is left to count, and checks the figures against a count of the rows.
    /// All messages must be Ann's.
    async fn counted(&mut self, messages: u64, sessions: u64) -> Stats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.rollup.step().await.expect("a step");
            let answer = self.store.stats(&day(Resolution::FiveMinutes)).await;
            match &answer {
                Ok(stats) if stats.lag == Lag::default() => {
                    let stats = answer.unwrap();
                    let total = stats.total();
                    assert_eq!((total.messages.total(), total.sessions.begun), (messages, sessions));
                    let rows = self.store.user_stats(&ANN.parse().unwrap(), &stats.range).await.unwrap();
                    assert_eq!(figures(&stats), figures(&rows));
                    let whole = self.store.stats(&day(Resolution::Day)).await.unwrap().total();
                    assert_eq!(whole.messages, total.messages);
                    return stats;
                }
                Ok(_) | Err(StatsError::NotCounted(_)) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "{answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Writes a session of Ann's that begins at midnight, with a message every seven minutes.
fn said(database: &Database, session: &str, messages: u32) {
    database.psql(&format!(
        "INSERT INTO conversation_sessions (session_id, user_id, started_at) VALUES ('{session}', '{ANN}', '2026-01-01');
         INSERT INTO conversation_messages (session_id, user_id, role, content, created_at, metrics)
         SELECT '{session}', '{ANN}', 'assistant', 'said', timestamptz '2026-01-01' + n * interval '7 minutes',
           jsonb_build_object('e2e_ms', n)
         FROM generate_series(0, {messages} - 1) AS n"
    ));
}

const OTHER: &str = "00000000-0000-4000-8000-0000000000a2";

#[tokio::test]
async fn whatever_others_do_to_the_rows_is_counted() {
    let database = migrated().await;
    let mut counting = Counting::at(&database);
    counting.counted(0, 0).await;
    said(&database, ANNS, 20);
    counting.counted(20, 1).await;
    for (sql, messages, interrupted, ended) in [
        ("UPDATE conversation_messages SET interrupted = true WHERE created_at < '2026-01-01 00:20'", 20, 3, 0),
        ("UPDATE conversation_sessions SET status = 'ended', duration_seconds = 60", 20, 3, 1),
        ("UPDATE conversation_messages SET created_at = created_at + interval '9 hours' WHERE interrupted", 20, 3, 1),
        ("UPDATE conversation_sessions SET started_at = started_at + interval '1 hour'", 20, 3, 1),
        ("DELETE FROM conversation_messages WHERE created_at > '2026-01-01 09:10'", 19, 2, 1),
        ("INSERT INTO conversation_messages (session_id, user_id, role, content, created_at, metrics)
          SELECT session_id, user_id, 'user', 'x', created_at, '[]' FROM conversation_messages", 38, 2, 1),
        // No figure has to include rows with such times, and none of these may do harm.
        ("UPDATE conversation_messages SET created_at = (ARRAY['infinity', '-infinity', '20000-01-01', '4000-01-01 BC'])[1 + length(role) % 4]::timestamptz
          WHERE role = 'user' AND created_at > '2026-01-01 01:00'", 25, 2, 1),
    ] {
        database.psql(sql);
        let total = counting.counted(messages, 1).await.total();
        assert_eq!((total.messages.interruptions, total.sessions.ended), (interrupted, ended), "{sql}");
    }
    database.psql("TRUNCATE conversation_messages");
    counting.counted(0, 1).await;
    database.psql("DELETE FROM conversation_sessions");
    counting.counted(0, 0).await;
    let left = "SELECT count(*) FROM conversation_stats WHERE place > 0 AND place < 2 * (1::bigint << 40)";
    assert_eq!(database.psql(left), "0");
}

#[tokio::test]
async fn what_was_there_before_is_counted_and_again_where_the_tallies_are_taken_away() {
    let database = migrated().await;
    said(&database, ANNS, 200);
    let mut counting = Counting::at(&database);
    let answer = counting.store.stats(&day(Resolution::Hour)).await;
    assert!(matches!(answer, Err(StatsError::NotCounted(_))), "{answer:?}");
    counting.counted(200, 1).await;
    for taken_away in [
        "TRUNCATE conversation_stats",
        "TRUNCATE conversation_stats, conversation_stats_stale",
        "DELETE FROM conversation_stats WHERE place = 0; UPDATE conversation_stats SET tally = '\\x00'",
        // A rollup of another version.
        "UPDATE conversation_stats SET tally = '\\xff' || tally",
        // A broken rollup, of which one broken bucket is read.
        "UPDATE conversation_stats SET tally = '\\x01' WHERE place > 0; UPDATE conversation_messages SET interrupted = true",
    ] {
        database.psql(taken_away);
        counting.counted(200, 1).await;
    }
}

#[tokio::test]
async fn a_message_that_is_committed_while_counting_begins_is_counted() {
    let database = migrated().await;
    said(&database, ANNS, 1);
    let slow = open_client(&database.url()).await;
    let insert = format!(
        "BEGIN; INSERT INTO conversation_messages (session_id, user_id, role, content, created_at)
         VALUES ('{ANNS}', '{ANN}', 'user', 'slowly', '2026-01-01 00:01')"
    );
    slow.batch_execute(&insert).await.unwrap();
    let mut counting = Counting::at(&database);
    // The row was written before changes were recorded and is not visible yet, so the rollup must not begin.
    counting.rollup.step().await.expect_err("somebody is writing");
    slow.batch_execute("COMMIT").await.unwrap();
    counting.counted(2, 1).await;
    // A transaction with an older snapshot does not see that changes are recorded by now.
    database.psql("TRUNCATE conversation_stats");
    slow.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM conversation_sessions")
        .await
        .unwrap();
    counting.counted(2, 1).await;
    slow.batch_execute(&insert.replace("BEGIN; ", "")).await.unwrap();
    slow.batch_execute("COMMIT").await.unwrap();
    counting.counted(3, 1).await;
    // Once the rollup has begun, it waits for no transaction.
    slow.batch_execute(&insert.replace("00:01", "00:02")).await.unwrap();
    counting.counted(3, 1).await;
    slow.batch_execute("COMMIT").await.unwrap();
    counting.counted(4, 1).await;
}

/// Returns the number of buckets that the database has marked as stale.
fn notes(database: &Database) -> String {
    database.psql("SELECT count(DISTINCT slice) FROM conversation_stats_stale")
}

#[tokio::test]
async fn an_update_of_many_sessions_takes_a_moment_whatever_was_updated_before_on_the_same_connection() {
    let database = migrated().await;
    let mut counting = Counting::at(&database);
    counting.counted(0, 0).await;
    // A column of the user's own may have any name.
    database.psql(
        "ALTER TABLE conversation_sessions ADD COLUMN moment timestamptz, ADD COLUMN changed text;
         INSERT INTO conversation_sessions (session_id, user_id, started_at)
         SELECT gen_random_uuid(), gen_random_uuid(), timestamptz '2026-01-01' + n * interval '1 hour' FROM generate_series(1, 10000) AS n;
         DELETE FROM conversation_stats_stale",
    );
    let update = "UPDATE conversation_sessions SET message_count = message_count + 1";
    let took = async |client: &tokio_postgres::Client| {
        let began = Instant::now();
        client.batch_execute(update).await.unwrap();
        began.elapsed()
    };
    let first = took(&open_client(&database.url()).await).await;
    let client = open_client(&database.url()).await;
    client.batch_execute(&format!("{update} WHERE started_at < '2026-01-01 02:00'")).await.unwrap();
    let later = took(&client).await;
    // An update that compared each row with every other took 70 times as long.
    assert!(later < first * 10, "{later:?} after an update of one row, {first:?} without");
    assert_eq!(notes(&database), "0", "no figure has changed");
    client
        .batch_execute(
            "UPDATE conversation_sessions SET status = 'ended' WHERE started_at < '2026-01-01 05:00'",
        )
        .await
        .unwrap();
    assert_eq!(notes(&database), "4");
    let moved = "UPDATE conversation_sessions SET session_id = gen_random_uuid(), started_at = started_at + interval '1 year'";
    client.batch_execute(&format!("{moved} WHERE started_at < '2026-01-01 03:00'")).await.unwrap();
    assert_eq!(notes(&database), "6", "those where they were, and those where they are");
}

#[tokio::test]
async fn whoever_waits_for_no_lock_waits_for_this_one_and_is_noted() {
    let database = migrated().await;
    let mut counting = Counting::at(&database);
    said(&database, ANNS, 1);
    counting.counted(1, 1).await;
    let holder = open_client(&database.url()).await;
    let writer = open_client(&database.url()).await;
    holder.batch_execute("BEGIN; LOCK TABLE conversation_stats IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let insert = format!(
        "SET lock_timeout = '1ms'; INSERT INTO conversation_messages (session_id, user_id, role, content, created_at)
         VALUES ('{ANNS}', '{ANN}', 'user', 'impatient', '2026-01-01 00:01')"
    );
    let writing = async { writer.batch_execute(&insert).await };
    let releasing = async {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%impatient%'
                     AND datname = current_database() AND pid <> pg_backend_pid()";
        let deadline = Instant::now() + PATIENCE;
        while database.psql(waits) != "1" {
            assert!(Instant::now() < deadline, "nobody waits");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        holder.batch_execute("COMMIT").await
    };
    let (written, released) = tokio::join!(writing, releasing);
    written.and(released).expect("it is written");
    counting.counted(2, 1).await;
}

#[tokio::test]
async fn two_who_count_at_once_count_nothing_twice_and_leave_nothing_out() {
    let database = migrated().await;
    said(&database, ANNS, 100);
    let mut nodes = [Counting::at(&database), Counting::at(&database)];
    for round in 0..10 {
        let minute = round * 3;
        database.psql(&format!(
            "UPDATE conversation_messages SET interrupted = true WHERE created_at < '2026-01-01 00:{minute:02}'"
        ));
        let [one, two] = &mut nodes;
        let (one, two) = tokio::join!(one.rollup.step(), two.rollup.step());
        one.and(two).expect("both go on");
    }
    let [one, two] = &mut nodes;
    let (one, two) = tokio::join!(one.counted(100, 1), two.counted(100, 1));
    assert_eq!(figures(&one), figures(&two));
    assert_eq!(one.total().messages.interruptions, 4);
}

#[tokio::test]
async fn nothing_that_is_wrong_with_the_counting_keeps_a_row_out() {
    let database = migrated().await;
    let mut counting = Counting::at(&database);
    said(&database, ANNS, 3);
    counting.counted(3, 1).await;
    let message = "INSERT INTO conversation_messages (session_id, user_id, role, content, created_at)
                   SELECT session_id, user_id, 'user', 'more', started_at FROM conversation_sessions";
    for (count, broken) in [
        "ALTER TABLE conversation_messages DISABLE TRIGGER talktrack_stats_insert",
        "DROP TRIGGER talktrack_stats_insert ON conversation_messages",
        "DROP FUNCTION conversation_stats_touched CASCADE",
        "CREATE OR REPLACE FUNCTION conversation_stats_touched() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "DROP TABLE conversation_stats_stale",
        "DROP TABLE conversation_stats",
        "DROP TABLE conversation_stats, conversation_stats_stale",
        "ALTER TABLE conversation_stats_stale ADD CONSTRAINT own CHECK (slice < 0)",
        "ALTER TABLE conversation_stats_stale ADD COLUMN own text NOT NULL",
    ]
    .into_iter()
    .enumerate()
    {
        database.psql(broken);
        let messages = 4 + count as u64;
        database.psql(message);
        counting.store.check().await.expect("rows are taken");
        // It may be impossible to count at this moment. The writer does not have to repair that.
        let _ = counting.rollup.step().await;
        for difference in schema::differences(&connect(&database).await).await.unwrap() {
            database.psql(&difference.fix);
        }
        if !broken.contains("own") {
            counting.counted(messages, 1).await;
            continue;
        }
        // Only the user may remove what is the user's own.
        database.psql("ALTER TABLE conversation_stats_stale DROP CONSTRAINT IF EXISTS own, DROP COLUMN IF EXISTS own");
        counting.counted(messages, 1).await;
    }
    assert_eq!(schema::differences(&connect(&database).await).await.unwrap(), []);
}

#[tokio::test]
async fn a_migration_mends_what_notes_are_taken_with_and_has_everything_counted() {
    let database = migrated().await;
    let mut counting = Counting::at(&database);
    said(&database, ANNS, 3);
    counting.counted(3, 1).await;
    database.psql("ALTER TABLE conversation_messages DISABLE TRIGGER ALL");
    said(&database, OTHER, 2);
    let found = schema::differences(&connect(&database).await).await.unwrap();
    let problems: Vec<_> = found.iter().map(|difference| difference.problem.as_str()).collect();
    assert_eq!(problems.len(), 5, "{problems:?}");
    assert_eq!(
        problems[0],
        "Could not find the trigger 'talktrack_stats_insert' of 'conversation_messages', or it is switched off"
    );
    migrate(&database).await;
    counting.counted(5, 2).await;
}

#[tokio::test]
async fn users_are_counted_and_neither_see_nor_change_what_is_counted() {
    let database = Postgres::shared().database();
    like_supabase(&database);
    migrate(&database).await;
    let mut counting = Counting::at(&database);
    counting.counted(0, 0).await;
    let began = format!(
        "INSERT INTO conversation_sessions (session_id, user_id, started_at) VALUES ('{ANNS}', '{ANN}', '2026-01-01')"
    );
    as_caller(&database, Caller::User(ANN), &began).unwrap();
    let said = format!(
        "INSERT INTO conversation_messages (session_id, user_id, role, content, created_at)
         VALUES ('{ANNS}', '{ANN}', 'user', 'hello', '2026-01-01 00:00:01')"
    );
    as_caller(&database, Caller::User(ANN), &said).unwrap();
    let before = database.psql("SELECT count(*) FROM conversation_stats_stale");
    assert_eq!(before, "2", "one note of the session, one of the message");
    for table in ["conversation_stats", "conversation_stats_stale"] {
        for caller in [Caller::User(ANN), Caller::Anon] {
            for attempt in [format!("SELECT FROM {table}"), format!("DELETE FROM {table}")] {
                assert!(as_caller(&database, caller, &attempt).unwrap_err().contains("42501"), "{attempt}");
            }
        }
    }
    let forged = "INSERT INTO conversation_stats_stale (slice) VALUES (1)";
    assert!(as_caller(&database, Caller::User(ANN), forged).unwrap_err().contains("42501"));
    let call = "SELECT conversation_stats_touched()";
    assert!(as_caller(&database, Caller::User(ANN), call).is_err());
    counting.counted(1, 1).await;
}

/// Returns the statements in `docs/supabase.md` that create a role with fewer rights.
fn own_role() -> String {
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/supabase.md");
    let guide = std::fs::read_to_string(guide).expect("the guide");
    let (_, section) = guide.split_once("\n## 6. A role of its own\n").expect("the section");
    let (_, sql) = section.split_once("```sql\n").expect("its statements");
    sql.split("```").next().unwrap().to_owned()
}

#[tokio::test]
async fn a_role_of_its_own_as_the_guide_makes_it_writes_finds_and_counts() {
    let cluster = Postgres::start();
    let database = cluster.database();
    migrate(&database).await;
    database.psql(&own_role());
    let store = store_at(&database.url_as("talktrack_writer"));
    store.check().await.expect("rows are taken");
    let rollup = store.stats_rollup().expect("somebody counts");
    let mut counting = Counting { store, rollup };
    counting.counted(0, 0).await;
    said(&database, ANNS, 3);
    counting.counted(3, 1).await;
    database.psql("SET ROLE talktrack_writer; UPDATE conversation_messages SET interrupted = true");
    assert_eq!(counting.counted(3, 1).await.total().messages.interruptions, 3);
    let mut indexer = counting.store.search_indexer().expect("somebody keeps an index");
    indexer.step().await.expect("what is said can be found");
    let words = database.psql("SELECT count(*) FROM conversation_search");
    assert_eq!(words, "3");
}
