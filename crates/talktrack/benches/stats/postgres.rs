//! The same measurements with PostgreSQL as the store.

use std::sync::Arc;
use std::time::{Duration, Instant};

use talktrack::store::postgres::PostgresStore;
use talktrack::store::{Projection, Read, Step, Store};
use talktrack::{Options, Tracker};
use talktrack_testbed::Database;
use talktrack_testbed::bench::{Outcome, rate};
use tokio::runtime::Runtime;

use crate::projections::{compare_rates, empty_database};
use crate::{OF_A_SESSION, OF_A_USER, latencies, write, year};

/// A year of sessions with fifty messages each, every second one with metrics, inserted directly into the tables.
const FILL: &str = "
SET session_replication_role = replica;
SET synchronous_commit = off;
INSERT INTO conversation_sessions (session_id, user_id, started_at, last_event_at, status, ended_at, duration_seconds)
SELECT lpad(to_hex(n + 1), 32, '0')::uuid, lpad(to_hex(n / {users} + 1), 32, '0')::uuid, at, at, 'ended', at + interval '90 seconds', 90
FROM generate_series(0, {messages} / {each} - 1) AS n, LATERAL (SELECT timestamptz '{since}' + n * interval '{session_step} microseconds') AS said (at);
INSERT INTO conversation_messages (session_id, user_id, role, content, created_at, seq, metrics)
SELECT lpad(to_hex(n / {each} + 1), 32, '0')::uuid, lpad(to_hex(n / {each} / {users} + 1), 32, '0')::uuid,
  CASE n % 2 WHEN 0 THEN 'user' ELSE 'assistant' END, repeat('x', 200), timestamptz '{since}' + n * interval '{step} microseconds', n,
  CASE n % 2 WHEN 1 THEN jsonb_build_object('llm_ttft_ms', 200 + n % 800, 'tts_ttfb_ms', 90 + n % 60, 'e2e_ms', 300 + n % 900, 'output_tokens', 41)
    ELSE jsonb_build_object('stt_ms', 90 + n % 60, 'eou_ms', 100 + n % 400, 'confidence', 0.93) END
FROM generate_series(0, {messages} - 1) AS n;
SET session_replication_role = origin;
ANALYZE";

/// Removes everything that exists only for the statistics.
const WITHOUT: &str =
    "DROP FUNCTION conversation_stats_touched CASCADE; DROP INDEX conversation_messages_by_time";

fn place(runtime: &Runtime) -> Outcome<(Database, Arc<PostgresStore>)> {
    let (database, address) = empty_database(runtime)?;
    let store = runtime.block_on(async { PostgresStore::new(&address) })?;
    Ok((database, Arc::new(store)))
}

/// Counts until nothing is left to count.
fn count(runtime: &Runtime, rollup: &mut dyn Projection) -> Outcome<()> {
    runtime.block_on(async {
        while rollup.step().await? != Step::UpToDate {}
        Outcome::Ok(())
    })
}

/// Measures how many messages per second reach the database, alternately with the rollup running and in
/// a database without anything for it.
pub(crate) fn ingestion(runtime: &Runtime) -> Outcome<()> {
    const MESSAGES: usize = 100_000;
    compare_rates("stored in PostgreSQL while it is counted", |stats| {
        let dir = tempfile::tempdir()?;
        let (database, store) = place(runtime)?;
        if stats {
            count(runtime, &mut *store.stats_rollup().ok_or("a rollup")?)?;
        } else {
            database.psql(WITHOUT);
        }
        database.psql("CHECKPOINT");
        let options = Options::new(dir.path()).with_search(false).with_stats(stats);
        let store: Arc<dyn Store> = store;
        let tracker = Tracker::open_with_store(options, store)?;
        let began = Instant::now();
        write(runtime, &tracker, MESSAGES, |_| None)?;
        runtime.block_on(tracker.flush_to_store())?;
        let rate = rate(MESSAGES, began);
        runtime.block_on(tracker.shutdown(Duration::from_secs(60)))?;
        Ok(rate)
    })
}

/// Measures statistics among this many messages.
pub(crate) fn stats(runtime: &Runtime, messages: usize) -> Outcome<()> {
    let year = year()?;
    let (database, store) = place(runtime)?;
    let step = (year.until().as_micros() - year.since().as_micros()) / i64::try_from(messages.max(1))?;
    let began = Instant::now();
    let fill = [
        ("{messages}", messages.to_string()),
        ("{each}", OF_A_SESSION.to_string()),
        ("{users}", OF_A_USER.to_string()),
        ("{since}", year.since().to_string()),
        ("{step}", step.to_string()),
        ("{session_step}", (step * i64::try_from(OF_A_SESSION)?).to_string()),
    ];
    database.psql(&fill.iter().fold(FILL.to_owned(), |sql, (name, value)| sql.replace(name, value)));
    println!("PostgreSQL: {messages} messages of a year written in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    count(runtime, &mut *store.stats_rollup().ok_or("a rollup")?)?;
    let size = |table: &str| database.psql(&format!("SELECT pg_total_relation_size('{table}') >> 10"));
    println!(
        "  counted in {:.1} s: {} KiB beside {} KiB",
        began.elapsed().as_secs_f64(),
        size("conversation_stats").trim(),
        size("conversation_messages").trim()
    );
    let reader: Arc<dyn Read> = store;
    latencies(runtime, &reader, &year)
}
