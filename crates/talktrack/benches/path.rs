//! The cost of the path of a message: for the caller of `track_message`, on the disk behind it, and in memory
//! per session. Each result is printed with its limit from the same run, because machines differ and are noisy.

use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rusqlite::{Connection, TransactionBehavior, params};
use talktrack::{Message, NewSession, Options, Role, SessionId, Tracker, UserId};
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SESSIONS: u128 = 200;
const TEXT: &str = "I would like to change the delivery address of my last order, please. It should go to the office on \
                    Harbour Street instead, second floor, and somebody must sign for it before noon if possible.  Thanks!";

fn main() -> Outcome<()> {
    println!(
        "track_message: what the caller pays, disk busy underneath (clock reading included; bursts of 5,000)"
    );
    for producers in [1, 2] {
        track(producers)?;
    }
    durable()?;
    registry()
}

fn open(dir: &Path) -> Outcome<Tracker> {
    let tracker = Tracker::open(Options::new(dir))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for session in 0..SESSIONS {
        let session = NewSession::new(SessionId::from_u128(session), UserId::from_u128(1));
        drop(tracker.start_session(session).map_err(|refused| refused.reason)?);
    }
    runtime.block_on(tracker.flush())?;
    Ok(tracker)
}

fn message(n: usize) -> Message {
    Message::new(SessionId::from_u128(n as u128 % SESSIONS), Role::User, TEXT)
}

/// Measures each call, in bursts that fit into the queue, while the journal is always busy. The times
/// include reading the clock.
fn track(producers: usize) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let tracker = open(dir.path())?;
    let per_producer = 5_000 / producers;
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..producers).map(|_| scope.spawn(|| produce(&tracker, per_producer))).collect();
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

fn produce(tracker: &Tracker, burst: usize) -> Outcome<Histogram<u64>> {
    const BURSTS: usize = 40;
    let mut times = Histogram::new(3)?;
    for _ in 0..BURSTS {
        let messages: Vec<_> = (0..burst).map(message).collect();
        for message in messages {
            let started = Instant::now();
            let tracked = tracker.track_message(message);
            let took = started.elapsed();
            times.record(u64::try_from(took.as_nanos())?)?;
            drop(tracked.map_err(|refused| refused.reason)?);
        }
        // Waits until half of the messages have reached the disk: the disk stays busy, and the queue never fills.
        while tracker.queue_depth() > 2_500 {
            std::thread::yield_now();
        }
    }
    Ok(times)
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
    ours.sort_by(f64::total_cmp);
    bare.sort_by(f64::total_cmp);
    println!(
        "  talktrack {:.0} messages/s   bare rusqlite {:.0} messages/s   ratio {:.2} (limit 0.80)   medians of 3",
        ours[1],
        bare[1],
        ours[1] / bare[1]
    );
    Ok(())
}

fn durable_ours(messages: usize) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    let tracker = open(dir.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let started = Instant::now();
    for n in 0..messages {
        let mut message = message(n);
        while let Err(refused) = tracker.track_message(message) {
            message = refused.returned;
            std::thread::sleep(Duration::from_micros(500));
        }
    }
    runtime.block_on(tracker.flush())?;
    Ok(messages as f64 / started.elapsed().as_secs_f64())
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
    Ok(messages as f64 / started.elapsed().as_secs_f64())
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let start = |from: u128, to: u128| -> Outcome<()> {
        for session in from..to {
            let mut session =
                NewSession::new(SessionId::from_u128(session << 64 | session), UserId::from_u128(1));
            while let Err(refused) = tracker.start_session(session) {
                session = refused.returned;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(runtime.block_on(tracker.flush())?)
    };
    // First lets the queue, SQLite's cache and the allocator grow to their final size.
    start(SESSIONS, 30_000)?;
    for n in 0..60_000 {
        let mut message = message(n);
        while let Err(refused) = tracker.track_message(message) {
            message = refused.returned;
            std::thread::yield_now();
        }
    }
    runtime.block_on(tracker.flush())?;
    let before = resident()?;
    start(30_000, 30_000 + MANY)?;
    let each = resident()?.saturating_sub(before) as f64 / MANY as f64;
    println!("registry: {each:.0} bytes a session, {MANY} sessions (limit 400, ratio {:.2})", each / 400.0);
    Ok(())
}

fn resident() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
    Ok(line.split_whitespace().nth(1).ok_or("no size")?.parse::<u64>()? * 1024)
}
