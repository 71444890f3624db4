//! The queue: the one boundary between the callers and the disk. Bounded in messages and bytes; a push never waits for
//! I/O, only for the moment in which another push or the hand-over of a batch holds the lock.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::books::Figures;
use crate::clock::{Seq, Timestamp};
use crate::error::Reason;
use crate::journal::{Committed, Entry, Journal, TakeOut};
use crate::receipt::Reply;
use crate::record::{Attempt, Body, Record};

/// The most messages one commit takes.
const BATCH_MESSAGES: usize = 1_000;
/// The most bytes of text one commit takes (a single larger message still goes in one).
const BATCH_BYTES: usize = 1 << 20;

/// Whether an entry may be turned away when the queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Only where there is room.
    IfRoom,
    /// Always: ends of sessions, of which there are never more than sessions.
    Always,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    capacity: usize,
    max_bytes: usize,
    /// The process whose thread takes from it. One that was forked from it has a copy that nobody empties.
    process: u32,
}

/// Batches are formed as entries arrive, so that handing one over is a swap, however many wait.
#[derive(Debug, Default)]
struct State {
    /// The batch that new entries join.
    open: Batch,
    /// Full batches, oldest first.
    sealed: VecDeque<Batch>,
    /// Empty batches whose memory serves again.
    spare: Vec<Vec<Entry>>,
    /// What else the journal's thread is to write; each has somebody who waits for it.
    chores: Vec<TakeOut>,
    entries: usize,
    bytes: usize,
    accepted_messages: u64,
    last_seq: Seq,
    /// The journal's thread sleeps: the next arrival wakes it.
    asleep: bool,
    /// The journal's thread is wanted for another reason than an arrival.
    nudged: bool,
    /// Why nothing more comes in.
    closed: bool,
}

#[derive(Debug, Default)]
struct Batch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Queue {
    /// An empty queue whose first `seq` comes after `last_seq`.
    pub(crate) fn new(capacity: usize, max_bytes: usize, last_seq: Seq, accepted_messages: u64) -> Self {
        let state = State { last_seq, accepted_messages, ..State::default() };
        let process = std::process::id();
        Self { state: Mutex::new(state), arrived: Condvar::new(), capacity, max_bytes, process }
    }

    /// Whether this is a copy in a child process.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// A place for one entry, or the reason why there is none.
    pub(crate) fn admit(
        &self,
        now: Timestamp,
        bytes: usize,
        admission: Admission,
    ) -> Result<Place<'_>, Reason> {
        if self.is_forked() {
            return Err(Reason::Forked);
        }
        let state = self.state.lock();
        if state.closed {
            return Err(Reason::ShuttingDown);
        }
        let full = state.entries >= self.capacity || state.bytes.saturating_add(bytes) > self.max_bytes;
        if full && admission == Admission::IfRoom {
            return Err(Reason::QueueFull);
        }
        Ok(Place { queue: self, state, now, bytes })
    }

    /// The `seq` of what was accepted last.
    pub(crate) fn last_seq(&self) -> Seq {
        self.state.lock().last_seq
    }

    /// Entries that wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().entries
    }

    /// Messages that ever came in.
    pub(crate) fn accepted_messages(&self) -> u64 {
        self.state.lock().accepted_messages
    }

    /// Calls the journal's thread although nothing arrived.
    pub(crate) fn nudge(&self) {
        self.state.lock().nudged = true;
        self.arrived.notify_one();
    }

    /// Asks the journal's thread for something else than a record, in its next transaction. Where it takes nothing more,
    /// the chore is let go, and whoever waits for it learns it.
    pub(crate) fn ask(&self, chore: TakeOut) {
        let mut state = self.state.lock();
        if !state.closed {
            state.chores.push(chore);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Nothing more comes in; what waits is still written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// The journal's thread: brings every batch into the journal until the queue is closed and empty, or the journal had
    /// to give a batch up: nothing after it may be called durable.
    pub(crate) fn run(&self, mut journal: Journal, figures: &Figures) -> Journal {
        let (mut batch, mut chores) = (Vec::new(), Vec::new());
        // First without a batch: what an earlier run left in the journal need not wait for the first message.
        loop {
            match journal.commit(&mut batch, &mut chores) {
                Committed::Yes if !self.next(&mut batch, &mut chores, figures) => break,
                Committed::Yes => {}
                Committed::NotYet(pause) => self.pause(pause, &mut chores),
                Committed::Never => break,
            }
        }
        self.abandon();
        journal
    }

    /// Waits for so long, or until there is a chore or a nudge: they may help a commit that fails.
    fn pause(&self, pause: Duration, chores: &mut Vec<TakeOut>) {
        let mut state = self.state.lock();
        if state.chores.is_empty() && !state.nudged {
            self.arrived.wait_for(&mut state, pause);
        }
        state.nudged = false;
        chores.append(&mut state.chores);
    }

    /// Nobody takes from the queue any more: what is left is let go, and whoever waits for it learns it.
    fn abandon(&self) {
        let mut state = self.state.lock();
        let left = State {
            closed: true,
            last_seq: state.last_seq,
            accepted_messages: state.accepted_messages,
            ..State::default()
        };
        let left = std::mem::replace(&mut *state, left);
        drop(state);
        drop(left);
    }

    /// Waits for a batch, a chore or a nudge, and swaps what there is for what was emptied. False when the queue is closed
    /// and empty.
    fn next(&self, batch: &mut Vec<Entry>, chores: &mut Vec<TakeOut>, figures: &Figures) -> bool {
        let mut state = self.state.lock();
        if batch.capacity() > 0 {
            state.spare.push(std::mem::take(batch));
        }
        while state.entries == 0 && state.chores.is_empty() {
            // A stop does not wait for what the store still answers: the journal keeps it for the next start.
            if state.closed {
                return false;
            }
            if state.nudged {
                break;
            }
            state.asleep = true;
            self.arrived.wait(&mut state);
        }
        state.nudged = false;
        std::mem::swap(chores, &mut state.chores);
        let taken = state.take();
        figures.accepted.absolute(state.accepted_messages);
        let waiting = u32::try_from(state.entries).unwrap_or(u32::MAX);
        drop(state);
        figures.queue_depth.set(f64::from(waiting));
        *batch = taken;
        true
    }
}

/// A place in the queue, kept free under its lock: fill it at once.
#[must_use]
pub(crate) struct Place<'q> {
    queue: &'q Queue,
    state: MutexGuard<'q, State>,
    now: Timestamp,
    bytes: usize,
}

impl Place<'_> {
    /// Takes the entry and stamps its `seq`.
    pub(crate) fn fill(self, body: Body, reply: Reply) -> Seq {
        self.fill_again(Attempt::First, body, reply)
    }

    /// The same for an entry that the store may have seen before.
    pub(crate) fn fill_again(self, attempt: Attempt, body: Body, reply: Reply) -> Seq {
        let Self { queue, mut state, now, bytes } = self;
        let seq = now.as_micros().max(state.last_seq + 1);
        state.last_seq = seq;
        state.accepted_messages += u64::from(matches!(body, Body::Message(_)));
        state.join(Entry { record: Record { seq, body, attempt }, reply }, bytes);
        let wake = std::mem::take(&mut state.asleep);
        drop(state);
        if wake {
            queue.arrived.notify_one();
        }
        seq
    }
}

impl State {
    fn join(&mut self, entry: Entry, bytes: usize) {
        let full = self.open.entries.len() >= BATCH_MESSAGES || self.open.bytes + bytes > BATCH_BYTES;
        if full && !self.open.entries.is_empty() {
            self.sealed.push_back(std::mem::take(&mut self.open));
        }
        if self.open.entries.capacity() == 0 {
            self.open.entries = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BATCH_MESSAGES));
        }
        self.open.entries.push(entry);
        self.open.bytes += bytes;
        self.entries += 1;
        self.bytes += bytes;
    }

    fn take(&mut self) -> Vec<Entry> {
        let batch = self.sealed.pop_front().unwrap_or_else(|| std::mem::take(&mut self.open));
        self.entries -= batch.entries.len();
        self.bytes -= batch.bytes;
        batch.entries
    }
}
