//! Receipts: how a caller learns that something accepted is durable. One number, the watermark, serves every receipt at
//! once, so that a receipt nobody asks costs nothing.

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::clock::Seq;
use crate::error::NotDurable;
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
}

#[derive(Debug, Default)]
struct RefusedLater {
    by_seq: BTreeMap<Seq, NotDurable>,
    forgotten_up_to: Seq,
}

impl Progress {
    pub(crate) fn new() -> Arc<Self> {
        let mark = watch::Sender::new(Mark { answered: Seq::MIN, stopped: false });
        Arc::new(Self { mark, refused: Mutex::default() })
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
pub struct SessionReceipt<T>(oneshot::Receiver<Result<T, NotDurable>>);

impl<T> SessionReceipt<T> {
    pub(crate) fn new() -> (oneshot::Sender<Result<T, NotDurable>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }

    /// Waits until it is durable.
    ///
    /// # Errors
    /// Where it was refused after acceptance; see [`NotDurable`].
    pub async fn durable(self) -> Result<T, NotDurable> {
        self.0.await.unwrap_or(Err(NotDurable::Stopped))
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

impl Deletion {
    pub(crate) fn new() -> (Deleting, Self) {
        let ((here, receipt), (in_store, stored)) = (SessionReceipt::new(), SessionReceipt::new());
        (Deleting { here, in_store }, Self { here: receipt, in_store: stored })
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
