//! The writer: brings what is durable to a remote store. A lane per group of sessions keeps each session's order; a
//! lane has one batch in flight.

mod store_claim;
mod lane;
mod load;
mod search;
mod breaker;
mod parking;
mod deletions;
mod outage;

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all, join3, select};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;
use uuid::Uuid;

use crate::books::Figures;
use crate::clock::{Now, Seq};
use crate::health::Vitals;
use crate::options::Options;
use crate::record::{Record, RemovedRows, Verdict};
use crate::retry::Backoff;
use crate::store::{Numbers, Store};
use crate::writer::breaker::Breaker;
use crate::writer::lane::{Lane, Suspects};
use crate::writer::load::Load;
use crate::writer::outage::Outage;

pub(crate) use crate::writer::deletions::Deletions;
pub(crate) use crate::writer::parking::{FedSession, Parking};

pub(crate) use store_claim::StoreClaim;

/// Lanes side by side.
pub(crate) const LANES: usize = 4;
/// Records handed over to a lane and not yet settled; the rest waits in the journal, where it costs no memory. Each lane has
/// a window of its own: one that can bring nothing to the store must not stop the others.
const WINDOW: usize = 2_500;
/// Bytes of their text. A lane's write may go past it by one record.
const WINDOW_BYTES: usize = 2 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How often the store is asked for sessions that nobody ended, at most and at least.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// How often parked sessions are looked at, and how many the store is asked for at once.
const UNPARK: Duration = Duration::from_millis(250);
const ASKED_AT_ONCE: usize = 1_000;

/// How long after an answer it is asked whether it takes anything: where it does not, and where it does.
const WATCHES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What a lane tells the journal, in its order.
#[derive(Debug)]
pub(crate) enum Answer {
    /// What became of records of one delivery.
    Settled { lane: usize, delivery: i64, records: Vec<Settled> },
    /// The store has forgotten what the lane delivered after this delivery. The lane has let go of every record; it waits for
    /// [`Feed::Rewound`], and for the records anew.
    Rewind { lane: usize, after: i64 },
    /// This was deleted in the store, by SQL or on another node.
    Deleted(Deletions),
    /// Another server delivers under this node's id: the next start gets another one.
    Foreign,
    /// Nothing: the journal is to look at what it can do.
    Wake,
}

/// What became of one record.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) seq: Seq,
    /// True if the record deletes something.
    pub(crate) deletes: bool,
    /// True if the record is a message.
    pub(crate) is_message: bool,
    pub(crate) verdict: Verdict,
    /// The rows that a deletion by time removed.
    pub(crate) removed: Option<RemovedRows>,
}

/// What a lane is given.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are records, and a box would cost each an allocation"
)]
pub(crate) enum Feed {
    Record(Record),
    /// Records of one parked session, to be tried together.
    Parked(Vec<Record>),
    /// The records of this parked session come; what was handed over before stays in the journal.
    Open(Uuid),
    /// What the store has forgotten is pending again, and follows.
    Rewound(Rewound),
}

/// What became pending again.
#[derive(Debug)]
pub(crate) struct Rewound {
    /// The `seq` of the last such record.
    pub(crate) last: Seq,
    /// Those that delete something. They go first, and again when the lane has passed `last`.
    pub(crate) deletions: Vec<Record>,
}

/// Takes what the lanes tell.
pub(crate) type Settle = Arc<dyn Fn(Answer) + Send + Sync>;

/// The lanes and the thread they run on.
pub(crate) struct Writer {
    lanes: Vec<(UnboundedSender<Feed>, Arc<Load>)>,
    parking: Arc<Parking>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the lanes on a thread of their own: they work whatever the program's own runtime does.
    pub(crate) fn start(
        node: Uuid,
        delivered: [i64; LANES],
        claim: &Arc<StoreClaim>,
        settle: &Settle,
        vitals: &Arc<Vitals>,
        figures: &Figures,
        options: &Options,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (store, outage) = (claim.store(), Outage::new(vitals, figures));
        let parking = Arc::new(Parking::new(options.unknown_session_wait));
        let breaker = Arc::new(Breaker::new(&parking, &outage));
        let stop = watch::Sender::new(false);
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for (number, last) in delivered.into_iter().enumerate() {
            let ((sender, records), load) = (mpsc::unbounded_channel(), Arc::<Load>::default());
            lanes.push((sender, Arc::clone(&load)));
            tasks.push(Lane {
                node,
                number,
                numbers: Numbers::of_an_earlier_process(last),
                is_known: false,
                held_before: None,
                is_checked: false,
                again: None,
                records,
                ahead: VecDeque::new(),
                store: Arc::clone(store),
                claim: Arc::clone(claim),
                settle: Arc::clone(settle),
                load,
                outage: Arc::clone(&outage),
                figures: figures.clone(),
                backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, fastrand::Rng::new()),
                breaker: Arc::clone(&breaker),
                parking: Arc::clone(&parking),
                suspects: Suspects::default(),
            });
        }
        let learn = deletions::follow(Arc::clone(claim), Arc::clone(settle), options.clone());
        let watch = join(watch(Arc::clone(claim), Arc::clone(settle), Arc::clone(&outage)), learn);
        let sweep = sweep(Arc::clone(store), outage, options.clone());
        let unpark = unpark(Arc::clone(store), Arc::clone(&parking), breaker, Arc::clone(settle));
        let mut stopped = stop.subscribe();
        let run = move || {
            let work = pin!(join3(join_all(tasks.into_iter().map(Lane::run)), watch, join(sweep, unpark)));
            let stop = pin!(stopped.wait_for(|stop| *stop));
            runtime.block_on(select(work, stop));
            // A name that is being looked up must not hold up the stop.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("talktrack-writer".into()).spawn(run)?;
        Ok(Self { lanes, parking, stop, thread: Some(thread) })
    }

    /// The lane that brings this record to the store: the same for every record of a session.
    pub(crate) fn lane_of(record: &Record) -> usize {
        Self::lane_of_session(record.session_id())
    }

    pub(crate) fn lane_of_session(session_id: Uuid) -> usize {
        usize::try_from(session_id.as_u128() % LANES as u128).unwrap_or(0)
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

    /// The sessions whose records wait in the journal.
    pub(crate) fn parking(&self) -> &Arc<Parking> {
        &self.parking
    }

    /// Tells the lanes of parked sessions whose records come.
    pub(crate) fn open_due(&self) {
        for session_id in self.parking.announce_due() {
            let (lane, _) = &self.lanes[Self::lane_of_session(session_id)];
            let _ = lane.send(Feed::Open(session_id));
        }
    }

    /// Hands a record over. It is in the journal: whatever happens here, it is not lost.
    pub(crate) fn offer(&self, record: Record) {
        let (lane, load) = &self.lanes[Self::lane_of(&record)];
        load.add(&record);
        // A lane ends only when the writer stops; then the journal keeps what it would have taken.
        let _ = lane.send(Feed::Record(record));
    }

    /// Hands over records of one parked session, which are tried together.
    pub(crate) fn offer_parked(&self, lane: usize, records: Vec<Record>) {
        let (lane, load) = &self.lanes[lane];
        records.iter().for_each(|record| load.add(record));
        let _ = lane.send(Feed::Parked(records));
    }

    /// Tells a lane that waits for it what became pending again. What is handed over from now on is all that it has.
    pub(crate) fn rewound(&self, lane: usize, rewound: Rewound) {
        let (lane, load) = &self.lanes[lane];
        load.clear();
        let _ = lane.send(Feed::Rewound(rewound));
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
async fn watch(claim: Arc<StoreClaim>, settle: Settle, outage: Arc<Outage>) {
    loop {
        let checked = match claim.store().check().await {
            Ok(()) => claim.compare().await,
            failed => failed,
        };
        if claim.is_unwritten() {
            settle(Answer::Wake);
        }
        let pause = match checked {
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

/// Looks for parked sessions that have appeared in the store, or have waited long enough, and tries refused rows again.
async fn unpark(store: Arc<dyn Store>, parking: Arc<Parking>, breaker: Arc<Breaker>, settle: Settle) {
    let (mut reached, mut pause): (Option<Instant>, _) = (None, UNPARK);
    loop {
        tokio::time::sleep(pause).await;
        if parking.is_empty() {
            reached = None;
            breaker.tick();
            continue;
        }
        let begun = Instant::now();
        parking.retry_refused(begun);
        breaker.tick();
        let unknown = parking.unknown();
        let mut is_reached = true;
        for some in unknown.chunks(ASKED_AT_ONCE) {
            let Ok(known) = store.known_sessions(some).await else {
                is_reached = false;
                break;
            };
            let known: HashSet<Uuid> = known.into_iter().collect();
            let reachable = reached.map_or(Duration::ZERO, |reached| reached.elapsed());
            some.iter().for_each(|id| parking.asked_for(*id, known.contains(id), reachable));
        }
        reached = is_reached.then(Instant::now);
        pause = UNPARK.max(begun.elapsed() * 10);
        // The journal hands over what need not wait any more.
        settle(Answer::Wake);
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
