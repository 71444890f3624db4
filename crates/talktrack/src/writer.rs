//! The writer: brings what is durable to a remote store. A lane per group of sessions keeps each session's order; a
//! lane has one batch in flight.

mod lane;
mod search;
mod outage;

use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::{join_all, join3, select};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;

use crate::books::Figures;
use crate::clock::{Now, Seq};
use crate::health::Vitals;
use crate::options::Options;
use crate::record::{Record, Verdict};
use crate::retry::Backoff;
use crate::store::Store;
use crate::writer::lane::{Lane, Load};
use crate::writer::outage::Outage;
use crate::writer::search::Breaker;

/// Lanes side by side.
pub(crate) const LANES: usize = 4;
/// Records handed over to a lane and not yet settled; the rest waits in the journal, where it costs no memory. Each lane has
/// a window of its own: one that can bring nothing to the store must not stop the others.
const WINDOW: usize = 2_500;
/// Bytes of their text. A lane's write may go past it by one record.
const WINDOW_BYTES: usize = 8 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often the store is asked for sessions that nobody ended, at most and at least.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// How long after an answer it is asked whether it takes anything: where it does not, and where it does.
const WATCHES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Told what became of records, in the order in which each lane settled them.
pub(crate) type Settle = Arc<dyn Fn(Vec<(Seq, Verdict)>) + Send + Sync>;

/// The lanes and the thread they run on.
pub(crate) struct Writer {
    lanes: Vec<(UnboundedSender<Record>, Arc<Load>)>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the lanes on a thread of their own: they work whatever the program's own runtime does.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        settle: &Settle,
        vitals: &Arc<Vitals>,
        figures: &Figures,
        options: &Options,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outage = Outage::new(vitals, figures);
        let stop = watch::Sender::new(false);
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for number in 0..LANES {
            let ((sender, records), load) = (mpsc::unbounded_channel(), Arc::<Load>::default());
            lanes.push((sender, Arc::clone(&load)));
            tasks.push(Lane {
                number,
                records,
                store: Arc::clone(store),
                settle: Arc::clone(settle),
                load,
                outage: Arc::clone(&outage),
                figures: figures.clone(),
                backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, fastrand::Rng::new()),
                breaker: Breaker::default(),
            });
        }
        let watch = watch(Arc::clone(store), Arc::clone(&outage));
        let sweep = sweep(Arc::clone(store), outage, options.clone());
        let mut stopped = stop.subscribe();
        let run = move || {
            let work = pin!(join3(join_all(tasks.into_iter().map(Lane::run)), watch, sweep));
            let stop = pin!(stopped.wait_for(|stop| *stop));
            runtime.block_on(select(work, stop));
            // A name that is being looked up must not hold up the stop.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("talktrack-writer".into()).spawn(run)?;
        Ok(Self { lanes, stop, thread: Some(thread) })
    }

    /// The lane that brings this record to the store: the same for every record of a session.
    pub(crate) fn lane_of(record: &Record) -> usize {
        usize::try_from(record.session_id().as_u128() % LANES as u128).unwrap_or(0)
    }

    /// Whether the lane takes another record now.
    pub(crate) fn has_room(&self, lane: usize) -> bool {
        let (_, load) = &self.lanes[lane];
        load.records() < WINDOW && load.bytes() < WINDOW_BYTES
    }

    /// Whether the lane will be given more from the journal.
    pub(crate) fn expect_more(&self, lane: usize, more: bool) {
        self.lanes[lane].1.set_grows(more);
    }

    /// Hands a record over. It is in the journal: whatever happens here, it is not lost.
    pub(crate) fn offer(&self, record: Record) {
        let (lane, load) = &self.lanes[Self::lane_of(&record)];
        load.add(&record);
        // A lane ends only when the writer stops; then the journal keeps what it would have taken.
        let _ = lane.send(record);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Asks after the store while nobody needs it, so that its trouble is known before the first message is.
async fn watch(store: Arc<dyn Store>, outage: Arc<Outage>) {
    loop {
        let pause = match store.check().await {
            Ok(()) => {
                outage.clears_up();
                WATCHES.1
            }
            Err(error) => {
                outage.foresee(&error.message);
                WATCHES.0
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Ends the sessions of nodes that never came back: whoever sees first that one has been silent for too long. Not while the
/// store fails, nor soon after: what its node has to tell of it may still be on the way.
async fn sweep(store: Arc<dyn Store>, outage: Arc<Outage>, options: Options) {
    let idle = options.idle_timeout;
    let pause = (idle / 4).clamp(SWEEPS.0, SWEEPS.1);
    let (clock, begun) = (&options.clock, Now::by(&*options.clock));
    loop {
        tokio::time::sleep(pause).await;
        if outage.calm() < idle {
            continue;
        }
        // A calendar that leaps ahead makes nobody silent.
        let now = clock.now().min(begun.at.plus(clock.elapsed().saturating_sub(begun.elapsed)));
        match store.abandon_silent(now.minus(idle)).await {
            Ok(0) => {}
            Ok(sessions) => {
                tracing::warn!("{sessions} sessions of other nodes fell silent; they are now abandoned")
            }
            Err(error) => tracing::debug!(%error, "cannot look for abandoned sessions now"),
        }
    }
}
