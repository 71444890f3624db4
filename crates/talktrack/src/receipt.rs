//! Receipts: how a caller learns that something accepted is durable. One number, the watermark, serves every receipt at
//! once, so that a receipt nobody asks costs nothing.

mod dropped;

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::clock::Seq;
use crate::error::NotDurable;
use crate::receipt::dropped::Dropped;
use crate::record::{Ended, Removed};

/// How many refusals after acceptance are remembered for receipts that ask late.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Everything accepted up to here has its answer.
    answered: Seq,
    /// Nothing more will be answered.
    stopped: bool,
}

/// What is durable so far. The journal writes it, receipts and connections read it.
#[derive(Debug)]
pub(crate) struct Progress {
    mark: watch::Sender<Mark>,
    refused: Mutex<RefusedLater>,
    dropped: Mutex<Dropped>,
    /// How many durable records a remote store has refused since.
    refused_by_store: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct RefusedLater {
    by_seq: BTreeMap<Seq, NotDurable>,
    forgotten_up_to: Seq,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        let mark = watch::Sender::new(Mark { answered: Seq::MIN, stopped: false });
        let (refused, dropped) = (Mutex::default(), Mutex::default());
        Arc::new(Self { mark, refused, dropped, refused_by_store: watch::Sender::new(0) })
    }

    /// Remembers durable records that will never be stored, because what they say was deleted. `up_to` is the highest `seq` that a
    /// receipt of one of these messages can have.
    pub(crate) fn note_dropped(&self, seqs: &[Seq], messages: &[Uuid], up_to: Seq) {
        if !seqs.is_empty() {
            self.dropped.lock().add_records(seqs, messages, up_to);
        }
    }

    /// Tells those who follow these claims that the store refused records of them that were acknowledged. A claim without a user
    /// stands for all users.
    pub(crate) fn note_dropped_claims(&self, claims: &[(Uuid, Option<Uuid>)]) {
        claims.iter().for_each(|claim| self.dropped.lock().add_claim(*claim));
        self.refused_by_store.send_modify(|refusals| *refusals += 1);
    }

    /// Remembers that the remote store refused a record that was durable already, and tells those who follow refusals.
    pub(crate) fn refuse_durable(&self, seq: Seq, why: NotDurable) {
        self.refuse(seq, why);
        self.refused_by_store.send_modify(|refusals| *refusals += 1);
    }

    /// Remembers a refusal. Must be called before the watermark passes it.
    pub(crate) fn refuse(&self, seq: Seq, why: NotDurable) {
        let mut refused = self.refused.lock();
        refused.by_seq.insert(seq, why);
        if refused.by_seq.len() > REMEMBERED
            && let Some((oldest, _)) = refused.by_seq.pop_first()
        {
            refused.forgotten_up_to = oldest;
        }
    }

    /// Moves the watermark: everything accepted up to `seq` is durable or refused.
    pub(crate) fn answer_up_to(&self, seq: Seq) {
        self.mark.send_modify(|mark| mark.answered = mark.answered.max(seq));
    }

    /// Nothing more will become durable: whoever still waits learns it.
    pub(crate) fn stop(&self) {
        self.mark.send_modify(|mark| mark.stopped = true);
    }

    /// A view for a connection that has many messages under way at once.
    pub(crate) fn watch(self: &Arc<Self>) -> Durability {
        Durability { progress: Arc::clone(self), mark: self.mark.subscribe() }
    }

    /// What became of the record with this `seq`: `None` while it is still under way.
    pub(crate) fn outcome_of(&self, seq: Seq) -> Option<Result<(), NotDurable>> {
        let mark = *self.mark.borrow();
        self.outcome(mark, seq)
    }

    fn outcome(&self, mark: Mark, seq: Seq) -> Option<Result<(), NotDurable>> {
        if seq > mark.answered {
            return mark.stopped.then_some(Err(NotDurable::Stopped));
        }
        let refused = self.refused.lock();
        if let Some(why) = refused.by_seq.get(&seq) {
            return Some(Err(*why));
        }
        // Only a receipt older than a forgotten refusal cannot be told apart from a good one.
        Some(if seq <= refused.forgotten_up_to { Err(NotDurable::Forgotten) } else { Ok(()) })
    }
}

/// Follows what a remote store may refuse after it was durable: a start, and with it the claim to a session, or what was said in
/// it.
#[derive(Debug, Clone)]
pub struct Claim {
    progress: Arc<Progress>,
    refusals: watch::Receiver<u64>,
    seq: Seq,
    session_id: Uuid,
    user_id: Uuid,
    /// How often records of the claim had been dropped when that was last told.
    dropped: u64,
}

/// What a remote store refused after it was durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimRefusal {
    /// The start, for this reason: the session is not to be had.
    Start(NotDurable),
    /// Acknowledged records: the session or its user was deleted, by SQL or on another node.
    Records,
}

impl Claim {
    /// Waits until the store refuses the claim, or something of it. If the store never does, it waits for as long as it is asked.
    pub async fn refused(&mut self) -> ClaimRefusal {
        loop {
            self.refusals.borrow_and_update();
            if let Some(Err(why)) = self.progress.outcome_of(self.seq)
                && is_refusal(why)
            {
                return ClaimRefusal::Start(why);
            }
            let dropped = self.progress.dropped.lock().times(self.session_id, self.user_id);
            if dropped > std::mem::replace(&mut self.dropped, dropped) {
                return ClaimRefusal::Records;
            }
            // The sender lives in `self.progress`: an error cannot come.
            let _ = self.refusals.changed().await;
        }
    }
}

/// True if the store said that the session is not to be had, so that the claim to it falls.
pub(crate) fn is_refusal(why: NotDurable) -> bool {
    matches!(why, NotDurable::OtherUser | NotDurable::Deleted)
}

/// Follows what becomes durable; for callers with many messages under way. See [`Tracker::durability`](crate::Tracker::durability).
#[derive(Debug)]
pub struct Durability {
    progress: Arc<Progress>,
    mark: watch::Receiver<Mark>,
}

impl Durability {
    /// Waits until more has become durable since the last call.
    pub async fn changed(&mut self) {
        // The sender lives in `self.progress`: it cannot be gone.
        let _ = self.mark.changed().await;
    }

    /// Everything accepted up to this `seq` has its answer; the highest there is, if nothing more will be answered.
    pub fn answered(&self) -> Seq {
        let mark = *self.mark.borrow();
        if mark.stopped { Seq::MAX } else { mark.answered }
    }

    /// What became of the record with this `seq`: `None` while it is still under way.
    pub fn outcome(&self, seq: Seq) -> Option<Result<(), NotDurable>> {
        self.progress.outcome_of(seq)
    }

    /// Waits until nothing more will become durable.
    pub(crate) async fn stopped(&mut self) {
        let _ = self.mark.wait_for(|mark| mark.stopped).await;
    }

    /// Waits for one record's outcome.
    ///
    /// # Errors
    /// Where it was refused after acceptance; see [`NotDurable`].
    pub async fn wait(&mut self, seq: Seq) -> Result<(), NotDurable> {
        loop {
            let mark = *self.mark.borrow_and_update();
            if let Some(outcome) = self.progress.outcome(mark, seq) {
                return outcome;
            }
            self.changed().await;
        }
    }
}

/// Proof of acceptance. Await it to learn that the message is durable, or drop it.
#[derive(Debug, Clone)]
#[must_use = "accepted is not durable: await the receipt, or drop it on purpose"]
pub struct Receipt {
    id: Uuid,
    seq: Seq,
    progress: Arc<Progress>,
}

impl Receipt {
    pub(crate) fn new(id: Uuid, seq: Seq, progress: Arc<Progress>) -> Self {
        Self { id, seq, progress }
    }

    /// The message's id in the store (the session's, for a session's receipt).
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// Its place in the order of acceptance.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// True if the record is durable and will never be stored, because what it says was deleted.
    pub(crate) fn was_dropped(&self) -> bool {
        self.progress.dropped.lock().contains(self.seq, self.id)
    }

    /// Waits until the message is durable.
    ///
    /// # Errors
    /// Where it was refused after acceptance; see [`NotDurable`].
    pub async fn durable(self) -> Result<(), NotDurable> {
        self.progress.watch().wait(self.seq).await
    }
}

impl IntoFuture for Receipt {
    type Output = Result<(), NotDurable>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.durable())
    }
}

/// A session's start became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The session was there before and goes on.
    pub resumed: bool,
}

/// A receipt that resolves with what the journal found: [`Started`] or [`Ended`].
#[derive(Debug)]
#[must_use = "accepted is not durable: await the receipt, or drop it on purpose"]
pub struct SessionReceipt<T> {
    answer: oneshot::Receiver<Result<T, NotDurable>>,
    seq: Seq,
    progress: Arc<Progress>,
}

impl<T> SessionReceipt<T> {
    pub(crate) fn new(
        answer: oneshot::Receiver<Result<T, NotDurable>>,
        seq: Seq,
        progress: &Arc<Progress>,
    ) -> Self {
        Self { answer, seq, progress: Arc::clone(progress) }
    }

    /// Follows what a remote store says of it, and of what is written in the claim of this user, after it was durable.
    pub fn claim(&self, session_id: Uuid, user_id: Uuid) -> Claim {
        let (progress, seq) = (Arc::clone(&self.progress), self.seq);
        let refusals = progress.refused_by_store.subscribe();
        let dropped = progress.dropped.lock().times(session_id, user_id);
        Claim { progress, refusals, seq, session_id, user_id, dropped }
    }

    /// Waits until it is durable.
    ///
    /// # Errors
    /// Where it was refused after acceptance; see [`NotDurable`].
    pub async fn durable(self) -> Result<T, NotDurable> {
        self.answer.await.unwrap_or(Err(NotDurable::Stopped))
    }
}

/// A deletion is under way. What it removes here, and what in a remote store: the same receipt twice where there is none.
#[derive(Debug)]
#[must_use = "accepted is not durable: await the receipts, or drop them on purpose"]
pub struct Deletion {
    /// Resolves when it is durable: nothing of the session is left on this machine. Where this file is the store, these are
    /// all figures.
    pub here: SessionReceipt<Removed>,
    /// Resolves when the remote store has done it too, with what was there; at once, with nothing, where there is none. It
    /// waits for as long as the store is away, and gives up with the tracker: the next start goes on with it.
    pub in_store: SessionReceipt<Removed>,
}

/// Who waits for what a deletion removes.
#[derive(Debug)]
pub(crate) struct Deleting {
    pub(crate) here: oneshot::Sender<Result<Removed, NotDurable>>,
    pub(crate) in_store: oneshot::Sender<Result<Removed, NotDurable>>,
}

/// Where the figures of a deletion arrive.
#[derive(Debug)]
pub(crate) struct Deleted {
    here: oneshot::Receiver<Result<Removed, NotDurable>>,
    in_store: oneshot::Receiver<Result<Removed, NotDurable>>,
}

impl Deletion {
    /// The two ends of an answer that is to come.
    pub(crate) fn channel() -> (Deleting, Deleted) {
        let ((here, is_gone_here), (in_store, is_gone_in_store)) = (oneshot::channel(), oneshot::channel());
        (Deleting { here, in_store }, Deleted { here: is_gone_here, in_store: is_gone_in_store })
    }

    /// The deletion that was accepted at this place.
    pub(crate) fn new(answers: Deleted, seq: Seq, progress: &Arc<Progress>) -> Self {
        Self {
            here: SessionReceipt::new(answers.here, seq, progress),
            in_store: SessionReceipt::new(answers.in_store, seq, progress),
        }
    }
}

/// Who waits for a session record's figures.
#[derive(Debug, Default)]
pub(crate) enum Reply {
    #[default]
    Nobody,
    Started(oneshot::Sender<Result<Started, NotDurable>>),
    Ended(oneshot::Sender<Result<Ended, NotDurable>>),
    Deleted(Deleting),
}
