//! Background projections: the search index and the rollup of statistics follow the stored rows. No caller
//! waits for them, and they yield to everything else: each step is small, and the pauses are longer while
//! the journal is busy. Both can be rebuilt from the rows at any time.

mod search_indexer;
mod stats_rollup;
mod recompute;
mod file_projection;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};
use talktrack_core::books::Books;

use crate::health::HealthState;
use crate::options::Options;
use crate::projections::file_projection::FileProjection;
use crate::projections::search_indexer::SearchIndexer;
use crate::projections::stats_rollup::StatsRollup;
use crate::store::{ErrorClass, Projection, Step, Store, StoreError};

/// The pause after a step that found nothing new.
const IDLE_PAUSE: Duration = Duration::from_millis(250);
/// The pause after a failed step.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// While the journal is busy, and during a verification pass, the pause after a step is this many times as
/// long as the step, but at most [`MAX_PAUSE`], because the changes to follow are kept for a limited
/// number of messages only.
const BUSY_FACTOR: u32 = 9;
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often a long step is checked for a stop.
const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A backlog of more messages than this is logged.
const LOGGED_BACKLOG: u64 = 20_000;

/// A projection, with its schedule.
pub(crate) struct ScheduledProjection {
    projection: Box<dyn Projection>,
    log: ProgressLog,
    /// When the next step is due.
    due: Instant,
    /// The value of [`saved_messages`] at the last step.
    saved: u64,
}

/// Returns the projections of this database, or of the store behind it, that the options enable and the
/// store needs.
pub(crate) fn enabled_projections(
    database: &Path,
    store: Option<&Arc<dyn Store>>,
    options: &Options,
) -> Vec<ScheduledProjection> {
    let search = || match store {
        Some(store) => store.search_indexer(),
        None => Some(Box::new(FileProjection::<SearchIndexer>::new(database)) as Box<dyn Projection>),
    };
    let stats = || match store {
        Some(store) => store.stats_rollup(),
        None => Some(Box::new(FileProjection::<StatsRollup>::new(database)) as Box<dyn Projection>),
    };
    let projection = |projection, log| ScheduledProjection { projection, log, due: Instant::now(), saved: 0 };
    let search =
        options.search.then(search).flatten().map(|search| projection(search, ProgressLog::for_search()));
    let stats = options.stats.then(stats).flatten().map(|stats| projection(stats, ProgressLog::for_stats()));
    search.into_iter().chain(stats).collect()
}

/// Runs the projections until `pause`, which waits for the given time, returns false.
///
/// # Errors
/// If the system cannot create the runtime that waits for the network.
pub(crate) fn run(
    mut projections: Vec<ScheduledProjection>,
    health: &Arc<HealthState>,
    mut pause: impl FnMut(Duration) -> bool,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    lower_priority();
    let books = health.watch_books();
    for projection in &mut projections {
        projection.saved = saved_messages(&books.borrow());
    }
    // The projection that has been due the longest is next.
    while let Some(next) = projections.iter_mut().min_by_key(|projection| projection.due) {
        let wait = next.due.saturating_duration_since(Instant::now());
        if !wait.is_zero() && !pause(wait) {
            break;
        }
        let began = Instant::now();
        let result = runtime.block_on(unless_stopped(next.projection.step(), &mut pause));
        let Some(result) = result else { break };
        next.schedule_next(&result, began.elapsed(), saved_messages(&books.borrow()));
        if !pause(Duration::ZERO) {
            break;
        }
    }
    // A pending DNS lookup must not delay the stop.
    runtime.shutdown_background();
    Ok(())
}

/// A number that increases with every message that becomes durable or stored.
fn saved_messages(books: &Books) -> u64 {
    books.durable + books.stored
}

impl ScheduledProjection {
    /// Reports the result of a step that took this long, and schedules the next one.
    fn schedule_next(&mut self, result: &Result<Step, StoreError>, worked: Duration, saved: u64) {
        self.log.report(result, self.projection.known_lag());
        let is_busy = std::mem::replace(&mut self.saved, saved) != saved;
        let rest = match result {
            Err(_) => RETRY_PAUSE,
            Ok(Step::UpToDate) => IDLE_PAUSE,
            Ok(Step::More(_)) if !is_busy => worked / 4,
            Ok(Step::More(_) | Step::Verifying) => (worked * BUSY_FACTOR).min(MAX_PAUSE),
        };
        self.due = Instant::now() + rest;
    }
}

/// Returns the result of the step, or `None` if a stop was requested meanwhile.
async fn unless_stopped<T>(
    step: impl Future<Output = T>,
    pause: &mut impl FnMut(Duration) -> bool,
) -> Option<T> {
    let mut step = pin!(step);
    loop {
        match tokio::time::timeout(STOP_CHECK_INTERVAL, &mut step).await {
            Ok(done) => return Some(done),
            Err(_) if pause(Duration::ZERO) => {}
            Err(_) => return None,
        }
    }
}

/// Lowers the priority of this thread, so that all other work on the machine comes first.
fn lower_priority() {
    // On other systems the call would apply to the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "cannot lower the priority of the thread that writes the search index");
    }
}

/// Reports the progress of a projection: notable events in the log, the backlog as a metric.
struct ProgressLog {
    texts: LogTexts,
    lag: Option<Gauge>,
    /// When a large backlog was reported.
    began: Option<Instant>,
    failing: bool,
}

/// The texts of a projection's log: the name, the failure, the recovery, the start and the end of a large
/// backlog.
struct LogTexts {
    name: &'static str,
    fails: &'static str,
    recovers: &'static str,
    starts: fn(u64) -> String,
    is_done: &'static str,
}

impl ProgressLog {
    fn for_search() -> Self {
        let texts = LogTexts {
            name: "search",
            fails: "the index is not up to date",
            recovers: "the index is updated again",
            starts: |lag| format!("building the index; {lag} messages to add"),
            is_done: "the index is up to date",
        };
        let lag = Some(gauge!("talktrack_search_lag_messages"));
        Self { texts, lag, began: None, failing: false }
    }

    fn for_stats() -> Self {
        let texts = LogTexts {
            name: "stats",
            fails: "the statistics are not up to date",
            recovers: "the statistics are updated again",
            starts: |lag| format!("{lag} messages to count"),
            is_done: "everything is counted",
        };
        Self { texts, lag: None, began: None, failing: false }
    }

    fn report(&mut self, result: &Result<Step, StoreError>, known_lag: u64) {
        let LogTexts { name, fails, recovers, starts, is_done } = self.texts;
        let lag = match result {
            Ok(Step::More(lag)) => *lag,
            Ok(Step::UpToDate | Step::Verifying) => known_lag,
            Err(error) => {
                if known_lag > 0 {
                    self.set_gauge(known_lag);
                }
                // The writer reports that the database is unavailable.
                let is_news = !self.failing && error.class != ErrorClass::Transient;
                if is_news {
                    self.failing = true;
                    let why = &error.message;
                    tracing::warn!("{name}: {fails}: {why}");
                }
                return;
            }
        };
        if std::mem::take(&mut self.failing) {
            tracing::info!("{name}: {recovers}");
        }
        self.set_gauge(lag);
        match self.began {
            None if lag > LOGGED_BACKLOG => {
                tracing::info!("{name}: {}", starts(lag));
                self.began = Some(Instant::now());
            }
            Some(began) if lag == 0 => {
                let seconds = began.elapsed().as_secs_f64();
                tracing::info!("{name}: {is_done}, after {seconds:.0} s");
                self.began = None;
            }
            _ => {}
        }
    }

    fn set_gauge(&self, lag: u64) {
        self.lag.iter().for_each(|gauge| gauge.set(f64::from(u32::try_from(lag).unwrap_or(u32::MAX))));
    }
}
