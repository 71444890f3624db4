//! Behind the path: the index by which messages are found, and the tallies of what happened when, are brought up to what was
//! written. Nobody waits for them, and they wait for everybody: each takes little at a time, and rests the longer the busier the
//! journal is. Whatever happens to one, it can be made anew from the rows.

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
use crate::health::Vitals;
use crate::options::Options;
use crate::store::{Class, Indexer, Step, Store, StoreError};

/// How often it is looked whether there is something new.
const LOOK: Duration = Duration::from_millis(250);
/// The same where the last look failed.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many times as long as it worked it rests, while the journal is busy; but never for longer than this, since what it follows
/// is kept for so many messages only.
const BUSY: u32 = 9;
const LONGEST_REST: Duration = Duration::from_secs(1);
/// How often a step that takes long is asked whether it is still wanted.
const STILL_WANTED: Duration = Duration::from_millis(100);
/// More than this many messages behind is worth a line in the log.
const WORTH_TELLING: u64 = 20_000;

/// Somebody who follows what is written.
pub(crate) struct Work {
    indexer: Box<dyn Indexer>,
    account: Account,
    /// When it goes its next step.
    due: Instant,
    /// What the books said when it went its last.
    moved: u64,
}

/// Those who follow this database, or the store behind it, as far as the options want them and somebody needs to.
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

/// Runs them until `pause`, which waits so long, says that it is over.
///
/// # Errors
/// Where the system does not give what a thread needs to wait for a network.
pub(crate) fn run(
    mut followers: Vec<Work>,
    vitals: &Arc<Vitals>,
    mut pause: impl FnMut(Duration) -> bool,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    give_way();
    let books = vitals.watch_books();
    for follower in &mut followers {
        follower.moved = moved(&books.borrow());
    }
    // Of those whose time has come, the one that waits longest.
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
    // A name that is being looked up must not hold up the stop.
    runtime.shutdown_background();
    Ok(())
}

/// Goes up with every message that becomes durable, and with every one that gets into a remote store.
fn moved(books: &Books) -> u64 {
    books.durable + books.stored
}

impl Work {
    /// Tells of its step, which took so long, and says when it goes the next.
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

/// What the step comes to; `None` where it was stopped meanwhile.
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

/// Whoever else has something to do on this machine goes first.
fn give_way() {
    // Elsewhere this would speak of the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!(%error, "the index for searching is written with the usual priority");
    }
}

/// What is told of a follower: in the log what is worth a line, in the figures how far it is behind.
struct Account {
    words: Words,
    lag: Option<Gauge>,
    /// When it was told that much is to be done.
    began: Option<Instant>,
    failing: bool,
}

/// What an account says: of what, what does not happen now, what happens again, what is begun, what is done.
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
                // Of a database that is away the writer tells.
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
