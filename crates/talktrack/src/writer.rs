//! The writer: brings what is durable to a remote store. A lane per group of sessions keeps each session's order; a
//! lane has one batch in flight.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use futures_util::future::{join_all, select};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;

use crate::books::{Figures, count_retry};
use crate::clock::Seq;
use crate::health::Vitals;
use crate::lines;
use crate::record::{DeadReason, Record, Verdict};
use crate::retry::Backoff;
use crate::store::{Class, Store, StoreError};

/// Lanes side by side.
const LANES: usize = 4;
/// Records in one write.
const BATCH: usize = 500;
/// Records handed over and not yet settled; the rest waits in the journal, where it costs no memory.
const WINDOW: usize = 10_000;
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Told what became of records, in the order in which each lane settled them.
pub(crate) type Settle = Arc<dyn Fn(Vec<(Seq, Verdict)>) + Send + Sync>;

/// The lanes and the thread they run on.
pub(crate) struct Writer {
    lanes: Vec<UnboundedSender<Record>>,
    in_flight: Arc<AtomicUsize>,
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
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let in_flight = Arc::new(AtomicUsize::new(0));
        let stop = watch::Sender::new(false);
        let (mut lanes, mut tasks) = (Vec::new(), Vec::new());
        for _ in 0..LANES {
            let (sender, records) = mpsc::unbounded_channel();
            lanes.push(sender);
            tasks.push(Lane {
                records,
                store: Arc::clone(store),
                settle: Arc::clone(settle),
                in_flight: Arc::clone(&in_flight),
                vitals: Arc::clone(vitals),
                figures: figures.clone(),
                backoff: Backoff::new(FIRST_WAIT, LONGEST_WAIT, fastrand::Rng::new()),
            });
        }
        let mut stopped = stop.subscribe();
        let run = move || {
            let lanes = pin!(join_all(tasks.into_iter().map(Lane::run)));
            let stop = pin!(stopped.wait_for(|stop| *stop));
            runtime.block_on(select(lanes, stop));
        };
        let thread = std::thread::Builder::new().name("talktrack-writer".into()).spawn(run)?;
        Ok(Self { lanes, in_flight, stop, thread: Some(thread) })
    }

    /// How many more records it takes now.
    pub(crate) fn room(&self) -> usize {
        WINDOW.saturating_sub(self.in_flight.load(Ordering::Acquire))
    }

    /// Hands records over, in their order. They are in the journal: whatever happens here, they are not lost.
    pub(crate) fn offer(&self, records: impl Iterator<Item = Record>) {
        for record in records {
            let lane = usize::try_from(record.session_id().as_u128() % LANES as u128).unwrap_or(0);
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            // A lane ends only when the writer stops; then the journal keeps what it would have taken.
            let _ = self.lanes[lane].send(record);
        }
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

struct Lane {
    records: UnboundedReceiver<Record>,
    store: Arc<dyn Store>,
    settle: Settle,
    in_flight: Arc<AtomicUsize>,
    vitals: Arc<Vitals>,
    figures: Figures,
    backoff: Backoff,
}

impl Lane {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.records.recv_many(&mut batch, BATCH).await > 0 {
            self.deliver(&batch).await;
            batch.clear();
        }
    }

    /// Brings the records to the store, however long it takes. A batch that the store refuses for its data is cut in
    /// halves until the bad row is alone; its neighbours are stored.
    async fn deliver(&mut self, batch: &[Record]) {
        let mut parts = vec![batch];
        let mut refused_alone = 0;
        while let Some(part) = parts.pop() {
            match self.attempt(part).await {
                Ok(verdicts) => {
                    self.settle(part, verdicts);
                    refused_alone = 0;
                }
                Err(error) if error.class != Class::Data => {
                    self.wait(&error).await;
                    parts.push(part);
                }
                Err(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(_) if refused_alone == 0 => {
                    refused_alone = 1;
                    parts.push(part);
                }
                Err(error) => {
                    self.settle(part, vec![Verdict::Dead(DeadReason::Data(error.message))]);
                    refused_alone = 0;
                }
            }
        }
    }

    async fn attempt(&mut self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let started = Instant::now();
        let verdicts = self.store.write(part).await?;
        self.figures.store_seconds.record(started.elapsed());
        self.figures.store_up.set(1.0);
        self.vitals.store(None);
        self.backoff.reset();
        if verdicts.len() == part.len() {
            return Ok(verdicts);
        }
        let message = format!("the store answered for {} of {} records", verdicts.len(), part.len());
        Err(StoreError { class: Class::Systemic, message })
    }

    fn settle(&self, part: &[Record], verdicts: Vec<Verdict>) {
        for (record, verdict) in part.iter().zip(&verdicts) {
            lines::stored(record, verdict);
        }
        self.in_flight.fetch_sub(part.len(), Ordering::AcqRel);
        (self.settle)(part.iter().map(|record| record.seq).zip(verdicts).collect());
    }

    async fn wait(&mut self, error: &StoreError) {
        count_retry(error.class.as_str());
        self.figures.store_up.set(0.0);
        self.vitals.store(Some(error.message.clone()));
        lines::failed(&error.message);
        tokio::time::sleep(self.backoff.next()).await;
    }
}
