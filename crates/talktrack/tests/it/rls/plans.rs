//! The cost of the policies, with 100,000 rows in each table.

use talktrack_testbed::{Database, Postgres};

use super::{Caller, as_caller};
use crate::schema::migrate;

/// User number 7 of 1,000, who has 100 sessions.
const USER: &str = "00000000-0000-4000-8000-000000000007";

/// A session of this user, number 7,007 of all.
const SESSION: &str = "00000000-0000-4000-9000-000000007007";

/// Creates 100,000 sessions of 1,000 users with one message each, and an `auth.jwt()` that counts its calls.
async fn large() -> Database {
    let database = Postgres::plain().database();
    migrate(&database).await;
    database.psql(
        "INSERT INTO conversation_sessions (session_id, user_id, started_at)
           SELECT ('00000000-0000-4000-9000-' || lpad(n::text, 12, '0'))::uuid,
             ('00000000-0000-4000-8000-' || lpad((n % 1000)::text, 12, '0'))::uuid, now() - n * interval '1 minute'
           FROM generate_series(1, 100000) AS n;
         INSERT INTO conversation_messages (session_id, user_id, role, content, seq)
           SELECT session_id, user_id, 'user', 'said', row_number() OVER () FROM conversation_sessions;
         CREATE SEQUENCE calls;
         CREATE OR REPLACE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER AS $$
           BEGIN PERFORM nextval('public.calls'); RETURN current_setting('request.jwt.claims', true); END $$;
         ANALYZE;",
    );
    database
}

/// Returns the plan of the user's query with its actual row counts, and the number of calls of `auth.jwt()`.
fn explain(database: &Database, query: &str) -> (String, u64) {
    database.psql("SELECT setval('calls', 1, false)");
    let explain = format!("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) {query}");
    let plan = as_caller(database, Caller::User(USER), &explain).unwrap();
    let calls = database.psql("SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM calls");
    (plan, calls.parse().unwrap())
}

#[tokio::test]
async fn a_users_queries_use_the_indexes_and_never_ask_for_each_row_who_asks() {
    let database = large().await;
    let own_session = format!(
        "SELECT * FROM conversation_messages WHERE session_id = '{SESSION}' ORDER BY created_at, coalesce(seq, 0)"
    );
    for (query, index, rows, calls) in [
        ("SELECT * FROM conversation_sessions", "conversation_sessions_of_owner", 100, 2),
        (
            "SELECT * FROM conversation_sessions ORDER BY started_at DESC, session_id DESC LIMIT 20",
            "conversation_sessions_of_owner",
            20,
            2,
        ),
        ("SELECT * FROM conversation_messages", "conversation_messages_in_order", 100, 4),
        (&own_session, "conversation_messages_in_order", 1, 4),
    ] {
        let (plan, called) = explain(&database, query);
        assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{query}\n{plan}");
        let first = plan.lines().next().unwrap();
        assert!(first.contains(&format!("(actual rows={rows} loops=1)")), "{query}\n{plan}");
        // Two calls for each policy that applies, the one of the messages and the one of their sessions,
        // but not one for each row.
        assert_eq!(called, calls, "{query}\n{plan}");
        assert!(
            plan.lines().all(|line| !line.contains("actual") || line.contains("loops=1)")),
            "{query}\n{plan}"
        );
    }
}
