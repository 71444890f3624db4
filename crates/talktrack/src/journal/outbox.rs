//! The file as the outbox of a remote store: records wait in the table `journal` until the store has them.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use talktrack_core::books::Books;
use talktrack_core::clock::{Clock, Seq, SystemClock};
use talktrack_core::record::{Body, DeadReason, Record, SessionEnd, Verdict};

use crate::changes::Change;
use crate::event_log;
use crate::health::{HealthState, Reporter};
use crate::journal::append::append;
use crate::journal::purged::PurgedRecords;
use crate::journal::window::{self, Window, WindowChange};
use crate::journal::{Entry, Shared};
use crate::local::database;
use crate::local::tables::changes;
use crate::local::tables::{books, directory, journal, open_sessions};
use crate::options::Options;
use crate::writer::{LANES, LaneReport, ReportSink, Settled, StoreClaim, Writer};

/// A backlog is handed over and settled in small steps, so that a new message waits for no more than one step of each.
const FED_AT_ONCE: usize = 250;
const SETTLED_AT_ONCE: usize = 2_000;
/// A deletion runs several statements, so it counts as this many settled records. One piece of deletions fills a
/// transaction.
const DELETION_WEIGHT: usize = 8;

pub(super) struct Outbox {
    writer: Writer,
    claim: Arc<StoreClaim>,
    answers: Arc<Answers>,
    /// Per lane: the highest `seq` handed to the writer.
    fed: [Seq; LANES],
    /// The newest record in the journal. A lane that was not fed up to it has a backlog.
    newest: Seq,
    /// Per lane: records up to this `seq` were handed to the store by this process or an earlier one, so the store may
    /// have seen them.
    delivered: [Seq; LANES],
    /// Per lane: the records of parked sessions that the lane holds.
    handed: [HashSet<Seq>; LANES],
    /// The records that the store has confirmed.
    window: Window,
    /// Records that deletions of the last commit removed from the journal. Some may be of the same batch.
    purged: Vec<Seq>,
    health: Arc<HealthState>,
    max_bytes: u64,
}

/// The store's answers, which wait for the next commit.
struct Answers {
    waiting: Mutex<VecDeque<LaneReport>>,
    /// Wakes the journal's thread for that commit.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Answers {
    fn post(&self, answer: LaneReport) {
        if !matches!(answer, LaneReport::Wake) {
            self.waiting.lock().push_back(answer);
        }
        (self.wake)();
    }
}

impl Outbox {
    /// Starts the writer. All records in the journal, up to `newest`, are its backlog.
    pub(super) fn open(
        connection: &Connection,
        claim: &Arc<StoreClaim>,
        shared: &Shared,
        newest: Seq,
        options: &Options,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let unreadable = std::io::Error::other::<rusqlite::Error>;
        let node = directory::read_node_id(connection).map_err(unreadable)?;
        let window = Window::open(connection, options).map_err(unreadable)?;
        let deliveries = window::read_deliveries(connection).map_err(unreadable)?;
        let answers = Arc::new(Answers { waiting: Mutex::default(), wake: Box::new(wake) });
        let posted = Arc::clone(&answers);
        let settle: ReportSink = Arc::new(move |answer| posted.post(answer));
        let writer =
            Writer::start(node, deliveries, claim, &settle, &shared.health, &shared.metrics, options)?;
        let health = Arc::clone(&shared.health);
        let max_bytes = options.journal_max_bytes;
        Ok(Self {
            writer,
            claim: Arc::clone(claim),
            answers,
            fed: [Seq::ZERO; LANES],
            newest,
            delivered: [newest; LANES],
            handed: std::array::from_fn(|_| HashSet::new()),
            window,
            purged: Vec::new(),
            health,
            max_bytes,
        })
    }

    /// Notes in the data directory which store's outbox it is, once the writer has identified the store.
    pub(super) fn note_store(&self, connection: &Connection) {
        self.claim.note_store(connection);
    }

    /// Returns the writer's answers in order, or the first part of them if there are many.
    pub(super) fn take_answers(&mut self) -> Vec<LaneReport> {
        let mut taken = Vec::new();
        let mut records = 0;
        let mut waiting = self.answers.waiting.lock();
        while records < SETTLED_AT_ONCE {
            let Some(mut answer) = waiting.pop_front() else { return taken };
            match &mut answer {
                LaneReport::Settled { lane, records: more, .. } => {
                    records += more.len();
                    if !self.handed[*lane].is_empty() {
                        more.iter().for_each(|settled| _ = self.handed[*lane].remove(&settled.seq));
                    }
                    more.retain(|settled| settled.verdict != Verdict::Waits);
                }
                LaneReport::Deleted(deletions) => records += deletions.len() * DELETION_WEIGHT,
                LaneReport::Rewind { .. } | LaneReport::Foreign | LaneReport::Wake => {}
            }
            taken.push(answer);
        }
        drop(waiting);
        self.answers.post(LaneReport::Wake);
        taken
    }

    /// Applies a committed transaction that entered the writer's answers and removed the rows in `purged` from the
    /// journal. The writer may still hold records of these rows and deliver them, but always before the deletion.
    pub(super) fn apply_settled(&mut self, change: WindowChange, purged: PurgedRecords) {
        self.window.apply_change(&change);
        self.purged = purged.into_seqs();
        for (lane, rewound) in change.rewound {
            self.health.set_store_watermark(Seq::ZERO);
            // All pending records are handed over again, from the oldest on.
            self.fed[lane] = Seq::ZERO;
            self.handed[lane].clear();
            self.writer.parking().reopen_sessions(|session_id| Writer::lane_of_session(session_id) == lane);
            self.delivered[lane] = rewound.last.max(self.delivered[lane]);
            self.writer.send_rewound(lane, rewound);
        }
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn window_mut(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Removes records that have been in the window long enough. While there is a backlog, it does so only if the
    /// window is far over its limit.
    pub(super) fn remove_old(&mut self, connection: &mut Connection) {
        if self.has_backlog() && !self.window.is_overfull() {
            return;
        }
        match self.window.remove_old(connection) {
            Ok(true) => self.answers.post(LaneReport::Wake),
            Ok(false) => {}
            // The next round tries again.
            Err(error) => {
                tracing::debug!(%error, "cannot remove old records from the re-send window; trying again later")
            }
        }
    }

    fn has_backlog(&self) -> bool {
        self.fed.iter().any(|fed| *fed < self.newest)
    }

    pub(super) fn is_full(&self, books: &Books) -> bool {
        books.journal_bytes.saturating_add(self.health.letter_bytes()) >= self.max_bytes
    }

    /// Hands the writer as much as it has room for: the committed batch if there is no backlog, otherwise the next
    /// records from the table.
    pub(super) fn feed(&mut self, connection: &Connection, batch: &mut Vec<Entry>, verdicts: &[Verdict]) {
        // The journal's row of an edit says more than the entry: what the edit removed here.
        let has_edits = batch.iter().any(|entry| matches!(entry.record.body, Body::EditMessages(_)));
        let caught_up = !self.has_backlog() && !has_edits;
        let before = self.newest;
        self.newest = batch.last().map_or(before, |entry| entry.record.seq);
        if caught_up {
            self.feed_batch(batch, verdicts, before);
        } else {
            self.read_back(connection);
        }
        self.feed_parked(connection);
        (0..LANES).for_each(|lane| self.writer.expect_more(lane, self.fed[lane] < self.newest));
        self.publish_store_watermark(connection);
    }

    fn feed_batch(&mut self, batch: &mut Vec<Entry>, verdicts: &[Verdict], before: Seq) {
        let mut pass = self.start_pass(before);
        // A deletion was applied here and has yet to be delivered to the store.
        let goes_on = |verdict: &Verdict| matches!(verdict, Verdict::Journaled | Verdict::Deleted(_));
        let journaled = batch.drain(..).zip(verdicts).filter(|(_, verdict)| goes_on(verdict));
        let purged = std::mem::take(&mut self.purged);
        let records = journaled.map(|(entry, _)| entry.record);
        let mut left = records.filter(|record| purged.binary_search(&record.seq).is_err());
        let complete = left.all(|record| self.hand_over(record, &mut pass));
        self.finish_pass(&pass, complete.then_some(self.newest));
    }

    /// Hands over records from the table. If the table cannot be read, new messages still become durable, and the next
    /// call tries again.
    fn read_back(&mut self, connection: &Connection) {
        let Err(error) = self.feed_from_table(connection) else {
            self.health.report_store_success(Reporter::Backlog);
            return;
        };
        let cause = database::describe_damage(connection, &error)
            .unwrap_or_else(|| format!("cannot read the backlog in the journal; trying again: {error}"));
        if self.health.report_store_failure(Reporter::Backlog, &cause) {
            event_log::log_failed_maintenance("deliver records to the store", &cause);
        }
    }

    fn feed_from_table(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut pass = self.start_pass(Seq::ZERO);
        let Some(start) = (0..LANES).filter(|lane| !pass.passed_by[*lane]).map(|lane| self.fed[lane]).min()
        else {
            return Ok(());
        };
        pass.reached = start;
        let mut rows = 0;
        let mut must_wait = false;
        journal::visit_pending(connection, start, FED_AT_ONCE, |seq, record| {
            must_wait = match record {
                Some(record) => !self.hand_over(record, &mut pass),
                None => {
                    self.answer_now(seq, Verdict::Dead(DeadReason::Corrupt));
                    pass.reached = seq;
                    false
                }
            };
            if must_wait {
                return ControlFlow::Break(());
            }
            rows += 1;
            ControlFlow::Continue(())
        })?;
        if must_wait {
            self.finish_pass(&pass, None);
            return Ok(());
        }
        // Fewer rows than the limit: there are no more. Later records may not need delivery.
        self.finish_pass(&pass, (rows < FED_AT_ONCE).then_some(self.newest));
        if rows == FED_AT_ONCE {
            self.answers.post(LaneReport::Wake);
        }
        Ok(())
    }

    /// Answers for a row without the store.
    pub(super) fn answer_now(&self, seq: Seq, verdict: Verdict) {
        let records = vec![Settled { seq, deletes: false, is_message: false, verdict, removed: None }];
        self.answers.post(LaneReport::Settled { lane: 0, delivery: 0, records });
    }

    pub(super) fn health(&self) -> &HealthState {
        &self.health
    }

    /// Returns the newest record in the journal.
    pub(super) fn newest(&self) -> Seq {
        self.newest
    }

    /// Asks for another round of the journal.
    pub(super) fn wake(&self) {
        self.answers.post(LaneReport::Wake);
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// True if the lane holds this record of a parked session.
    pub(super) fn was_handed(&self, lane: usize, seq: Seq) -> bool {
        self.handed[lane].contains(&seq)
    }

    /// Returns the highest `seq` that was handed to the lane.
    pub(super) fn fed(&self, lane: usize) -> Seq {
        self.fed[lane]
    }

    /// Hands over records of a parked session. Their `seq` is not above the one up to which their lane was fed.
    pub(super) fn hand_over_parked(&mut self, lane: usize, mut records: Vec<Record>) {
        for record in &mut records {
            if record.seq <= self.delivered[lane] {
                record.mark_as_retry();
            }
            self.handed[lane].insert(record.seq);
        }
        self.writer.send_parked(lane, records);
    }

    /// Starts a pass over the rows after `reached`. While the store fails, the pass skips a lane without room: that
    /// lane may be the only one that is stuck. While the store works, room becomes free soon, and all lanes wait for
    /// it.
    fn start_pass(&self, reached: Seq) -> FeedPass {
        let store_fails = self.health.is_store_failing();
        let passed_by = std::array::from_fn(|lane| store_fails && !self.writer.has_room(lane));
        FeedPass { store_fails, passed_by, reached }
    }

    /// Hands a record to its lane, unless the lane has it already or is skipped. Returns false if this record and all
    /// later ones must wait.
    fn hand_over(&mut self, mut record: Record, pass: &mut FeedPass) -> bool {
        let seq = record.seq;
        let lane = Writer::lane_of(&record);
        if seq > self.fed[lane] && !pass.passed_by[lane] {
            if self.writer.parking().holds(&record) {
                self.fed[lane] = seq;
                self.hold_back(&record);
            } else if self.writer.has_room(lane) {
                self.fed[lane] = seq;
                if seq <= self.delivered[lane] {
                    record.mark_as_retry();
                }
                self.writer.send_record(record);
            } else if pass.store_fails {
                pass.passed_by[lane] = true;
            } else {
                return false;
            }
        }
        pass.reached = seq;
        true
    }

    /// Notes how far the lanes were fed that were not skipped.
    fn finish_pass(&mut self, pass: &FeedPass, reached: Option<Seq>) {
        let reached = reached.unwrap_or(pass.reached);
        let lanes = self.fed.iter_mut().zip(pass.passed_by);
        lanes.filter(|(_, passed_by)| !passed_by).for_each(|(fed, _)| *fed = reached.max(*fed));
    }
}

/// One pass over the rows of the journal, in their order.
struct FeedPass {
    store_fails: bool,
    /// Lanes that had no room for one of their rows. They get this row and the later ones in another pass.
    passed_by: [bool; LANES],
    /// The last row that the pass handled.
    reached: Seq,
}

/// Ends each session that a crash left open, at its last event. Returns the number of sessions.
pub(super) fn abandon_open_sessions(
    connection: &mut Connection,
    last_seq: &mut Seq,
    books: &mut Books,
) -> rusqlite::Result<usize> {
    let tx = connection.transaction()?;
    let open = open_sessions::read_all(&tx)?;
    // If the store knows a later event, another node took over the session while this one was down.
    let seen_until = last_seq.accepted_at();
    // In a file that was salvaged, the changes may be newer than the books.
    *last_seq = changes::newest_seq(&tx)?.max(*last_seq);
    let ends = open.into_iter().map(|session_id| {
        *last_seq = last_seq.next();
        let ended_at = seen_until.unwrap_or_else(|| SystemClock.now());
        let end = SessionEnd { seen_until, ..SessionEnd::abandoned(session_id, "error", ended_at) };
        Record::new(*last_seq, Body::End(end))
    });
    let ends: Vec<Record> = ends.collect();
    let verdicts = append(&tx, ends.iter(), books, &mut PurgedRecords::default())?;
    changes::append(
        &tx,
        ends.iter().zip(&verdicts).filter_map(|(end, verdict)| Change::from_record(end, verdict)),
    )?;
    books::write(&tx, books, *last_seq)?;
    tx.commit()?;
    Ok(ends.len())
}
