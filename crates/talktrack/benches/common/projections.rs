//! What the benchmarks of the two projections, search and statistics, share: both compare writes with and without their
//! projection, and time queries among many messages.

use std::time::{Duration, Instant};

use talktrack::store::postgres::{Address, schema};
use talktrack_testbed::bench::{Outcome, median};
use talktrack_testbed::{Database, Postgres};
use tokio::runtime::Runtime;

/// How often a query is timed.
const QUERIES: usize = 20;

pub(crate) fn runtime() -> Outcome<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Returns the number of messages that are queried: `TALKTRACK_BENCH_MESSAGES`, if it is set.
pub(crate) fn message_count(default: usize) -> usize {
    std::env::var("TALKTRACK_BENCH_MESSAGES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Creates an empty database with the schema, on this machine.
pub(crate) fn empty_database(runtime: &Runtime) -> Outcome<(Database, Address)> {
    let database = Postgres::plain().database();
    // Encryption costs the same with and without the projection.
    let address: Address = format!("{}?sslmode=disable", database.url()).parse()?;
    runtime.block_on(async { Outcome::Ok(schema::migrate(&address.connect().await?).await?) })?;
    database.psql("CHECKPOINT");
    Ok((database, address))
}

/// Prints the messages per second with the projection and without it, measured alternately. `measure` is told whether the
/// projection runs.
pub(crate) fn compare_rates(what: &str, mut measure: impl FnMut(bool) -> Outcome<f64>) -> Outcome<()> {
    let mut with = Vec::new();
    let mut without = Vec::new();
    for _ in 0..5 {
        with.push(measure(true)?);
        without.push(measure(false)?);
    }
    let with = median(with);
    let without = median(without);
    println!(
        "{what}: {with:.0} messages/s, without {without:.0}, ratio {:.2} (limit 0.85)   medians of 5",
        with / without
    );
    Ok(())
}

/// The times of a query after everything that it needs has been read once, and its last answer.
pub(crate) struct Timed<T> {
    times: Vec<Duration>,
    pub(crate) answer: T,
}

impl<T> Timed<T> {
    pub(crate) fn new(runtime: &Runtime, ask: impl AsyncFn() -> Outcome<T>) -> Outcome<Self> {
        let mut times = Vec::new();
        let mut answer = runtime.block_on(ask())?;
        for _ in 0..QUERIES {
            let began = Instant::now();
            answer = runtime.block_on(ask())?;
            times.push(began.elapsed());
        }
        times.sort();
        Ok(Self { times, answer })
    }

    /// Returns the median in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        self.times[QUERIES / 2].as_secs_f64() * 1e3
    }

    /// Returns the longest time in milliseconds.
    pub(crate) fn worst(&self) -> f64 {
        self.times[QUERIES - 1].as_secs_f64() * 1e3
    }
}
