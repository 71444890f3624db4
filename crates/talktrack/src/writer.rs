//! The writer delivers durable records to a remote store. Each lane serves a group of sessions and has one batch in
//! flight, so that every session keeps its order.
//!
//! If the store refuses a write, the [class](crate::store::ErrorClass) of the error decides what happens:
//!
//! - *transient* and *systemic*: the lane retries with backoff, without a limit. The first lane that succeeds wakes the
//!   others.
//! - *data*: the lane bisects the batch until the poison record is alone (`bisect`). It becomes a dead letter if it
//!   fails twice alone, unless the breaker finds that the store is the cause.
//!
//! Records that the store may accept later leave the lane, stay in the journal, and are handed over again (`parking`).
//! A crash before the journal has noted an answer delivers the records once more, so a store's `write` must be
//! idempotent.

mod store_claim;
mod lane;
mod load;
mod bisect;
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
use talktrack_core::clock::Seq;
use talktrack_core::ids::SessionId;
use talktrack_core::record::{Record, RemovedRows, Verdict};
use tokio::sync::mpsc::{self, UnboundedSender};
use tokio::sync::watch;
use uuid::Uuid;

use crate::health::HealthState;
use crate::metric_handles::MetricHandles;
use crate::now::Now;
use crate::options::Options;
use crate::retry::Backoff;
use crate::store::{DeliveryNumbers, Store};
use crate::writer::breaker::Breaker;
use crate::writer::lane::{Lane, Suspects};
use crate::writer::load::Load;
use crate::writer::outage::Outage;

pub(crate) use crate::writer::deletions::RemoteDeletions;
pub(crate) use crate::writer::parking::{FedSession, Parking};

pub(crate) use store_claim::StoreClaim;

/// The number of lanes, which work in parallel.
pub(crate) const LANES: usize = 4;
/// The maximum number of records that a lane holds and that are not settled yet. All others wait in the journal and
/// cost no memory. Each lane has a window of its own, so that a lane that can deliver nothing does not stop the others.
/// The last group of parked records may exceed it.
const WINDOW: usize = 2_500;
/// The maximum number of bytes of their text. The last record, or the last group of parked records, may exceed it.
const WINDOW_BYTES: usize = 2 << 20;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The minimum and the maximum pause between two searches for idle sessions in the store.
const IDLE_SEARCH_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(60));

/// How often parked sessions are checked, and how many sessions one query to the store names.
const RECHECK_INTERVAL: Duration = Duration::from_millis(250);
const MAX_QUERIED_SESSIONS: usize = 1_000;

/// The pause before the next health check: after a failed check, and after a successful one.
const CHECK_PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// What a lane reports to the journal, in the lane's order.
#[derive(Debug)]
pub(crate) enum LaneReport {
    /// The verdicts on records of one delivery.
    Settled { lane: usize, delivery: i64, records: Vec<Settled> },
    /// The store has lost what the lane delivered after this delivery. The lane has dropped all its records and waits
    /// for [`Feed::Rewound`], after which the records are handed over again.
    Rewind { lane: usize, after: i64 },
    /// These sessions and messages were deleted in the store, by SQL or by another node.
    Deleted(RemoteDeletions),
    /// Another server delivers under this node's id. The next start assigns another one.
    Foreign,
    /// Nothing has happened: the journal is to check what it can do.
    Wake,
}

/// The verdict on one record.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) seq: Seq,
    /// True if the record deletes something.
    pub(crate) deletes: bool,
    /// True if the record is a message.
    pub(crate) is_message: bool,
    pub(crate) verdict: Verdict,
    /// The rows that a deletion by age removed.
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
    /// The records of this parked session follow. Its records that were handed over before this stay in the journal.
    Open(SessionId),
    /// What the store has lost is pending again, and follows.
    Rewound(Rewound),
}

/// What became pending again.
#[derive(Debug)]
pub(crate) struct Rewound {
    /// The `seq` of the last such record.
    pub(crate) last: Seq,
    /// The records that delete something. They are delivered first, and again when the lane has passed `last`.
    pub(crate) deletions: Vec<Record>,
}

/// Takes what the lanes report.
pub(crate) type ReportSink = Arc<dyn Fn(LaneReport) + Send + Sync>;

/// The lanes and the thread they run on.
pub(crate) struct Writer {
    lanes: Vec<(UnboundedSender<Feed>, Arc<Load>)>,
    parking: Arc<Parking>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the lanes on a thread of their own, so that a busy runtime of the program does not slow them down.
    pub(crate) fn start(
        node: Uuid,
        delivered: [i64; LANES],
        claim: &Arc<StoreClaim>,
        report: &ReportSink,
        health: &Arc<HealthState>,
        metrics: &MetricHandles,
        options: &Options,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let store = claim.store();
        let outage = Outage::new(health, metrics);
        let parking = Arc::new(Parking::new(options.unknown_session_wait));
        let breaker = Arc::new(Breaker::new(&parking, &outage));
        let stop = watch::Sender::new(false);
        let mut lanes = Vec::new();
        let mut tasks = Vec::new();
        for (number, last) in delivered.into_iter().enumerate() {
            let ((sender, records), load) = (mpsc::unbounded_channel(), Arc::<Load>::default());
            lanes.push((sender, Arc::clone(&load)));
            tasks.push(Lane {
                node,
                number,
                numbers: DeliveryNumbers::resume(last),
                is_known: false,
                held_before: None,
                is_checked: false,
                lost_deletions: None,
                records,
                ahead: VecDeque::new(),
                store: Arc::clone(store),
                claim: Arc::clone(claim),
                report: Arc::clone(report),
                load,
                outage: Arc::clone(&outage),
                metrics: metrics.clone(),
                backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, fastrand::Rng::new()),
                breaker: Arc::clone(&breaker),
                parking: Arc::clone(&parking),
                suspects: Suspects::default(),
            });
        }
        let learn = deletions::poll_deletions(Arc::clone(claim), Arc::clone(report), options.clone());
        let watch = join(watch_store(Arc::clone(claim), Arc::clone(report), Arc::clone(&outage)), learn);
        let sweep = end_idle_sessions(Arc::clone(store), outage, options.clone());
        let unpark = recheck_parked(Arc::clone(store), Arc::clone(&parking), breaker, Arc::clone(report));
        let mut stopped = stop.subscribe();
        let run = move || {
            let work = pin!(join3(join_all(tasks.into_iter().map(Lane::run)), watch, join(sweep, unpark)));
            let stop = pin!(stopped.wait_for(|stop| *stop));
            runtime.block_on(select(work, stop));
            // A DNS lookup in progress must not delay the shutdown.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("talktrack-writer".into()).spawn(run)?;
        Ok(Self { lanes, parking, stop, thread: Some(thread) })
    }

    /// Returns the lane that delivers this record. It is the same for every record of a session.
    pub(crate) fn lane_of(record: &Record) -> usize {
        Self::lane_of_session(record.session_id())
    }

    pub(crate) fn lane_of_session(session_id: SessionId) -> usize {
        usize::try_from(session_id.as_uuid().as_u128() % LANES as u128).unwrap_or(0)
    }

    /// True if the lane can take another record now.
    pub(crate) fn has_room(&self, lane: usize) -> bool {
        let (_, load) = &self.lanes[lane];
        load.records() < WINDOW && load.bytes() < WINDOW_BYTES
    }

    /// Tells the lane whether the journal has more records for it.
    pub(crate) fn expect_more(&self, lane: usize, more: bool) {
        self.lanes[lane].1.set_has_more(more);
    }

    /// Returns the sessions whose records wait in the journal.
    pub(crate) fn parking(&self) -> &Arc<Parking> {
        &self.parking
    }

    /// Tells the lanes which parked sessions' records follow.
    pub(crate) fn announce_due_sessions(&self) {
        for session_id in self.parking.announce_due() {
            let (lane, _) = &self.lanes[Self::lane_of_session(session_id)];
            let _ = lane.send(Feed::Open(session_id));
        }
    }

    /// Hands over a record. The record is in the journal, so it cannot be lost here.
    pub(crate) fn send_record(&self, record: Record) {
        let (lane, load) = &self.lanes[Self::lane_of(&record)];
        load.add(&record);
        // A lane ends only when the writer stops. The journal then keeps the record.
        let _ = lane.send(Feed::Record(record));
    }

    /// Hands over records of one parked session, which are tried together.
    pub(crate) fn send_parked(&self, lane: usize, records: Vec<Record>) {
        let (lane, load) = &self.lanes[lane];
        records.iter().for_each(|record| load.add(record));
        let _ = lane.send(Feed::Parked(records));
    }

    /// Tells a waiting lane what became pending again. From now on the lane holds only what is handed over after this.
    pub(crate) fn send_rewound(&self, lane: usize, rewound: Rewound) {
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

/// Checks the store in the background, so that a failure is known before the first message arrives.
async fn watch_store(claim: Arc<StoreClaim>, report: ReportSink, outage: Arc<Outage>) {
    loop {
        let checked = match claim.store().check().await {
            Ok(()) => claim.compare_identity().await,
            failed => failed,
        };
        if claim.is_unwritten() {
            report(LaneReport::Wake);
        }
        let pause = match checked {
            Ok(()) => {
                outage.report_passed_check();
                CHECK_PAUSES.1
            }
            Err(error) => {
                outage.report_failed_check(&error.message);
                CHECK_PAUSES.0
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Checks whether parked sessions now exist in the store or have waited long enough, and retries refused rows.
async fn recheck_parked(
    store: Arc<dyn Store>,
    parking: Arc<Parking>,
    breaker: Arc<Breaker>,
    report: ReportSink,
) {
    let (mut reached, mut pause): (Option<Instant>, _) = (None, RECHECK_INTERVAL);
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
        let unknown = parking.unknown_sessions();
        let mut is_reached = true;
        for some in unknown.chunks(MAX_QUERIED_SESSIONS) {
            let Ok(known) = store.known_sessions(some).await else {
                is_reached = false;
                break;
            };
            let known: HashSet<SessionId> = known.into_iter().collect();
            let reachable = reached.map_or(Duration::ZERO, |reached| reached.elapsed());
            some.iter().for_each(|id| parking.note_answer(*id, known.contains(id), reachable));
        }
        reached = is_reached.then(Instant::now);
        pause = RECHECK_INTERVAL.max(begun.elapsed() * 10);
        // The journal hands over the records that need not wait any longer.
        report(LaneReport::Wake);
    }
}

/// Ends the sessions of nodes that never came back: the first node that sees an idle session abandons it. Does nothing
/// while the store fails, or for one idle timeout after that, because the session's own node may still have records to
/// deliver.
async fn end_idle_sessions(store: Arc<dyn Store>, outage: Arc<Outage>, options: Options) {
    let idle = options.idle_timeout;
    let pause = (idle / 4).clamp(IDLE_SEARCH_PAUSES.0, IDLE_SEARCH_PAUSES.1);
    let clock = &options.clock;
    let begun = Now::read(&*options.clock);
    loop {
        tokio::time::sleep(pause).await;
        if outage.time_since_failure() < idle {
            continue;
        }
        // A clock that jumps ahead makes no session idle.
        let now = clock.now().min(begun.at.plus(clock.elapsed().saturating_sub(begun.elapsed)));
        match store.end_idle_sessions(now.minus(idle)).await {
            Ok(0) => {}
            Ok(sessions) => {
                tracing::warn!(
                    "{sessions} sessions of other nodes had no activity for too long; they are marked as abandoned"
                )
            }
            Err(error) => tracing::debug!(%error, "cannot look for idle sessions; trying again later"),
        }
    }
}
