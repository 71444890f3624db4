//! A lane: one write in flight, so that each session in it keeps its order.

mod receiving;
mod forgetting;
mod judging;

use std::collections::{HashSet, VecDeque};
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, select};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use crate::books::{Figures, count_deletion};
use crate::error::NotDurable;
use crate::lines;
use crate::record::{Body, DeadReason, Record, Verdict};
use crate::retry::Backoff;
use crate::store::{Class, Delivery, Numbers, Store, StoreError};
use crate::writer::breaker::Breaker;
use crate::writer::lane::forgetting::Again;
use crate::writer::lane::receiving::bytes_of;
use crate::writer::load::Load;
use crate::writer::outage::Outage;
use crate::writer::parking::{Kind, Parking, Why};
use crate::writer::search::Search;
use crate::writer::{Answer, Feed, Settle, Settled, StoreClaim};

pub(super) use crate::writer::lane::judging::Suspects;

/// Records in one write.
const BATCH: usize = 1_000;
/// A store that takes longer than this to answer has a problem, and people should hear of it.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) struct Lane {
    /// The data directory that its records come from.
    pub(super) node: Uuid,
    pub(super) number: usize,
    /// The numbers of its deliveries.
    pub(super) numbers: Numbers,
    /// No earlier process of this node can have sent a number that the store may still take.
    pub(super) is_known: bool,
    /// The number that the store held when it was last asked.
    pub(super) held_before: Option<i64>,
    /// The store was asked for the number of the last delivery since the process began.
    pub(super) is_checked: bool,
    /// Deletions that the store has forgotten.
    pub(super) again: Option<Again>,
    pub(super) records: UnboundedReceiver<Feed>,
    /// Received already, to see whose it is, and next.
    pub(super) ahead: VecDeque<Feed>,
    pub(super) store: Arc<dyn Store>,
    pub(super) claim: Arc<StoreClaim>,
    pub(super) settle: Settle,
    pub(super) load: Arc<Load>,
    pub(super) outage: Arc<Outage>,
    pub(super) figures: Figures,
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
            self.deliver(&mut batch).await;
            batch.clear();
        }
    }

    /// Brings the records to the store, however long it takes. The rows that it does not take are parked or laid aside, and
    /// their neighbours are stored.
    async fn deliver(&mut self, batch: &mut Vec<Record>) {
        if !self.is_checked && !self.check().await {
            return;
        }
        let mut last = self.last_attempts(batch);
        let mut search = self.search(batch);
        let (mut accepted, mut set_aside) = (HashSet::new(), Vec::new());
        while let Some(part) = search.next().filter(|part| !part.is_empty()) {
            let rows = part.len();
            match self.attempt(&batch[part.clone()]).await {
                Ok(verdicts) => accepted.extend(self.take(batch, part, verdicts, &mut search)),
                Err(error) => {
                    if error.is_outcome_unknown {
                        batch[part.clone()].iter_mut().for_each(Record::may_have_been_seen);
                    }
                    if error.class == Class::Data {
                        self.outage.answers(self.number);
                        if let Some(bad) = search.refused(part, error, |row| Kind::of(&batch[row])) {
                            set_aside.extend(self.found_bad(bad, batch, &mut search));
                        }
                    } else {
                        search.again(part);
                        self.wait(&error).await;
                        // Whether the store still has what it confirmed, nobody knows now.
                        if !self.check().await {
                            return;
                        }
                    }
                }
            }
            // Nothing of it is taken: what has come meanwhile joins it. It costs the store one write less.
            if rows == batch.len() && search.may_grow() {
                let mut bytes = bytes_of(batch);
                self.add_waiting(batch, &mut bytes);
                last = self.last_attempts(batch);
                search = self.search(batch);
            }
        }
        self.judge_all(batch, search.into_bad(), &accepted, &last);
        self.put_back(&set_aside, &accepted);
    }

    /// The store took this part. What it knows no session for waits for the session, unless that is known to come never. Says
    /// of which kinds it took rows.
    fn take(
        &mut self,
        batch: &[Record],
        part: Range<usize>,
        verdicts: Vec<Verdict>,
        search: &mut Search,
    ) -> Vec<Kind> {
        let (mut taken, mut accepted) = (Vec::new(), Vec::new());
        for (row, verdict) in part.zip(verdicts) {
            let record = &batch[row];
            let bad_start = |bad: usize| {
                matches!(batch[bad].body, Body::Start(_)) && batch[bad].session_id() == record.session_id()
            };
            if is_homeless(&verdict) {
                match search.error_of(bad_start) {
                    // It shares the fate of its session's start.
                    Some(error) => search.hold(row, error),
                    None => taken.push((record, self.without_session(record))),
                }
                continue;
            }
            if let (Body::Start(start), Verdict::Started { .. }) = (&record.body, &verdict) {
                self.parking.forget_bad_start(start.session_id);
            }
            let kind = Kind::of(record);
            if !accepted.contains(&kind) && is_accepted(&verdict) {
                accepted.push(kind);
                self.breaker.accepted(kind);
            }
            taken.push((record, verdict));
        }
        self.settle(taken.into_iter());
        accepted
    }

    /// What becomes of a record whose session the store does not know.
    fn without_session(&self, record: &Record) -> Verdict {
        if let Some(error) = self.parking.bad_start(record.session_id()) {
            Verdict::Dead(DeadReason::Data(format!("its session cannot be stored: {error}")))
        } else if self.parking.park(record, Why::Unknown) {
            Verdict::Waits
        } else {
            Verdict::Dead(DeadReason::UnknownSession)
        }
    }

    async fn attempt(&mut self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let started = Instant::now();
        let before = self.numbers.last();
        let verdicts = match self.load.without_deleted(part) {
            None => self.answer(part).await?,
            Some(left) => self.answer_for(part, &left).await?,
        };
        self.figures.store_seconds.record(started.elapsed());
        self.is_known |= self.numbers.last() != before;
        if verdicts.len() == part.len() {
            self.backoff.reset();
            self.outage.is_over(self.number);
            return Ok(verdicts);
        }
        let message = format!("the store answered for {} of {} records", verdicts.len(), part.len());
        Err(StoreError { is_outcome_unknown: true, ..StoreError::new(Class::Systemic, message) })
    }

    /// The same if some of the records are of deleted sessions: the store is not bothered with those.
    async fn answer_for(&self, part: &[Record], left: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let mut verdicts = if left.is_empty() { Vec::new() } else { self.answer(left).await? }.into_iter();
        let mut left = left.iter().peekable();
        let verdict = |record: &Record| match left.next_if(|next| next.seq == record.seq) {
            Some(_) => verdicts.next(),
            None => Some(Verdict::Dead(DeadReason::DeletedForUser)),
        };
        Ok(part.iter().map_while(verdict).collect())
    }

    /// The store's answer to a write.
    async fn answer(&self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        self.tell_silence(self.write_if_it_is_the_store(part)).await
    }

    /// What the store answers to any call. That it does not come is told before the store itself gives up on it, which may be
    /// long after.
    async fn tell_silence<T>(&self, call: impl Future<Output = T>) -> T {
        let mut call = pin!(call);
        match tokio::time::timeout(SILENCE, &mut call).await {
            Ok(answer) => answer,
            Err(_) => {
                let cause = format!("the store has not answered for {} s", SILENCE.as_secs());
                self.outage.tell(self.number, &cause);
                (self.settle)(Answer::Wake);
                call.await
            }
        }
    }

    async fn write_if_it_is_the_store(&self, part: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        self.claim.confirm().await?;
        if self.claim.is_unwritten() {
            // The journal's thread notes the store with its next commit.
            (self.settle)(Answer::Wake);
        }
        self.store.write(Delivery::new(self.node, self.number, part).numbered(&self.numbers)).await
    }

    fn settle<'r>(&self, settled: impl Iterator<Item = (&'r Record, Verdict)>) {
        let told = settled.map(|(record, verdict)| {
            let (verdict, removed) = match verdict {
                Verdict::Expired(removed, rows) => (Verdict::Deleted(removed), Some(rows)),
                verdict => (verdict, None),
            };
            lines::stored(record, &verdict);
            count_deletion(record, &verdict);
            self.load.remove(record);
            let (seq, deletes) = (record.seq, record.is_deletion() && !is_mark_of_nothing(record, &verdict));
            Settled { seq, deletes, is_message: record.message().is_some(), verdict, removed }
        });
        let (lane, delivery, records) = (self.number, self.numbers.last(), told.collect());
        (self.settle)(Answer::Settled { lane, delivery, records });
    }

    /// Waits for the next attempt; not to the end where another lane finds the store mended.
    pub(super) async fn wait(&mut self, error: &StoreError) {
        let over = self.outage.begin(self.number, error);
        // What the other lanes have settled need not wait for this one.
        (self.settle)(Answer::Wake);
        let pause = self.backoff.next();
        // What was deleted must not stay in memory until then.
        let deleted = pin!(self.load.deleted());
        if let Ok(Either::Left(_)) = tokio::time::timeout(pause, select(pin!(over), deleted)).await {
            self.backoff.reset();
        }
    }
}

/// True if a user deleted a session that is not there. Anyone may do so at will: it stays in the re-send window no longer than any
/// other record.
fn is_mark_of_nothing(record: &Record, verdict: &Verdict) -> bool {
    let Verdict::Deleted(removed) = verdict else { return false };
    let is_a_users = matches!(&record.body, Body::Delete(delete) if delete.owner.is_some());
    is_a_users && removed.sessions == 0 && removed.messages == 0
}

fn is_homeless(verdict: &Verdict) -> bool {
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
        | Verdict::Revised
        | Verdict::Started { .. }
        | Verdict::Updated
        | Verdict::Ended(_) => true,
        Verdict::AlreadyThere
        | Verdict::Journaled
        | Verdict::Waits
        | Verdict::GoesOn
        | Verdict::Deleted(_)
        | Verdict::Expired(..)
        | Verdict::Refused(_)
        | Verdict::Dead(_) => false,
    }
}
