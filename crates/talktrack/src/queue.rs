//! The queue is the only boundary between the callers and the disk. It is bounded in messages and bytes. A push never
//! waits for I/O, only for its lock, which another push or the hand-over of a batch holds for a moment.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex, MutexGuard};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::Reason;
use talktrack_core::record::{Attempt, Body, Record};

use crate::journal::{Committed, DeleteDeadLetters, Entry, Journal};
use crate::metric_handles::MetricHandles;
use crate::receipt::Reply;

/// The maximum number of messages in one commit.
const BATCH_MESSAGES: usize = 1_000;
/// The maximum number of bytes of text in one commit. A single larger message is committed alone.
const BATCH_BYTES: usize = 1 << 20;

/// Whether a full queue may refuse an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The entry is refused if there is no room.
    IfRoom,
    /// The entry is always accepted. This is for the ends of sessions, whose number is bounded by the number of
    /// sessions.
    Always,
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    arrived: Condvar,
    capacity: usize,
    max_bytes: usize,
    /// The process whose journal thread drains the queue. A forked child has a copy of the queue that no thread drains.
    process: u32,
}

/// Entries form batches as they arrive, so that handing over a batch is a swap, however many entries wait.
#[derive(Debug, Default)]
struct QueueState {
    /// The batch that new entries join.
    open: EntryBatch,
    /// Full batches, oldest first.
    sealed: VecDeque<EntryBatch>,
    /// Empty batches whose memory is reused.
    spare: Vec<Vec<Entry>>,
    /// Maintenance tasks for the journal's thread. A caller awaits each of them.
    maintenance: Vec<DeleteDeadLetters>,
    entries: usize,
    bytes: usize,
    accepted_messages: u64,
    last_seq: Seq,
    /// True while the journal's thread sleeps. The next arrival wakes it.
    asleep: bool,
    /// True if the journal's thread is to wake up although nothing arrived.
    wake_requested: bool,
    /// True if the queue accepts nothing more.
    closed: bool,
}

#[derive(Debug, Default)]
struct EntryBatch {
    entries: Vec<Entry>,
    bytes: usize,
}

impl Queue {
    /// Creates an empty queue whose first `seq` comes after `last_seq`.
    pub(crate) fn new(capacity: usize, max_bytes: usize, last_seq: Seq, accepted_messages: u64) -> Self {
        let state = QueueState { last_seq, accepted_messages, ..QueueState::default() };
        let process = std::process::id();
        Self { state: Mutex::new(state), arrived: Condvar::new(), capacity, max_bytes, process }
    }

    /// True if this is a copy in a forked child process.
    pub(crate) fn is_forked(&self) -> bool {
        self.process != std::process::id()
    }

    /// Reserves a place for one entry, or returns the reason of the refusal.
    pub(crate) fn reserve(
        &self,
        now: Timestamp,
        bytes: usize,
        admission: Admission,
    ) -> Result<Permit<'_>, Reason> {
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
        Ok(Permit { queue: self, state, now, bytes })
    }

    /// Returns the `seq` of the entry that was accepted last.
    pub(crate) fn last_seq(&self) -> Seq {
        self.state.lock().last_seq
    }

    /// Returns the number of entries in the queue.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().entries
    }

    /// Returns the number of messages ever accepted.
    pub(crate) fn accepted_messages(&self) -> u64 {
        self.state.lock().accepted_messages
    }

    /// Wakes the journal's thread although nothing arrived.
    pub(crate) fn wake(&self) {
        self.state.lock().wake_requested = true;
        self.arrived.notify_one();
    }

    /// Enqueues a maintenance task for the journal's next transaction. If the queue is closed, the task is dropped, and
    /// dropping it tells the caller that awaits it.
    pub(crate) fn enqueue_maintenance(&self, task: DeleteDeadLetters) {
        let mut state = self.state.lock();
        if !state.closed {
            state.maintenance.push(task);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Closes the queue: it accepts nothing more, and the entries in it are still written.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.arrived.notify_one();
    }

    /// Runs the journal's thread: commits every batch until the queue is closed and empty, or until the journal had to
    /// give up a batch. Nothing after a batch that was given up may be called durable.
    pub(crate) fn run(&self, mut journal: Journal, metrics: &MetricHandles) -> Journal {
        let mut batch = Vec::new();
        let mut maintenance = Vec::new();
        // The first commit has no batch: what an earlier run left in the journal does not wait for the first message.
        loop {
            match journal.commit(&mut batch, &mut maintenance) {
                Committed::Yes if !self.next_batch(&mut batch, &mut maintenance, metrics) => break,
                Committed::Yes => {}
                Committed::NotYet(pause) => self.wait_for_retry(pause, &mut maintenance),
                Committed::Never => break,
            }
        }
        self.drop_remaining();
        journal
    }

    /// Waits for `pause`, or until there is a maintenance task or a wake-up. Either may help a failing commit.
    fn wait_for_retry(&self, pause: Duration, maintenance: &mut Vec<DeleteDeadLetters>) {
        let mut state = self.state.lock();
        if state.maintenance.is_empty() && !state.wake_requested {
            self.arrived.wait_for(&mut state, pause);
        }
        state.wake_requested = false;
        maintenance.append(&mut state.maintenance);
    }

    /// Drops everything that is left when the journal's thread has ended. Dropping the entries tells the callers that
    /// await them.
    fn drop_remaining(&self) {
        let mut state = self.state.lock();
        let left = QueueState {
            closed: true,
            last_seq: state.last_seq,
            accepted_messages: state.accepted_messages,
            ..QueueState::default()
        };
        let left = std::mem::replace(&mut *state, left);
        drop(state);
        drop(left);
    }

    /// Waits for a batch, a maintenance task or a wake-up. Swaps the emptied buffers for what has arrived. Returns
    /// false if the queue is closed and empty.
    fn next_batch(
        &self,
        batch: &mut Vec<Entry>,
        maintenance: &mut Vec<DeleteDeadLetters>,
        metrics: &MetricHandles,
    ) -> bool {
        let mut state = self.state.lock();
        if batch.capacity() > 0 {
            state.spare.push(std::mem::take(batch));
        }
        while state.entries == 0 && state.maintenance.is_empty() {
            // A shutdown does not wait for the store's pending answers: the journal keeps the records for the next
            // start.
            if state.closed {
                return false;
            }
            if state.wake_requested {
                break;
            }
            state.asleep = true;
            self.arrived.wait(&mut state);
        }
        state.wake_requested = false;
        std::mem::swap(maintenance, &mut state.maintenance);
        let taken = state.take_batch();
        metrics.accepted.absolute(state.accepted_messages);
        let waiting = u32::try_from(state.entries).unwrap_or(u32::MAX);
        drop(state);
        metrics.queue_depth.set(f64::from(waiting));
        *batch = taken;
        true
    }
}

/// A reserved place in the queue. It holds the queue's lock: use it at once.
#[must_use]
pub(crate) struct Permit<'q> {
    queue: &'q Queue,
    state: MutexGuard<'q, QueueState>,
    now: Timestamp,
    bytes: usize,
}

impl Permit<'_> {
    /// Enqueues the entry and returns the `seq` that it got.
    pub(crate) fn send(self, body: Body, reply: Reply) -> Seq {
        self.send_attempt(Attempt::First, body, reply)
    }

    /// Enqueues an entry that the store may have seen before.
    pub(crate) fn send_attempt(self, attempt: Attempt, body: Body, reply: Reply) -> Seq {
        let Self { queue, mut state, now, bytes } = self;
        let seq = Seq::from(now).max(state.last_seq.next());
        state.last_seq = seq;
        state.accepted_messages += u64::from(matches!(body, Body::Message(_)));
        state.add_entry(Entry { record: Record { seq, body, attempt }, reply }, bytes);
        let was_asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if was_asleep {
            queue.arrived.notify_one();
        }
        seq
    }
}

impl QueueState {
    fn add_entry(&mut self, entry: Entry, bytes: usize) {
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

    fn take_batch(&mut self) -> Vec<Entry> {
        let batch = self.sealed.pop_front().unwrap_or_else(|| std::mem::take(&mut self.open));
        self.entries -= batch.entries.len();
        self.bytes -= batch.bytes;
        batch.entries
    }
}
