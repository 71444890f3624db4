//! The same measurements with PostgreSQL as the store.

use std::sync::Arc;
use std::time::Instant;

use talktrack::store::postgres::PostgresStore;
use talktrack::store::{Read, Step, Store};
use talktrack::{Options, Tracker};
use talktrack_testbed::bench::{Outcome, median, rate};
use talktrack_testbed::{Database, open_client};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::projections::{compare_rates, empty_database};
use crate::{latencies, said, write};

/// The number of rows per statement that fills the tables.
const AT_ONCE: usize = 10_000;

/// Inserts a row for each session that does not exist yet, then one for each message, with one second between them.
const FILL: &str = "
WITH said AS (SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[]) AS said (n, user_id, session_id, content)),
begun AS (
  INSERT INTO conversation_sessions (session_id, user_id, started_at, last_event_at)
  SELECT session_id, user_id, at, at FROM (
    SELECT session_id, user_id, timestamptz '2025-01-01' + min(n) * interval '1 second' AS at FROM said GROUP BY 1, 2
  ) AS begun
  ON CONFLICT (session_id) DO NOTHING)
INSERT INTO conversation_messages (session_id, user_id, role, content, created_at, seq)
SELECT session_id, user_id, 'user', content, timestamptz '2025-01-01' + n * interval '1 second', 1735689600000000 + n * 1000000
FROM said";

/// Measures how many messages per second reach the database, alternately with and without the index.
pub(crate) fn ingestion(runtime: &Runtime) -> Outcome<()> {
    const MESSAGES: usize = 100_000;
    let mut indexed = Vec::new();
    compare_rates("stored in PostgreSQL with an index behind it", |search| {
        let dir = tempfile::tempdir()?;
        let (database, address) = empty_database(runtime)?;
        let store: Arc<dyn Store> = runtime.block_on(async { PostgresStore::new(&address) }).map(Arc::new)?;
        let options = Options::new(dir.path()).with_search(search).with_stats(false);
        let tracker = Tracker::open_with_store(options, store)?;
        let began = Instant::now();
        write(runtime, &tracker, 0..MESSAGES)?;
        runtime.block_on(tracker.flush_to_store())?;
        let rate = rate(MESSAGES, began);
        if search {
            indexed.push(database.psql("SELECT count(*) FROM conversation_search").trim().parse::<f64>()?);
        }
        Ok(rate)
    })?;
    println!("  {:.0} % of it had its words by then", median(indexed) * 100.0 / MESSAGES as f64);
    Ok(())
}

/// Measures searches among this many messages.
pub(crate) fn search(runtime: &Runtime, messages: usize) -> Outcome<()> {
    let (database, address) = empty_database(runtime)?;
    let began = Instant::now();
    runtime.block_on(fill(&database, messages))?;
    println!("PostgreSQL: {messages} messages written in {:.0} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let store = runtime.block_on(async { PostgresStore::new(&address) })?;
    let mut indexer = store.search_indexer().ok_or("an indexer")?;
    runtime.block_on(async {
        while indexer.step().await? != Step::UpToDate {}
        Outcome::Ok(())
    })?;
    let built = began.elapsed().as_secs_f64();
    // The state in which autovacuum leaves the tables.
    for table in ["conversation_search", "conversation_messages", "conversation_sessions"] {
        database.psql(&format!("VACUUM ANALYZE {table}"));
    }
    let size = |table: &str| database.psql(&format!("SELECT pg_total_relation_size('{table}') >> 20"));
    println!(
        "  index built in {built:.0} s: {} MiB beside {} MiB",
        size("conversation_search").trim(),
        size("conversation_messages").trim()
    );
    let reader: Arc<dyn Read> = Arc::new(store);
    latencies(runtime, &reader, messages)
}

/// Inserts the messages directly into the tables, because other benchmarks measure the path.
async fn fill(database: &Database, messages: usize) -> Outcome<()> {
    let client = open_client(&database.url()).await;
    client.batch_execute("SET session_replication_role = replica; SET synchronous_commit = off").await?;
    let statement = client.prepare(FILL).await?;
    for first in (0..messages).step_by(AT_ONCE) {
        let mut numbers = Vec::<i64>::new();
        let mut users = Vec::<Uuid>::new();
        let mut sessions = Vec::<Uuid>::new();
        let mut contents = Vec::<String>::new();
        for n in first..messages.min(first + AT_ONCE) {
            let (user, session, content) = said(n);
            numbers.push(i64::try_from(n)?);
            users.push(user.as_uuid());
            sessions.push(session.as_uuid());
            contents.push(content);
        }
        client.execute(&statement, &[&numbers, &users, &sessions, &contents]).await?;
    }
    Ok(())
}
