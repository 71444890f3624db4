//! A lane has one write in flight, so that each of its sessions keeps its order.

mod receiving;
mod data_loss;
mod judging;

use std::collections::VecDeque;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use talktrack_core::error::NotDurable;
use talktrack_core::record::{Body, DeadReason, Record, RemovedRows, Verdict};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::event_log;
use crate::health::Reporter;
use crate::metric_handles::{MetricHandles, count_outcome};
use crate::retry::Backoff;
use crate::store::{Delivery, DeliveryNumbers, ErrorClass, Store, StoreError};
use crate::writer::bisect::PoisonSearch;
use crate::writer::breaker::Breaker;
use crate::writer::lane::data_loss::LostDeletions;
use crate::writer::lane::receiving::bytes_of;
use crate::writer::load::Load;
use crate::writer::outage::Outage;
use crate::writer::parking::{ParkReason, Parking, RowKind};
use crate::writer::{Feed, LaneReport, ReportSink, Settled, StoreClaim};

pub(super) use crate::writer::lane::judging::Suspects;

/// The maximum number of records in one write.
const BATCH: usize = 1_000;
/// If the store takes longer than this to answer, that is reported as a problem.
const SLOW_ANSWER: Duration = Duration::from_secs(5);

pub(super) struct Lane {
    /// The data directory that the records come from.
    pub(super) node: Uuid,
    pub(super) number: usize,
    /// The numbers of the lane's deliveries.
    pub(super) numbers: DeliveryNumbers,
    /// True if no earlier process of this node can have sent a number that the store may still accept.
    pub(super) is_known: bool,
    /// The delivery number that the store had at the last comparison.
    pub(super) held_before: Option<i64>,
    /// True if the store's delivery number has been compared since the process started.
    pub(super) is_checked: bool,
    /// Deletions that the store has lost.
    pub(super) lost_deletions: Option<LostDeletions>,
    pub(super) records: UnboundedReceiver<Feed>,
    /// Feeds that were received early, to see whose records they are. They are processed next.
    pub(super) ahead: VecDeque<Feed>,
    pub(super) store: Arc<dyn Store>,
    pub(super) claim: Arc<StoreClaim>,
    pub(super) report: ReportSink,
    pub(super) load: Arc<Load>,
    pub(super) outage: Arc<Outage>,
    pub(super) metrics: MetricHandles,
    pub(super) backoff: Backoff,
    pub(super) breaker: Arc<Breaker>,
    pub(super) parking: Arc<Parking>,
    pub(super) suspects: Suspects,
}

impl Lane {
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        self.check_idle().await;
        while self.receive_batch(&mut batch).await {
            self.deliver_batch(&mut batch).await;
            batch.clear();
        }
    }

    /// Delivers the records to the store, however long that takes. Rows that the store does not accept are parked or
    /// become dead letters, and all other rows are stored.
    async fn deliver_batch(&mut self, batch: &mut Vec<Record>) {
        if !self.is_checked && !self.check_for_loss().await {
            return;
        }
        let mut last = self.last_attempts(batch);
        let mut search = self.start_search(batch);
        let mut set_aside = Vec::new();
        while let Some(part) = search.next().filter(|part| !part.is_empty()) {
            let rows = part.len();
            match self.attempt_write(&batch[part.clone()]).await {
                Ok(verdicts) => self.handle_verdicts(batch, part, verdicts, &mut search),
                Err(error) => {
                    if error.is_outcome_unknown {
                        batch[part.clone()].iter_mut().for_each(Record::mark_as_retry);
                    }
                    if error.class == ErrorClass::Data {
                        self.outage.report_answer(self.number);
                        if let Some(bad) = search.split_refused(part, error, |row| RowKind::new(&batch[row]))
                        {
                            set_aside.extend(self.handle_bad_row(bad, batch, &mut search));
                        }
                    } else {
                        search.retry_part(part);
                        self.wait_for_retry(&error).await;
                        // It is now unknown whether the store still has what it confirmed.
                        if !self.check_for_loss().await {
                            return;
                        }
                    }
                }
            }
            // Nothing of the batch was accepted, so records that have arrived in the meantime join it. This saves the
            // store a write.
            if rows == batch.len() && search.may_grow() {
                let mut bytes = bytes_of(batch);
                self.add_waiting(batch, &mut bytes);
                last = self.last_attempts(batch);
                search = self.start_search(batch);
            }
        }
        let (bad, accepted) = search.into_parts();
        self.judge_refused(batch, bad, &accepted, &last);
        self.return_records(set_aside.iter().map(|(record, kind)| (record, *kind)), &accepted);
    }

    /// Handles the verdicts of a part that the store took. A record whose session the store does not know is parked,
    /// unless it is known that the session will never arrive.
    fn handle_verdicts(
        &mut self,
        batch: &[Record],
        part: Range<usize>,
        verdicts: Vec<Verdict>,
        search: &mut PoisonSearch,
    ) {
        let mut taken = Vec::new();
        for (row, verdict) in part.zip(verdicts) {
            let record = &batch[row];
            let bad_start = |bad: usize| {
                matches!(batch[bad].body, Body::Start(_)) && batch[bad].session_id() == record.session_id()
            };
            if is_session_missing(&verdict) {
                // The record is treated like the failed start of its session.
                if !search.mark_dependent(row, bad_start) {
                    taken.push((record, self.judge_without_session(record)));
                }
                continue;
            }
            if let (Body::Start(start), Verdict::Started { .. }) = (&record.body, &verdict) {
                self.parking.forget_bad_start(start.session_id);
            }
            let kind = RowKind::new(record);
            if is_accepted(&verdict) && search.note_accepted(kind) {
                self.breaker.note_accepted(kind);
            }
            taken.push((record, verdict));
        }
        self.report_verdicts(taken.into_iter());
    }

    /// Returns the verdict on a record whose session the store does not know.
    fn judge_without_session(&self, record: &Record) -> Verdict {
        if let Some(error) = self.parking.bad_start(record.session_id()) {
            Verdict::Dead(DeadReason::Data(format!("its session cannot be stored: {error}")))
        } else if self.parking.park(record, ParkReason::Unknown) {
            Verdict::Waits
        } else {
            Verdict::Dead(DeadReason::UnknownSession)
        }
    }

    async fn attempt_write(&mut self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let started = Instant::now();
        let before = self.numbers.last();
        let verdicts = match self.load.without_deleted(part) {
            None => self.write_part(part).await?,
            Some(left) => self.write_remaining(part, &left).await?,
        };
        self.metrics.store_seconds.record(started.elapsed());
        self.is_known |= self.numbers.last() != before;
        if verdicts.len() == part.len() {
            self.backoff.reset();
            self.outage.report_success(Reporter::Lane(self.number));
            return Ok(verdicts);
        }
        let message = format!("the store answered for {} of {} records", verdicts.len(), part.len());
        Err(StoreError { is_outcome_unknown: true, ..StoreError::new(ErrorClass::Systemic, message) })
    }

    /// Writes `left`, which is `part` without the records of deleted sessions, and returns the verdicts for all of
    /// `part`.
    async fn write_remaining(&self, part: &[Record], left: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let mut verdicts =
            if left.is_empty() { Vec::new() } else { self.write_part(left).await? }.into_iter();
        let mut left = left.iter().peekable();
        let verdict = |record: &Record| match left.next_if(|next| next.seq == record.seq) {
            Some(_) => verdicts.next(),
            None => Some(Verdict::Dead(DeadReason::DeletedForUser)),
        };
        Ok(part.iter().map_while(verdict).collect())
    }

    /// Writes to the store and returns its answer.
    async fn write_part(&self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        self.report_if_slow(self.write_to_claimed_store(part)).await
    }

    /// Awaits any call to the store. A missing answer is reported long before the store itself may give up on it.
    async fn report_if_slow<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        match tokio::time::timeout(SLOW_ANSWER, &mut call).await {
            Ok(answer) => answer,
            Err(_) => {
                let cause = format!("the store has not answered for {} s", SLOW_ANSWER.as_secs());
                self.outage.report_outage(Reporter::Lane(self.number), &cause);
                (self.report)(LaneReport::Wake);
                call.await
            }
        }
    }

    async fn write_to_claimed_store(&self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        self.claim.confirm().await?;
        if self.claim.is_unwritten() {
            // The journal's thread notes the store with its next commit.
            (self.report)(LaneReport::Wake);
        }
        self.store.write(Delivery::new(self.node, self.number, part).numbered(&self.numbers)).await
    }

    fn report_verdicts<'r>(&self, settled: impl Iterator<Item = (&'r Record, Verdict)>) {
        let told = settled.map(|(record, verdict)| {
            let (verdict, removed) = match verdict {
                Verdict::Expired(removed, rows) => (Verdict::Deleted(removed), Some(rows)),
                Verdict::Edited(edited) => {
                    let rows = RemovedRows { session: false, messages: edited.removed.clone() };
                    (Verdict::Edited(edited), Some(rows))
                }
                verdict => (verdict, None),
            };
            event_log::log_verdict(record, &verdict);
            count_outcome(record, &verdict);
            self.load.remove(record);
            let seq = record.seq;
            let deletes = deletes_rows(record, &verdict);
            Settled { seq, deletes, is_message: record.message().is_some(), verdict, removed }
        });
        let lane = self.number;
        let delivery = self.numbers.last();
        let records = told.collect();
        (self.report)(LaneReport::Settled { lane, delivery, records });
    }

    /// Waits for the next attempt. The wait ends early if another lane finds that the store works again.
    pub(super) async fn wait_for_retry(&mut self, error: &StoreError) {
        let over = self.outage.report_failure(self.number, error);
        // What the other lanes have settled does not wait for this lane.
        (self.report)(LaneReport::Wake);
        let pause = self.backoff.next();
        // Deleted records must not stay in memory until then.
        let deleted = pin!(self.load.wait_for_deletion());
        if let Ok(Either::Left(_)) = tokio::time::timeout(pause, select(pin!(over), deleted)).await {
            self.backoff.reset();
        }
    }
}

/// True if the record is kept as a deletion, which is longer than others. A user can delete sessions and messages that do
/// not exist any number of times, so such a record stays in the re-send window no longer than any other record.
fn deletes_rows(record: &Record, verdict: &Verdict) -> bool {
    match (&record.body, verdict) {
        (Body::Delete(delete), Verdict::Deleted(removed)) => {
            delete.owner.is_none() || removed.sessions > 0 || removed.messages > 0
        }
        (Body::EditMessages(_), Verdict::Edited(edited)) => !edited.removed.is_empty(),
        _ => record.is_deletion(),
    }
}

fn is_session_missing(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Dead(DeadReason::UnknownSession) | Verdict::Refused(NotDurable::UnknownSession)
    )
}

/// True if the store wrote a row.
fn is_accepted(verdict: &Verdict) -> bool {
    match verdict {
        Verdict::Inserted
        | Verdict::Reopened(_)
        | Verdict::Revised { .. }
        | Verdict::Started { .. }
        | Verdict::Updated
        | Verdict::Ended(_) => true,
        Verdict::AlreadyThere
        | Verdict::Journaled
        | Verdict::Waits
        | Verdict::StaysActive
        | Verdict::Deleted(_)
        | Verdict::Expired(..)
        | Verdict::Edited(_)
        | Verdict::Refused(_)
        | Verdict::Dead(_) => false,
    }
}
