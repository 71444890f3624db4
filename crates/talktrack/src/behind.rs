//! Behind the path: the index by which messages are found is brought up to what was written. Nobody waits for it, and it waits
//! for everybody: it takes little at a time, and rests the longer the busier the journal is. Whatever happens to an index, it can
//! be made anew from the rows.

mod follow;

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::{Gauge, gauge};

use crate::behind::follow::Follower;
use crate::health::Vitals;
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

/// What keeps the index of this database, or of the store behind it; `None` where nobody needs to.
pub(crate) fn indexer(database: &Path, store: Option<&Arc<dyn Store>>) -> Option<Box<dyn Indexer>> {
    match store {
        Some(store) => store.indexer(),
        None => Some(Box::new(Follower::of(database))),
    }
}

/// Runs it until `pause`, which waits so long, says that it is over.
///
/// # Errors
/// Where the system does not give what a thread needs to wait for a network.
pub(crate) fn run(
    mut indexer: Box<dyn Indexer>,
    vitals: &Arc<Vitals>,
    mut pause: impl FnMut(Duration) -> bool,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    give_way();
    let mut account = Account::new();
    let books = vitals.watch_books();
    let mut durable = books.borrow().durable;
    loop {
        let began = Instant::now();
        let looked = runtime.block_on(unless_stopped(indexer.step(), &mut pause));
        let Some(looked) = looked else { break };
        account.tell(&looked);
        let now = books.borrow().durable;
        let is_busy = std::mem::replace(&mut durable, now) != now;
        let rest = match looked {
            Err(_) => PATIENCE,
            Ok(Step::UpToDate) => LOOK,
            Ok(Step::More(_)) if !is_busy => began.elapsed() / 4,
            Ok(Step::More(_) | Step::Passing) => (began.elapsed() * BUSY).min(LONGEST_REST),
        };
        if !pause(rest) {
            break;
        }
    }
    // A name that is being looked up must not hold up the stop.
    runtime.shutdown_background();
    Ok(())
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

/// What is told of the index: in the log what is worth a line, in the figures how far it is behind.
struct Account {
    lag: Gauge,
    /// When it was told that much is to be done.
    began: Option<Instant>,
    failing: bool,
}

impl Account {
    fn new() -> Self {
        Self { lag: gauge!("talktrack_search_lag_messages"), began: None, failing: false }
    }

    fn tell(&mut self, looked: &Result<Step, StoreError>) {
        let lag = match looked {
            Ok(Step::More(lag)) => *lag,
            Ok(Step::UpToDate | Step::Passing) => 0,
            Err(error) => {
                // Of a database that is away the writer tells.
                let is_news = !self.failing && error.class != Class::Transient;
                if is_news {
                    self.failing = true;
                    let why = &error.message;
                    tracing::warn!("search: what is new cannot be found at present: {why}");
                }
                return;
            }
        };
        if std::mem::take(&mut self.failing) {
            tracing::info!("search: what is new is found again");
        }
        self.lag.set(f64::from(u32::try_from(lag).unwrap_or(u32::MAX)));
        match self.began {
            None if lag > WORTH_TELLING => {
                tracing::info!("search: the index is built, {lag} messages are to be added to it");
                self.began = Some(Instant::now());
            }
            Some(began) if lag == 0 => {
                let seconds = began.elapsed().as_secs_f64();
                tracing::info!("search: the index is up to date, after {seconds:.0} s");
                self.began = None;
            }
            _ => {}
        }
    }
}
