//! The cost of the statistics: for writers, while the rollup follows them, and for readers, among
//! `TALKTRACK_BENCH_MESSAGES` messages of a year (200,000 if not set). `cargo bench --bench stats --
//! postgres` runs only one part; the others are `ingestion`, `sqlite` and `postgres-ingestion`.

#[path = "../common/load.rs"]
mod load;
#[path = "../common/projections.rs"]
mod projections;
mod postgres;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use load::{start_session, track_message};
use projections::{Timed, compare_rates, message_count, runtime};
use talktrack::stats::{Lag, TimeRange};
use talktrack::store::Read;
use talktrack::{
    JsonObject, Message, NewSession, Options, Role, SessionId, Timestamp, Tracker, TurnMetrics, UserId,
};
use talktrack_testbed::bench::{Outcome, rate, run_parts};
use tokio::runtime::Runtime;

/// The number of messages in a session, and of sessions of a user.
const OF_A_SESSION: usize = 50;
const OF_A_USER: usize = 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The size of each message's text.
const BYTES: usize = 200;

/// The number of messages that are counted, if the environment names no other.
const COUNTED: usize = 200_000;

fn main() -> Outcome<()> {
    run_parts(&[
        ("ingestion", || ingestion(&runtime()?, message_count(COUNTED).min(COUNTED))),
        ("postgres-ingestion", || postgres::ingestion(&runtime()?)),
        ("sqlite", || sqlite(&runtime()?, tempfile::tempdir()?.path(), message_count(COUNTED))),
        ("postgres", || postgres::stats(&runtime()?, message_count(COUNTED))),
    ])
}

/// Returns the year in which all messages lie.
fn year() -> Outcome<TimeRange> {
    let end: Timestamp = "2026-11-01T00:00:00Z".parse()?;
    Ok(TimeRange::new(Some(end.minus(DAY * 365)), Some(end), None, end)?)
}

fn open(dir: &Path, stats: bool) -> Outcome<Tracker> {
    Ok(Tracker::open(Options::new(dir).with_search(false).with_stats(stats))?)
}

/// Interleaves the messages of ten sessions at a time.
fn session_of(n: usize) -> usize {
    n / (OF_A_SESSION * 10) * 10 + n % 10
}

/// Builds the message with this number. Every second message is a reply with metrics.
fn said(n: usize, at: Option<Timestamp>) -> Message {
    let role = if n.is_multiple_of(2) { Role::User } else { Role::Assistant };
    let mut random = fastrand::Rng::with_seed(n as u64);
    let ttft = 200.0 + 800.0 * random.f64().powi(3);
    let tts = 90.0 + 60.0 * random.f64();
    let metrics = match role {
        Role::User => format!(r#"{{"stt_ms":{tts:.1},"eou_ms":{:.1},"confidence":0.93}}"#, ttft / 2.0),
        _ => format!(
            r#"{{"llm_ttft_ms":{ttft:.1},"tts_ttfb_ms":{tts:.1},"e2e_ms":{:.1},"output_tokens":41}}"#,
            ttft + tts
        ),
    };
    let metrics = JsonObject::parse(&metrics).ok().and_then(|json| TurnMetrics::try_from(json).ok());
    let session = SessionId::from_u128(session_of(n) as u128 + 1);
    Message::new(session, role, "x".repeat(BYTES)).with_created_at(at).with_metrics(metrics)
}

fn write(
    runtime: &Runtime,
    tracker: &Tracker,
    messages: usize,
    at: impl Fn(usize) -> Option<Timestamp>,
) -> Outcome<()> {
    let mut started = std::collections::HashSet::new();
    for n in 0..messages {
        let session = session_of(n);
        if started.insert(session) {
            let user = UserId::from_u128((session / OF_A_USER) as u128 + 1);
            let session = SessionId::from_u128(session as u128 + 1);
            start_session(tracker, NewSession::new(session, user).with_started_at(at(n)));
        }
        track_message(tracker, said(n, at(n)));
    }
    Ok(runtime.block_on(tracker.flush())?)
}

/// Measures how many messages per second become durable, alternately with and without the rollup.
fn ingestion(runtime: &Runtime, messages: usize) -> Outcome<()> {
    compare_rates("durable while it is counted", |stats| {
        let dir = tempfile::tempdir()?;
        let tracker = open(dir.path(), stats)?;
        let began = Instant::now();
        write(runtime, &tracker, messages, |_| None)?;
        Ok(rate(messages, began))
    })
}

fn sqlite(runtime: &Runtime, dir: &Path, messages: usize) -> Outcome<()> {
    let year = year()?;
    let began = year.since();
    let step = DAY * 365 / u32::try_from(messages.max(1))?;
    let tracker = open(dir, false)?;
    write(runtime, &tracker, messages, |n| Some(began.plus(step * u32::try_from(n).unwrap_or(u32::MAX))))?;
    runtime.block_on(tracker.shutdown(Duration::from_secs(60)))?;
    let counting = Instant::now();
    let tracker = open(dir, true)?;
    let reader = tracker.reader();
    let is_counted = || {
        let stats = runtime.block_on(reader.stats(&year));
        stats.is_ok_and(|stats| {
            stats.lag == Lag::default() && stats.total().messages.total() == messages as u64
        })
    };
    while !is_counted() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let size = |name: &str| std::fs::metadata(dir.join(name)).map_or(0, |file| file.len() >> 10);
    println!(
        "SQLite: {messages} messages of a year counted in {:.1} s: {} KiB (and {} KiB of log) beside {} KiB",
        counting.elapsed().as_secs_f64(),
        size("talktrack-stats.db"),
        size("talktrack-stats.db-wal"),
        size("talktrack.db")
    );
    latencies(runtime, &reader, &year)
}

fn latencies(runtime: &Runtime, reader: &Arc<dyn Read>, year: &TimeRange) -> Outcome<()> {
    let midst = year.since().plus(DAY * 180);
    let end = year.until();
    let slices = talktrack::stats::Resolution::FiveMinutes;
    for (what, range) in [
        ("a day by the hour", TimeRange::new(Some(midst), Some(midst.plus(DAY)), None, end)),
        ("a day by five minutes", TimeRange::new(Some(midst), Some(midst.plus(DAY)), Some(slices), end)),
        ("a week by the hour", TimeRange::new(Some(midst), Some(midst.plus(DAY * 7)), None, end)),
        (
            "six days by five minutes",
            TimeRange::new(Some(midst), Some(midst.plus(DAY * 6)), Some(slices), end),
        ),
        ("a year by the day", Ok(*year)),
    ] {
        latency(runtime, reader, what, &range?)?;
    }
    own(runtime, reader, year)
}

fn latency(runtime: &Runtime, reader: &Arc<dyn Read>, what: &str, range: &TimeRange) -> Outcome<()> {
    let ask = async || {
        let stats = reader.stats(range).await?;
        Outcome::Ok(stats.total().messages.total())
    };
    print(what, runtime, ask)
}

/// Measures the statistics of one user, who has a thousand messages.
fn own(runtime: &Runtime, reader: &Arc<dyn Read>, range: &TimeRange) -> Outcome<()> {
    let ask =
        async || Outcome::Ok(reader.user_stats(&UserId::from_u128(1), range).await?.total().messages.total());
    print("one user's year by the day", runtime, ask)
}

fn print(what: &str, runtime: &Runtime, ask: impl AsyncFn() -> Outcome<u64>) -> Outcome<()> {
    let timed = Timed::new(runtime, ask)?;
    println!(
        "  {what:<28} {:>9} messages   median {:>7.2} ms   worst of 20 {:>7.2} ms   (limit 50)",
        timed.answer,
        timed.median(),
        timed.worst()
    );
    Ok(())
}
