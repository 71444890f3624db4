//! A lane: one write in flight, so that each session in it keeps its order.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use crate::books::{Figures, count_deletion};
use crate::error::NotDurable;
use crate::lines;
use crate::record::{Body, DeadReason, Record, Verdict};
use crate::retry::Backoff;
use crate::store::{Class, Store, StoreError};
use crate::writer::Settle;
use crate::writer::outage::Outage;
use crate::writer::search::{Breaker, Search};

/// Records in one write.
const BATCH: usize = 1_000;
/// How long a write waits to be filled from a backlog.
const LINGER: Duration = Duration::from_millis(10);
/// Bytes of text in one write, but for a single record that has more.
const BATCH_BYTES: usize = 4 << 20;
/// A store that takes longer than this to answer has a problem, and people should hear of it.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Lane {
    pub(super) number: usize,
    pub(super) records: UnboundedReceiver<Record>,
    pub(super) store: Arc<dyn Store>,
    pub(super) settle: Settle,
    pub(super) load: Arc<Load>,
    pub(super) outage: Arc<Outage>,
    pub(super) figures: Figures,
    pub(super) backoff: Backoff,
    pub(super) breaker: Breaker,
}

/// What was handed over and is not yet settled.
#[derive(Debug, Default)]
pub(super) struct Load {
    records: AtomicUsize,
    bytes: AtomicUsize,
    /// More lies in the journal, and is on its way.
    grows: AtomicBool,
}

impl Load {
    pub(super) fn records(&self) -> usize {
        self.records.load(Ordering::Acquire)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Acquire)
    }

    pub(super) fn grows(&self) -> bool {
        self.grows.load(Ordering::Relaxed)
    }

    pub(super) fn set_grows(&self, grows: bool) {
        self.grows.store(grows, Ordering::Relaxed);
    }

    pub(super) fn add(&self, record: &Record) {
        self.records.fetch_add(1, Ordering::AcqRel);
        self.bytes.fetch_add(record.heap_bytes(), Ordering::AcqRel);
    }

    fn remove(&self, record: &Record) {
        self.records.fetch_sub(1, Ordering::AcqRel);
        self.bytes.fetch_sub(record.heap_bytes(), Ordering::AcqRel);
    }
}

impl Lane {
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(record) = self.records.recv().await {
            batch.push(record);
            self.fill(&mut batch).await;
            self.deliver(&mut batch).await;
            batch.clear();
        }
    }

    /// Adds what waits already, as far as one write may go; and what is about to come, where a backlog is being read: few
    /// large writes cost the store less than many small ones.
    async fn fill(&mut self, batch: &mut Vec<Record>) {
        let deadline = tokio::time::Instant::now() + LINGER;
        let mut bytes = bytes_of(batch);
        while self.add_waiting(batch, &mut bytes) && self.load.grows() {
            match tokio::time::timeout_at(deadline, self.records.recv()).await {
                Ok(Some(record)) => {
                    bytes += record.heap_bytes();
                    batch.push(record);
                }
                _ => return,
            }
        }
    }

    /// Adds what waits already to a batch of so many bytes. Says whether there is room for more.
    fn add_waiting(&mut self, batch: &mut Vec<Record>, bytes: &mut usize) -> bool {
        while batch.len() < BATCH && *bytes < BATCH_BYTES {
            let Ok(record) = self.records.try_recv() else { return true };
            *bytes += record.heap_bytes();
            batch.push(record);
        }
        false
    }

    /// Brings the records to the store, however long it takes. The rows that it will never take are laid aside, and their
    /// neighbours are stored.
    async fn deliver(&mut self, batch: &mut Vec<Record>) {
        let mut search = Search::new(batch.len());
        while let Some(part) = search.next() {
            let rows = part.len();
            match self.attempt(&batch[part.clone()]).await {
                Ok(verdicts) => self.take(batch, part, verdicts, &mut search),
                Err(error) if error.class == Class::Data => search.refused(part, error),
                Err(error) => {
                    search.again(part);
                    self.wait(&error).await;
                }
            }
            // Nothing of it is taken: what has come meanwhile joins it. It costs the store one write less, and a batch that was
            // too small to speak against the store may do so now.
            if rows == batch.len() && search.may_grow() {
                let mut bytes = bytes_of(batch);
                self.add_waiting(batch, &mut bytes);
                if batch.len() > rows {
                    search = Search::new(batch.len());
                }
            }
            if let Some(error) = self.breaker.trips(&search).map(|(error, rows)| parked(error, rows)) {
                // What is told of a session depends on its start.
                search.start_over(|row| batch[row].message().is_none());
                self.wait(&error).await;
            }
        }
        let bad = search.into_bad();
        self.breaker.count(&bad);
        for (row, error) in bad {
            self.settle([(&batch[row], Verdict::Dead(DeadReason::Data(error.message)))].into_iter());
        }
    }

    /// The store took this part. What it knows no session for, while the start of that session is among the bad rows, shares
    /// the fate of the start.
    fn take(&mut self, batch: &[Record], part: Range<usize>, verdicts: Vec<Verdict>, search: &mut Search) {
        let bad_start = |row: usize, search: &Search| {
            search.error_of(|bad| {
                matches!(batch[bad].body, Body::Start(_))
                    && batch[bad].session_id() == batch[row].session_id()
            })
        };
        let mut taken = Vec::new();
        for (row, verdict) in part.clone().zip(verdicts) {
            let homeless = matches!(
                verdict,
                Verdict::Dead(DeadReason::UnknownSession) | Verdict::Refused(NotDurable::UnknownSession)
            );
            match homeless.then(|| bad_start(row, search)).flatten() {
                Some(error) => search.hold(row, error),
                None => taken.push((&batch[row], verdict)),
            }
        }
        if !taken.is_empty() {
            self.breaker.close();
            search.taken(&part);
            self.settle(taken.into_iter());
        }
    }

    async fn attempt(&mut self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let started = Instant::now();
        let verdicts = self.answer(part).await?;
        self.figures.store_seconds.record(started.elapsed());
        if verdicts.len() == part.len() {
            self.backoff.reset();
            self.outage.is_over(self.number);
            return Ok(verdicts);
        }
        let message = format!("the store answered for {} of {} records", verdicts.len(), part.len());
        Err(StoreError { class: Class::Systemic, message })
    }

    /// The store's answer. That it does not come is told before the store itself gives up on it, which may be long after.
    async fn answer(&self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let mut written = self.store.write(part);
        match tokio::time::timeout(SILENCE, &mut written).await {
            Ok(answer) => answer,
            Err(_) => {
                let cause = format!("the store has not answered for {} s", SILENCE.as_secs());
                self.outage.tell(self.number, &cause);
                (self.settle)(Vec::new());
                written.await
            }
        }
    }

    fn settle<'r>(&self, settled: impl Iterator<Item = (&'r Record, Verdict)>) {
        let told = settled.map(|(record, verdict)| {
            lines::stored(record, &verdict);
            count_deletion(record, &verdict);
            self.load.remove(record);
            (record.seq, verdict)
        });
        (self.settle)(told.collect());
    }

    /// Waits for the next attempt; not to the end where another lane finds the store mended.
    async fn wait(&mut self, error: &StoreError) {
        let over = self.outage.begin(self.number, error);
        // What the other lanes have settled need not wait for this one.
        (self.settle)(Vec::new());
        let pause = self.backoff.next();
        if tokio::time::timeout(pause, over).await.is_ok() {
            self.backoff.reset();
        }
    }
}

fn bytes_of(batch: &[Record]) -> usize {
    batch.iter().map(Record::heap_bytes).sum()
}

/// So many rows fail alike that not they are bad but the store.
fn parked(error: &StoreError, rows: usize) -> StoreError {
    let message =
        format!("{} (the same for {rows} rows: they wait until the store takes them)", error.message);
    StoreError { class: Class::Systemic, message }
}
