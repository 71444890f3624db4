//! Background projections: the search index and the rollup of statistics follow the stored rows. No caller
//! waits for them, and they yield to everything else: each step is small, and the pauses are longer while
//! the journal is busy. Both can be rebuilt from the rows at any time.

mod follow;
mod tally;
mod recount;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};

use crate::behind::follow::Follower;
use crate::behind::tally::Tallier;
use crate::books::Books;
use crate::health::HealthState;
use crate::options::Options;
use crate::store::{Class, Indexer, Step, Store, StoreError};

/// The pause after a step that found nothing new.
const LOOK: Duration = Duration::from_millis(250);
/// The pause after a failed step.
const PATIENCE: Duration = Duration::from_secs(5);
/// While the journal is busy, and during a verification pass, the pause after a step is this many times as
/// long as the step, but at most [`LONGEST_REST`], because the changes to follow are kept for a limited
/// number of messages only.
const BUSY: u32 = 9;
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How often a long step is checked for a stop.
const STILL_WANTED: Duration = Duration::from_millis(100);
/// A backlog of more messages than this is logged.
const WORTH_TELLING: u64 = 20_000;

/// A projection, with its schedule.
pub(crate) struct Work {
    indexer: Box<dyn Indexer>,
    account: Account,
    /// When the next step is due.
    due: Instant,
    /// The value of [`moved`] at the last step.
    moved: u64,
}

/// Returns the projections of this database, or of the store behind it, that the options enable and the
/// store needs.
pub(crate) fn followers(database: &Path, store: Option<&Arc<dyn Store>>, options: &Options) -> Vec<Work> {
    let search = || match store {
        Some(store) => store.indexer(),
        None => Some(Box::new(Follower::of(database)) as Box<dyn Indexer>),
    };
    let stats = || match store {
        Some(store) => store.tallier(),
        None => Some(Box::new(Tallier::of(database)) as Box<dyn Indexer>),
    };
    let follower = |indexer, account| Work { indexer, account, due: Instant::now(), moved: 0 };
    let search = options.search.then(search).flatten().map(|search| follower(search, Account::of_search()));
    let stats = options.stats.then(stats).flatten().map(|stats| follower(stats, Account::of_stats()));
    search.into_iter().chain(stats).collect()
}

/// Runs the projections until `pause`, which waits for the given time, returns false.
///
/// # Errors
/// If the system cannot create the runtime that waits for the network.
pub(crate) fn run(
    mut followers: Vec<Work>,
    health: &Arc<HealthState>,
    mut pause: impl FnMut(Duration) -> bool,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    give_way();
    let books = health.watch_books();
    for follower in &mut followers {
        follower.moved = moved(&books.borrow());
    }
    // The projection that has been due the longest is next.
    while let Some(next) = followers.iter_mut().min_by_key(|follower| follower.due) {
        let wait = next.due.saturating_duration_since(Instant::now());
        if !wait.is_zero() && !pause(wait) {
            break;
        }
        let began = Instant::now();
        let looked = runtime.block_on(unless_stopped(next.indexer.step(), &mut pause));
        let Some(looked) = looked else { break };
        next.rest(&looked, began.elapsed(), moved(&books.borrow()));
        if !pause(Duration::ZERO) {
            break;
        }
    }
    // A pending DNS lookup must not delay the stop.
    runtime.shutdown_background();
    Ok(())
}

/// A number that increases with every message that becomes durable or stored.
fn moved(books: &Books) -> u64 {
    books.durable + books.stored
}

impl Work {
    /// Reports the result of a step that took this long, and schedules the next one.
    fn rest(&mut self, looked: &Result<Step, StoreError>, worked: Duration, moved: u64) {
        self.account.tell(looked, self.indexer.known_lag());
        let is_busy = std::mem::replace(&mut self.moved, moved) != moved;
        let rest = match looked {
            Err(_) => PATIENCE,
            Ok(Step::UpToDate) => LOOK,
            Ok(Step::More(_)) if !is_busy => worked / 4,
            Ok(Step::More(_) | Step::Passing) => (worked * BUSY).min(LONGEST_REST),
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
        match tokio::time::timeout(STILL_WANTED, &mut step).await {
            Ok(done) => return Some(done),
            Err(_) if pause(Duration::ZERO) => {}
            Err(_) => return None,
        }
    }
}

/// Lowers the priority of this thread, so that all other work on the machine comes first.
fn give_way() {
    // On other systems the call would apply to the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "the index for searching is written with the usual priority");
    }
}

/// Reports the progress of a projection: notable events in the log, the backlog as a metric.
struct Account {
    words: Words,
    lag: Option<Gauge>,
    /// When a large backlog was reported.
    began: Option<Instant>,
    failing: bool,
}

/// The texts of an account: the name, the failure, the recovery, the start and the end of a large backlog.
struct Words {
    name: &'static str,
    fails: &'static str,
    goes_on: &'static str,
    begins: fn(u64) -> String,
    is_done: &'static str,
}

impl Account {
    fn of_search() -> Self {
        let words = Words {
            name: "search",
            fails: "what is new cannot be found at present",
            goes_on: "what is new is found again",
            begins: |lag| format!("the index is built, {lag} messages are to be added to it"),
            is_done: "the index is up to date",
        };
        let lag = Some(gauge!("talktrack_search_lag_messages"));
        Self { words, lag, began: None, failing: false }
    }

    fn of_stats() -> Self {
        let words = Words {
            name: "stats",
            fails: "what is new is not counted at present",
            goes_on: "what is new is counted again",
            begins: |lag| format!("{lag} messages are to be counted"),
            is_done: "everything is counted",
        };
        Self { words, lag: None, began: None, failing: false }
    }

    fn tell(&mut self, looked: &Result<Step, StoreError>, known_lag: u64) {
        let Words { name, fails, goes_on, begins, is_done } = self.words;
        let lag = match looked {
            Ok(Step::More(lag)) => *lag,
            Ok(Step::UpToDate | Step::Passing) => known_lag,
            Err(error) => {
                if known_lag > 0 {
                    self.show(known_lag);
                }
                // The writer reports that the database is unavailable.
                let is_news = !self.failing && error.class != Class::Transient;
                if is_news {
                    self.failing = true;
                    let why = &error.message;
                    tracing::warn!("{name}: {fails}: {why}");
                }
                return;
            }
        };
        if std::mem::take(&mut self.failing) {
            tracing::info!("{name}: {goes_on}");
        }
        self.show(lag);
        match self.began {
            None if lag > WORTH_TELLING => {
                tracing::info!("{name}: {}", begins(lag));
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

    fn show(&self, lag: u64) {
        self.lag.iter().for_each(|gauge| gauge.set(f64::from(u32::try_from(lag).unwrap_or(u32::MAX))));
    }
}
