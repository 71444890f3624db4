//! A backlog in the journal: how fast it drains, and what it costs until then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use talktrack::Tracker;
use talktrack::store::Store;
use talktrack_testbed::bench::{Outcome, rate, resident};

use crate::bed::{Bed, nowhere, open, store};
use crate::talkers::{message, start_sessions, time_bursts, track_messages};

/// The bursts that are measured: how many, and the messages of each.
const BURSTS: usize = 20;
const BURST: usize = 5_000;

/// Returns the number of messages per second that go from the journal into the database.
pub(crate) fn drain(bed: &Bed, away: Duration, messages: usize) -> Outcome<f64> {
    let dir = tempfile::tempdir()?;
    fill(bed, dir.path(), messages)?;
    let place = bed.place(away)?;
    let store = store(&place.url(!away.is_zero()))?;
    let started = Instant::now();
    let tracker = open(dir.path(), &store)?;
    bed.runtime.block_on(tracker.flush_to_store())?;
    let rate = rate(messages, started);
    assert_eq!(place.count()?, messages, "every message is there");
    Ok(rate)
}

/// Fills a journal with messages while its store is away.
fn fill(bed: &Bed, dir: &std::path::Path, messages: usize) -> Outcome<()> {
    let tracker = open(dir, &nowhere()?)?;
    start_sessions(&tracker);
    track_messages(&tracker, messages);
    bed.runtime.block_on(tracker.shutdown(Duration::from_secs(60)))?;
    Ok(())
}

/// Measures what the caller of `track_message` pays: with SQLite as the store, with PostgreSQL,
/// and while PostgreSQL hangs.
pub(crate) fn track(bed: &Bed) -> Outcome<()> {
    println!("track_message: what the caller pays (clock reading included; bursts of 5,000)");
    let dir = tempfile::tempdir()?;
    let sqlite = Tracker::open(talktrack::Options::new(dir.path()))?;
    start_sessions(&sqlite);
    let sqlite = time_bursts(&sqlite, BURSTS, BURST)?;
    report("SQLite", &sqlite, &sqlite);
    let place = bed.place(Duration::ZERO)?;
    for hangs in [false, true] {
        let dir = tempfile::tempdir()?;
        let store: Arc<dyn Store> = store(&place.url(true))?;
        let tracker = open(dir.path(), &store)?;
        start_sessions(&tracker);
        bed.runtime.block_on(tracker.flush_to_store())?;
        if hangs {
            place.proxy.hang();
        }
        let times = time_bursts(&tracker, BURSTS, BURST)?;
        report(if hangs { "PostgreSQL, hanging" } else { "PostgreSQL" }, &times, &sqlite);
        place.proxy.fix();
        bed.runtime.block_on(tracker.flush_to_store())?;
    }
    Ok(())
}

fn report(name: &str, times: &Histogram<u64>, sqlite: &Histogram<u64>) {
    let p50 = times.value_at_quantile(0.5);
    let p99 = times.value_at_quantile(0.99);
    let ratio = p50 as f64 / sqlite.value_at_quantile(0.5) as f64;
    println!("  {name}: p50 {p50} ns (limit 250; {ratio:.2} of SQLite)   p99 {p99} ns (limit 2,000)");
}

/// Measures what a backlog of a million messages after an outage costs in memory, and how long new
/// messages take while it drains.
pub(crate) fn million(bed: &Bed) -> Outcome<()> {
    const MILLION: usize = 1_000_000;
    println!("a backlog of {MILLION} messages, one new message every 2 ms while it drains");
    let dir = tempfile::tempdir()?;
    fill(bed, dir.path(), MILLION)?;
    let place = bed.place(Duration::ZERO)?;
    let store = store(&place.url(false))?;
    let tracker = open(dir.path(), &store)?;
    start_sessions(&tracker);
    let started = Instant::now();
    let mut peak = 0;
    let mut acks = Histogram::<u64>::new(3)?;
    let mut new = 0;
    let mut drained = 0.0;
    while tracker.health().books.pending() > 1_000 {
        let asked = Instant::now();
        let receipt = tracker.track_message(message(new)).map_err(|refused| refused.reason)?;
        bed.runtime.block_on(receipt.into_future())?;
        acks.record(u64::try_from(asked.elapsed().as_micros())?)?;
        new += 1;
        peak = peak.max(resident(std::process::id())?);
        drained = rate(MILLION + new, started);
        std::thread::sleep(Duration::from_millis(2).saturating_sub(asked.elapsed()));
    }
    bed.runtime.block_on(tracker.flush_to_store())?;
    assert_eq!(place.count()?, MILLION + new, "every message is there");
    let megabytes = peak as f64 / 1e6;
    println!(
        "  drained at {drained:.0} messages/s   resident at most {megabytes:.0} MB (limit 100, ratio {:.2})",
        megabytes / 100.0
    );
    let ms = |quantile| acks.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "  new messages durable after p50 {:.2} ms, p99 {:.2} ms, while it drains ({new} messages)",
        ms(0.5),
        ms(0.99)
    );
    idle_acks(bed, &tracker)
}

/// Measures the acknowledgements again, without a backlog.
fn idle_acks(bed: &Bed, tracker: &Tracker) -> Outcome<()> {
    let mut acks = Histogram::<u64>::new(3)?;
    for n in 0..1_000 {
        let asked = Instant::now();
        let receipt = tracker.track_message(message(n)).map_err(|refused| refused.reason)?;
        bed.runtime.block_on(receipt.into_future())?;
        acks.record(u64::try_from(asked.elapsed().as_micros())?)?;
        std::thread::sleep(Duration::from_millis(2).saturating_sub(asked.elapsed()));
    }
    let ms = |quantile| acks.value_at_quantile(quantile) as f64 / 1e3;
    println!("  the same without a backlog: p50 {:.2} ms, p99 {:.2} ms", ms(0.5), ms(0.99));
    Ok(())
}
