//! Receipts tell a caller when an accepted record is durable. One number, the watermark, serves every receipt, so that
//! a receipt that is never awaited costs nothing.

mod claim;
mod dropped;

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use talktrack_core::clock::Seq;
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{DeletionCounts, Ended};
use talktrack_core::store::EditedMessages;
use tokio::sync::{oneshot, watch};

use crate::receipt::dropped::DroppedRecords;

pub use claim::{Claim, ClaimRefusal, Refusals};

/// The number of refusals after acceptance that are remembered for receipts that are awaited late.
const REMEMBERED: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watermark {
    /// The watermark: everything accepted up to this `seq` has its answer.
    answered: Seq,
    /// True if no further record will be answered.
    stopped: bool,
}

/// What is durable so far. The journal writes it. Receipts and connections read it.
#[derive(Debug)]
pub(crate) struct Progress {
    mark: watch::Sender<Watermark>,
    refused: Mutex<LateRefusals>,
    dropped: Mutex<DroppedRecords>,
    /// The number of durable records that a remote store has refused.
    refused_by_store: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct LateRefusals {
    by_seq: BTreeMap<Seq, NotDurable>,
    forgotten_up_to: Seq,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        let mark = watch::Sender::new(Watermark { answered: Seq::MIN, stopped: false });
        let refused = Mutex::default();
        let dropped = Mutex::default();
        Arc::new(Self { mark, refused, dropped, refused_by_store: watch::Sender::new(0) })
    }

    /// Remembers durable records that will never be stored because their content was deleted. `up_to` is the highest
    /// `seq` that a receipt of one of these messages can have.
    pub(crate) fn note_dropped(&self, seqs: &[Seq], messages: &[MessageId], up_to: Seq) {
        if !seqs.is_empty() {
            self.dropped.lock().add_records(seqs, messages, up_to);
        }
    }

    /// Notifies those who follow these claims that the store refused acknowledged records of them. A claim without a
    /// user stands for all users.
    pub(crate) fn note_dropped_claims(&self, claims: &[(SessionId, Option<UserId>)]) {
        claims.iter().for_each(|claim| self.dropped.lock().add_claim(claim.clone()));
        self.refused_by_store.send_modify(|refusals| *refusals += 1);
    }

    /// Remembers that the remote store refused a record that was already durable, and notifies those who follow
    /// refusals.
    pub(crate) fn note_late_refusal(&self, seq: Seq, why: NotDurable) {
        self.note_refusal(seq, why);
        self.refused_by_store.send_modify(|refusals| *refusals += 1);
    }

    /// Remembers a refusal. Must be called before the watermark passes `seq`.
    pub(crate) fn note_refusal(&self, seq: Seq, why: NotDurable) {
        let mut refused = self.refused.lock();
        refused.by_seq.insert(seq, why);
        if refused.by_seq.len() > REMEMBERED
            && let Some((oldest, _)) = refused.by_seq.pop_first()
        {
            refused.forgotten_up_to = oldest;
        }
    }

    /// Moves the watermark: everything accepted up to `seq` is durable or refused.
    pub(crate) fn advance_watermark(&self, seq: Seq) {
        self.mark.send_modify(|mark| mark.answered = mark.answered.max(seq));
    }

    /// Marks that nothing more will become durable. Everyone who still waits is told.
    pub(crate) fn stop(&self) {
        self.mark.send_modify(|mark| mark.stopped = true);
    }

    /// Returns a view for a connection that has many messages in flight.
    pub(crate) fn watch(self: &Arc<Self>) -> Durability {
        Durability { progress: Arc::clone(self), mark: self.mark.subscribe() }
    }

    /// Returns a view of the refusals of a remote store.
    pub(crate) fn watch_refusals(self: &Arc<Self>) -> Refusals {
        Refusals::new(Arc::clone(self), self.refused_by_store.subscribe())
    }

    /// Returns the outcome of the record with this `seq`, or `None` if it has no answer yet.
    pub(crate) fn outcome_of(&self, seq: Seq) -> Option<Result<(), NotDurable>> {
        let mark = *self.mark.borrow();
        self.outcome(mark, seq)
    }

    fn outcome(&self, mark: Watermark, seq: Seq) -> Option<Result<(), NotDurable>> {
        if seq > mark.answered {
            return mark.stopped.then_some(Err(NotDurable::Stopped));
        }
        let refused = self.refused.lock();
        if let Some(why) = refused.by_seq.get(&seq) {
            return Some(Err(*why));
        }
        // A receipt older than a forgotten refusal is the only one that cannot be told apart from a success.
        Some(if seq <= refused.forgotten_up_to { Err(NotDurable::Forgotten) } else { Ok(()) })
    }
}

/// True if the store refused the session itself, which voids the claim to it.
pub(crate) fn voids_claim(why: NotDurable) -> bool {
    matches!(why, NotDurable::OtherUser | NotDurable::Deleted)
}

/// Follows the durability watermark, for callers that have many messages in flight. See
/// [`Tracker::durability`](crate::Tracker::durability).
#[derive(Debug)]
pub struct Durability {
    progress: Arc<Progress>,
    mark: watch::Receiver<Watermark>,
}

impl Durability {
    /// Waits until more has become durable since the last call, or until the tracker has stopped. After that it never
    /// returns: look at [`Self::answered`], which is then `Seq::MAX`.
    pub async fn changed(&mut self) {
        // The sender lives in `self.progress`, so it cannot be gone.
        let _ = self.mark.changed().await;
    }

    /// Returns the watermark: everything accepted up to this `seq` has its answer. Returns `Seq::MAX` if nothing more
    /// will be answered.
    pub fn answered(&self) -> Seq {
        let mark = *self.mark.borrow();
        if mark.stopped { Seq::MAX } else { mark.answered }
    }

    /// Returns the outcome of the record with this `seq`, or `None` if it has no answer yet.
    pub fn outcome(&self, seq: Seq) -> Option<Result<(), NotDurable>> {
        self.progress.outcome_of(seq)
    }

    /// Waits until nothing more will become durable.
    pub(crate) async fn stopped(&mut self) {
        let _ = self.mark.wait_for(|mark| mark.stopped).await;
    }

    /// Waits for the outcome of one record.
    ///
    /// # Errors
    /// A [`NotDurable`] if the record was refused after acceptance.
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

/// Proof that a message was accepted. Await it to learn that the message is durable, or drop it.
#[derive(Debug, Clone)]
#[must_use = "accepted is not durable: await the receipt, or drop it on purpose"]
pub struct Receipt {
    id: MessageId,
    record: RecordReceipt,
}

impl Receipt {
    pub(crate) fn new(id: MessageId, seq: Seq, progress: Arc<Progress>) -> Self {
        Self { id, record: RecordReceipt::new(Some(id), seq, progress) }
    }

    /// Returns the message's id in the store.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Returns the message's place in the order of acceptance.
    pub fn seq(&self) -> Seq {
        self.record.seq
    }

    /// Returns the same receipt without the message's id.
    pub fn as_record(&self) -> &RecordReceipt {
        &self.record
    }

    /// Waits until the message is durable.
    ///
    /// # Errors
    /// A [`NotDurable`] if the message was refused after acceptance.
    pub async fn durable(self) -> Result<(), NotDurable> {
        self.record.durable().await
    }
}

/// Proof that a record was accepted that need not be a message: an update of a session's metadata, or a dead letter that
/// is replayed. Await it to learn that the record is durable, or drop it.
#[derive(Debug, Clone)]
#[must_use = "accepted is not durable: await the receipt, or drop it on purpose"]
pub struct RecordReceipt {
    /// The message, if the record is one.
    message_id: Option<MessageId>,
    seq: Seq,
    progress: Arc<Progress>,
}

impl RecordReceipt {
    pub(crate) fn new(message_id: Option<MessageId>, seq: Seq, progress: Arc<Progress>) -> Self {
        Self { message_id, seq, progress }
    }

    /// Returns the record's place in the order of acceptance.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Returns the message's id in the store, if the record is a message.
    pub fn message_id(&self) -> Option<MessageId> {
        self.message_id
    }

    /// True if the record is durable and will never be stored because its content was deleted.
    pub(crate) fn was_dropped(&self) -> bool {
        self.progress.dropped.lock().contains(self.seq, self.message_id)
    }

    /// Waits until the record is durable.
    ///
    /// # Errors
    /// A [`NotDurable`] if the record was refused after acceptance.
    pub async fn durable(self) -> Result<(), NotDurable> {
        self.progress.watch().wait(self.seq).await
    }
}

impl IntoFuture for RecordReceipt {
    type Output = Result<(), NotDurable>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.durable())
    }
}

impl IntoFuture for Receipt {
    type Output = Result<(), NotDurable>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.durable())
    }
}

/// The result of a session's start that became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Started {
    /// True if the session existed before and was resumed.
    pub resumed: bool,
}

impl Started {
    /// Creates the result of a start.
    pub fn new(resumed: bool) -> Self {
        Self { resumed }
    }
}

/// A receipt that resolves with what the journal found: [`Started`], [`Ended`] or [`DeletionCounts`].
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

    /// Returns the record's place in the order of acceptance.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Follows what a remote store says about this start, and about records written in the claim of this user, after
    /// they were durable.
    pub fn claim(&self, session_id: SessionId, user_id: UserId) -> Claim {
        Claim::new(&self.progress, self.seq, session_id, user_id)
    }

    /// Waits until the record is durable.
    ///
    /// # Errors
    /// A [`NotDurable`] if the record was refused after acceptance.
    pub async fn durable(self) -> Result<T, NotDurable> {
        self.answer.await.unwrap_or(Err(NotDurable::Stopped))
    }
}

impl<T: Send + 'static> IntoFuture for SessionReceipt<T> {
    type Output = Result<T, NotDurable>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.durable())
    }
}

/// A deletion in progress, with one receipt for this machine and one for the remote store. Without a remote store, only
/// the first has counts.
#[derive(Debug)]
#[must_use = "accepted is not durable: await the receipts, or drop them on purpose"]
#[non_exhaustive]
pub struct Deletion {
    /// Resolves when the deletion is durable: nothing of the session is left on this machine. If the SQLite file is the
    /// store, these are the complete counts.
    pub here: SessionReceipt<DeletionCounts>,
    /// Resolves when the remote store has confirmed the deletion, with what it removed there. Without a remote store it
    /// resolves at once, with zero counts. It waits for as long as the store is away, and fails if the tracker stops:
    /// the next start continues the deletion.
    pub in_store: SessionReceipt<DeletionCounts>,
}

/// The senders for the counts of a deletion.
#[derive(Debug)]
pub(crate) struct DeletionSenders {
    pub(crate) here: oneshot::Sender<Result<DeletionCounts, NotDurable>>,
    pub(crate) in_store: oneshot::Sender<Result<DeletionCounts, NotDurable>>,
}

/// The receivers for the counts of a deletion.
#[derive(Debug)]
pub(crate) struct DeletionReceivers {
    here: oneshot::Receiver<Result<DeletionCounts, NotDurable>>,
    in_store: oneshot::Receiver<Result<DeletionCounts, NotDurable>>,
}

impl Deletion {
    /// Creates the two ends of the channels for a deletion's counts.
    pub(crate) fn channel() -> (DeletionSenders, DeletionReceivers) {
        let ((here, is_gone_here), (in_store, is_gone_in_store)) = (oneshot::channel(), oneshot::channel());
        (
            DeletionSenders { here, in_store },
            DeletionReceivers { here: is_gone_here, in_store: is_gone_in_store },
        )
    }

    /// Creates the deletion that was accepted as `seq`.
    pub(crate) fn new(answers: DeletionReceivers, seq: Seq, progress: &Arc<Progress>) -> Self {
        Self {
            here: SessionReceipt::new(answers.here, seq, progress),
            in_store: SessionReceipt::new(answers.in_store, seq, progress),
        }
    }
}

/// The sender for the result of a session record.
#[derive(Debug, Default)]
pub(crate) enum Reply {
    #[default]
    None,
    Started(oneshot::Sender<Result<Started, NotDurable>>),
    Ended(oneshot::Sender<Result<Ended, NotDurable>>),
    Deleted(DeletionSenders),
    Edited(oneshot::Sender<Result<EditedMessages, NotDurable>>),
}
