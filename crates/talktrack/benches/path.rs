//! The cost of the path of a message: for the caller of `track_message`, on the disk behind it, and in memory
//! per session. Each result is printed with its limit from the same run, because machines differ and are noisy.
//! `cargo bench --bench path -- registry` runs only one part; the others are `track` and `durable`.

#[path = "common/load.rs"]
mod load;
#[path = "common/talkers.rs"]
mod talkers;

use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;
use load::start_session;
use rusqlite::{Connection, TransactionBehavior, params};
use talkers::{SESSIONS, start_sessions, time_bursts, track_messages};
use talktrack::{NewSession, Options, SessionId, Tracker, UserId};
use talktrack_testbed::bench::{Outcome, TEXT, median, rate, resident, run_parts};
use tokio::runtime::Runtime;
use uuid::Uuid;

fn main() -> Outcome<()> {
    run_parts(&[("track", track), ("durable", durable), ("registry", registry)])
}

fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn open(dir: &Path) -> Outcome<Tracker> {
    let tracker = Tracker::open(Options::new(dir))?;
    start_sessions(&tracker);
    runtime()?.block_on(tracker.flush())?;
    Ok(tracker)
}

fn track() -> Outcome<()> {
    println!(
        "track_message: what the caller pays, disk busy underneath (clock reading included; bursts of 5,000)"
    );
    [1, 2].into_iter().try_for_each(track_from)
}

fn track_from(producers: usize) -> Outcome<()> {
    const BURSTS: usize = 40;
    let dir = tempfile::tempdir()?;
    let tracker = open(dir.path())?;
    let per_producer = 5_000 / producers;
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..producers).map(|_| scope.spawn(|| time_bursts(&tracker, BURSTS, per_producer))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a producer panicked")?)
            .collect::<Outcome<Vec<_>>>()
    })?;
    let mut all = Histogram::<u64>::new(3)?;
    times.iter().try_for_each(|times| all.add(times))?;
    let p50 = all.value_at_quantile(0.5);
    let p99 = all.value_at_quantile(0.99);
    println!(
        "  {producers} producer(s): p50 {p50} ns (limit 250, ratio {:.2})   p99 {p99} ns (limit 2,000, ratio {:.2})   p99.9 {} ns",
        p50 as f64 / 250.0,
        p99 as f64 / 2000.0,
        all.value_at_quantile(0.999),
    );
    Ok(())
}

/// Measures how many messages per second become durable, and compares this with a bare loop that writes
/// the same rows in the same batches.
fn durable() -> Outcome<()> {
    const MESSAGES: usize = 100_000;
    println!(
        "durable, in process: {MESSAGES} messages of {} bytes, {SESSIONS} sessions, batches of up to 1,000",
        TEXT.len()
    );
    let mut ours = Vec::new();
    let mut bare = Vec::new();
    for _ in 0..3 {
        ours.push(durable_ours(MESSAGES)?);
        bare.push(durable_bare(MESSAGES)?);
    }
    let ours = median(ours);
    let bare = median(bare);
    println!(
        "  talktrack {ours:.0} messages/s   bare rusqlite {bare:.0} messages/s   ratio {:.2} (limit 0.80)   medians of 3",
        ours / bare
    );
    Ok(())
}

fn durable_ours(messages: usize) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let tracker = open(dir.path())?;
    let runtime = runtime()?;
    let started = Instant::now();
    track_messages(&tracker, messages);
    runtime.block_on(tracker.flush())?;
    Ok(rate(messages, started))
}

/// Measures the limit: rows that are built beforehand, one prepared statement, one commit per 1,000 rows, nothing else.
fn durable_bare(messages: usize) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    drop(open(dir.path())?);
    let mut connection = Connection::open(dir.path().join(talktrack::DATABASE_FILE))?;
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=4000; PRAGMA cache_size=-65536; PRAGMA foreign_keys=OFF;")?;
    let rows: Vec<[String; 3]> = (0..messages)
        .map(|n| {
            let id =
                uuid::Builder::from_unix_timestamp_millis(1_700_000_000_000 + n as u64 / 60, &scattered(n));
            [
                id.into_uuid().to_string(),
                Uuid::from_u128(n as u128 % SESSIONS).to_string(),
                Uuid::from_u128(1).to_string(),
            ]
        })
        .collect();
    let started = Instant::now();
    for (batch, rows) in rows.chunks(1_000).enumerate() {
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut insert = tx.prepare_cached(
            "INSERT INTO conversation_messages (id, session_id, user_id, role, content, created_at, seq) VALUES (?1,?2,?3,?4,?5,?6,?7)",
        )?;
        for (n, [id, session, user]) in rows.iter().enumerate() {
            let seq = 1_700_000_000_000_000 + (batch * 1_000 + n) as i64;
            insert.execute(params![id, session, user, "user", TEXT, "2026-11-23T08:00:00.000000Z", seq])?;
        }
        drop(insert);
        tx.commit()?;
    }
    Ok(rate(messages, started))
}

/// Returns ten bytes that differ for each `n`, like random ones.
fn scattered(n: usize) -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[2..].copy_from_slice(&(n as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    bytes
}

/// Measures the memory of each of 100,000 sessions, from the resident size of the process.
fn registry() -> Outcome<()> {
    const MANY: u128 = 100_000;
    let dir = tempfile::tempdir()?;
    let tracker = open(dir.path())?;
    let runtime = runtime()?;
    let start = |from: u128, to: u128| -> Outcome<()> {
        for session in from..to {
            let session =
                NewSession::new(SessionId::from_u128(session << 64 | session), UserId::from_u128(1));
            start_session(&tracker, session);
        }
        Ok(runtime.block_on(tracker.flush())?)
    };
    // First lets the queue, SQLite's cache and the allocator grow to their final size.
    start(SESSIONS, 30_000)?;
    track_messages(&tracker, 60_000);
    runtime.block_on(tracker.flush())?;
    let before = resident(std::process::id())?;
    start(30_000, 30_000 + MANY)?;
    let each = resident(std::process::id())?.saturating_sub(before) as f64 / MANY as f64;
    println!("registry: {each:.0} bytes a session, {MANY} sessions (limit 400, ratio {:.2})", each / 400.0);
    Ok(())
}
