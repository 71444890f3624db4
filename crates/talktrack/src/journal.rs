//! The journal: one thread writes everything that has arrived since the last commit in one SQLite transaction (group commit),
//! which makes it durable. If SQLite is the store, the same transaction writes the store's rows.

mod open;
mod dead_letters;
mod outbox;
mod store_watermark;
mod append;
mod edits;
mod change_feed;
mod parking;
mod adopt_outbox;
mod settled;
mod window;
mod announce;
mod purged;
mod purge;
mod scrub;
mod replies;
mod condition;
mod bookkeeping;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior, ffi};
use talktrack_core::books::Books;
use talktrack_core::clock::Seq;
use talktrack_core::record::{Record, Reopened, Verdict};

use crate::error::OpenError;
use crate::health::HealthState;
use crate::journal::condition::FailedWork;
use crate::journal::open::OpenedFile;
use crate::journal::outbox::Outbox;
use crate::journal::purge::Scrubber;
use crate::journal::purged::PurgedRecords;
use crate::journal::replies::PendingDeletions;
use crate::journal::window::WindowChange;
use crate::local::database;
use crate::local::disk_reserve::DiskReserve;
use crate::local::tables::{books, changes, unerased};
use crate::local::watched_files::WatchedFiles;
use crate::metric_handles::MetricHandles;
use crate::options::{Options, Redirect};
use crate::receipt::{Progress, Reply};
use crate::retry::Backoff;
use crate::store::sqlite::{self, WrittenRecords};
use crate::store::{NotedStore, Store};
use crate::writer::{LANES, LaneReport, StoreClaim, Writer};

pub(crate) use dead_letters::DeleteDeadLetters;
pub(crate) use open::Purpose;

/// A record on its way into the journal, with the channel for its result.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) reply: Reply,
}

/// What the journal shares with the tracker and the queue.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) progress: Arc<Progress>,
    pub(crate) health: Arc<HealthState>,
    pub(crate) metrics: MetricHandles,
    /// Sessions whose end was cancelled by a message. The tracker puts them back into memory.
    pub(crate) reopened: Arc<Mutex<Vec<Reopened>>>,
    /// Set when the deadline of a shutdown has passed: what cannot be written then is given up.
    pub(crate) give_up: Arc<AtomicBool>,
}

/// The result of an attempt to commit a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// The batch is durable.
    Yes,
    /// The batch waits for another attempt, after this pause or as soon as a maintenance task or a wake-up arrives.
    NotYet(Duration),
    /// The batch is given up because the deadline of a shutdown has passed.
    Never,
}

/// Writes batches of entries and announces what is durable.
pub(crate) struct Journal {
    connection: Connection,
    books: Books,
    last_seq: Seq,
    /// The number of rows in the table `changes`.
    changes: u64,
    /// The store that the file notes, if the file is an outbox. `claim` takes it.
    noted: Option<NotedStore>,
    outbox: Option<Outbox>,
    /// Answers of the writer for the next commit.
    settled: Vec<LaneReport>,
    /// Callers that wait for the remote store to confirm a deletion.
    deletions: PendingDeletions,
    scrubber: Scrubber,
    reserve: DiskReserve,
    /// The identity of the files that the journal depends on, once the tracker has recorded it.
    files: Option<Arc<WatchedFiles>>,
    /// True if the last attempt to write failed and its cause was announced.
    failing: bool,
    shared: Shared,
    backoff: Backoff,
}

/// What is still unwritten although a transaction was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unwritten {
    Nothing,
    /// The batch waits for disk space.
    Batch,
}

/// The result of one transaction.
struct Written {
    /// What became of the entries, in order.
    records: WrittenRecords,
    /// One per maintenance task, in order: the dead letters that existed.
    taken_out: Vec<Vec<Seq>>,
    /// Records that deletions removed from the journal.
    purged: PurgedRecords,
    /// True if text was deleted.
    erases: bool,
    /// How the re-send window changed.
    window: WindowChange,
    books: Books,
}

impl Journal {
    /// Opens the file and ends the sessions that a crash left open. With a remote store, these ends go through the journal.
    pub(crate) fn open(path: &Path, shared: Shared, purpose: Purpose<'_>) -> Result<Self, OpenError> {
        match Self::try_open(path, shared.clone(), purpose) {
            // The quick check of a large file missed the damage. The second attempt checks every page.
            Err(OpenError::Database { source, .. }) if database::is_damage(source.sqlite()) => {
                database::mark_suspect(path, &source.to_string());
                Self::try_open(path, shared, purpose)
            }
            opened => opened,
        }
    }

    fn try_open(path: &Path, shared: Shared, purpose: Purpose<'_>) -> Result<Self, OpenError> {
        let failed = |source| OpenError::database(path, source);
        let mut reserve = DiskReserve::for_database(path);
        let opened = open::open_with_reserve(path, purpose, &mut reserve)?;
        let OpenedFile { connection, books, last_seq, outbox: noted } = opened;
        let changes = changes::count(&connection).map_err(failed)?;
        reserve.grow();
        reserve.limit_wal(&connection);
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1), fastrand::Rng::new());
        shared.metrics.store_up.set(1.0);
        shared.metrics.publish(&books);
        shared.health.set_books(books);
        shared.progress.advance_watermark(last_seq);
        let mut scrubber = Scrubber::default();
        scrubber.resume_unfinished(&connection, &shared.health).map_err(failed)?;
        Ok(Self {
            connection,
            books,
            last_seq,
            changes,
            noted,
            outbox: None,
            settled: Vec::new(),
            deletions: PendingDeletions::default(),
            scrubber,
            reserve,
            files: None,
            failing: false,
            shared,
            backoff,
        })
    }

    /// Returns the claim that is compared with `store` before anything is delivered to it.
    pub(crate) fn claim(&mut self, options: &Options, store: &Arc<dyn Store>) -> Arc<StoreClaim> {
        let redirects = match options.redirect {
            Redirect::Never => false,
            Redirect::IfEmpty => self.noted.as_ref().is_none_or(|noted| noted.is_drained()),
            Redirect::Always => true,
        };
        StoreClaim::new(self.noted.take(), redirects, store)
    }

    /// Starts the delivery of durable records. `wake` is called to ask for a commit when the store has answered.
    pub(crate) fn start_delivery(
        &mut self,
        claim: &Arc<StoreClaim>,
        options: &Options,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        window::fit_lanes(&mut self.connection, LANES, Writer::lane_of, &mut self.books)
            .map_err(std::io::Error::other)?;
        self.shared.health.set_books(self.books);
        self.shared.health.set_outbox();
        self.outbox =
            Some(Outbox::open(&self.connection, claim, &self.shared, self.last_seq, options, wake)?);
        Ok(())
    }

    /// From now on, nothing is acknowledged unless the paths of the files lead to the files that this process has open.
    pub(crate) fn watch_files(&mut self, files: &Arc<WatchedFiles>) {
        self.files = Some(Arc::clone(files));
    }

    /// Returns the store that the file notes, if it is an outbox.
    pub(crate) fn noted(&self) -> Option<&NotedStore> {
        self.noted.as_ref()
    }

    /// Returns the highest `seq` ever assigned in this data directory.
    pub(crate) fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// Closes the journal. Checkpoints the WAL unless a reader prevents that, so that the file alone holds all data.
    pub(crate) fn close(self) {
        let _ = self.connection.busy_timeout(Duration::ZERO);
        self.checkpoint_wal();
    }

    /// Commits the batch and the maintenance tasks, notifies their callers, and removes from both what is done.
    pub(crate) fn commit(&mut self, batch: &mut Vec<Entry>, tasks: &mut Vec<DeleteDeadLetters>) -> Committed {
        if let Some(outbox) = &self.outbox {
            outbox.note_store(&self.connection);
        }
        let settled = self.outbox.as_mut().map(Outbox::take_answers).unwrap_or_default();
        self.settled.extend(settled);
        let written = self.write_with_disk_reserve(batch, tasks);
        let committed = match &written {
            Ok(_) => Committed::Yes,
            Err(_) if self.shared.give_up.load(Ordering::Acquire) => Committed::Never,
            Err(_) => Committed::NotYet(self.backoff.next()),
        };
        if let Some(outbox) = &mut self.outbox {
            match &written {
                Ok(verdicts) => outbox.feed(&self.connection, batch, verdicts),
                // Durable records are still delivered although nothing new becomes durable.
                Err(_) => outbox.feed(&self.connection, &mut Vec::new(), &[]),
            }
        }
        if committed == Committed::Yes {
            batch.clear();
        }
        committed
    }

    fn write_with_disk_reserve(
        &mut self,
        batch: &mut [Entry],
        tasks: &mut Vec<DeleteDeadLetters>,
    ) -> rusqlite::Result<Vec<Verdict>> {
        let mut written = self.write_and_announce(batch, tasks, Unwritten::Nothing);
        if let Err(error) = &written {
            self.report_failure(FailedWork::new(batch, tasks), error);
            let makes_room = !self.settled.is_empty() || !tasks.is_empty() || self.has_window();
            // Another process may take the released space. So the reserve is released only if the commit can free space.
            if database::is_disk_full(error) && (makes_room || database::has_free_pages(&self.connection)?) {
                let lent = self.reserve.release();
                // Overwriting freed pages needs disk space. Pages that become free now are overwritten when they are reused.
                database::set_secure_delete(&self.connection, false)?;
                written = self.write_on_full_disk(batch, tasks);
                database::set_secure_delete(&self.connection, true)?;
                self.reserve.reclaim(lent);
                self.reserve.limit_wal(&self.connection);
            }
        }
        written
    }

    /// Writes while the disk is full. What frees space is committed first. The batch follows if it fits into that space.
    fn write_on_full_disk(
        &mut self,
        batch: &mut [Entry],
        tasks: &mut Vec<DeleteDeadLetters>,
    ) -> rusqlite::Result<Vec<Verdict>> {
        self.checkpoint_wal();
        self.write_and_announce(&mut [], tasks, Unwritten::Batch)?;
        self.checkpoint_wal();
        self.shrink_window()?;
        if !batch.is_empty() && !database::has_free_pages(&self.connection)? {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        }
        let verdicts = self.write_and_announce(batch, tasks, Unwritten::Nothing)?;
        self.checkpoint_wal();
        Ok(verdicts)
    }

    /// Removes old records from the re-send window. Called when all answers have been sent.
    fn trim_window(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.remove_old(&mut self.connection);
        }
    }

    fn has_window(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| !outbox.window().is_empty())
    }

    /// Removes confirmed records from the re-send window until the file has room for unconfirmed ones.
    fn shrink_window(&mut self) -> rusqlite::Result<()> {
        while !database::has_free_pages(&self.connection)?
            && let Some(outbox) = &mut self.outbox
            && outbox.window_mut().evict_oldest(&mut self.connection)?
        {
            self.checkpoint_wal();
        }
        Ok(())
    }

    /// Writes everything in one transaction and announces the results.
    fn write_and_announce(
        &mut self,
        batch: &mut [Entry],
        tasks: &mut Vec<DeleteDeadLetters>,
        unwritten: Unwritten,
    ) -> rusqlite::Result<Vec<Verdict>> {
        let is_idle = batch.is_empty() && self.settled.is_empty() && tasks.is_empty();
        if is_idle {
            self.report_recovery(unwritten);
            self.trim_window();
            self.scrubber.continue_if_due(&self.connection, &self.shared.health, true);
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let Written { records, taken_out, purged, erases, window, books } =
            self.write_transaction(batch, tasks)?;
        let WrittenRecords { verdicts, edits } = records;
        self.books = books;
        // Before the books: a caller that sees there that nothing waits must find void claims marked.
        let settled = std::mem::take(&mut self.settled);
        self.announce_settled(&settled);
        purged.announce_claims(&self.shared.progress);
        if let Some(outbox) = &mut self.outbox {
            outbox.apply_settled(window, purged);
        }
        if erases {
            self.scrubber.start(&self.connection, &self.shared.health);
        } else {
            self.scrubber.continue_if_due(&self.connection, &self.shared.health, false);
        }
        self.report_commit(batch.len(), started.elapsed(), unwritten);
        self.announce(batch, &verdicts, edits);
        for (task, taken_out) in tasks.drain(..).zip(taken_out) {
            // The caller may be gone. The task is done all the same.
            let _ = task.done.send(taken_out);
        }
        self.trim_window();
        Ok(verdicts)
    }

    fn write_transaction(
        &mut self,
        batch: &[Entry],
        tasks: &[DeleteDeadLetters],
    ) -> rusqlite::Result<Written> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let records = batch.iter().map(|entry| &entry.record);
        let mut books = self.books;
        let now = self.outbox.as_ref().map(|outbox| outbox.window().now());
        // First, because records that a deletion removes below must not be settled afterwards.
        let (window, mut purged) = match now {
            Some(now) => settled::settle(&tx, &self.settled, now, &mut books)?,
            None => (WindowChange::default(), PurgedRecords::default()),
        };
        purged.announce_records(&self.shared.progress, self.last_seq);
        let mut removed = PurgedRecords::default();
        let mut written = match &self.outbox {
            None => sqlite::write_records(&tx, records)?,
            Some(_) => append::append(&tx, records, &mut books, &mut removed)?.into(),
        };
        for (entry, verdict) in batch.iter().zip(&mut written.verdicts) {
            dead_letters::apply_verdict(&tx, &entry.record, verdict, &mut books)?;
        }
        let changes = change_feed::append_batch(&tx, batch, &written.verdicts, self.changes)?;
        let taken_out = tasks.iter().map(|task| task.run(&tx, &mut books));
        let taken_out: Vec<Vec<Seq>> = taken_out.collect::<rusqlite::Result<_>>()?;
        let last_seq = batch.last().map_or(self.last_seq, |entry| entry.record.seq.max(self.last_seq));
        books::write(&tx, &books, last_seq)?;
        let is_deletion = |verdict: &Verdict| matches!(verdict, Verdict::Deleted(_) | Verdict::Edited(_));
        removed.announce_records(&self.shared.progress, last_seq);
        purged.extend(removed);
        let erases = !purged.is_empty()
            || written.verdicts.iter().any(is_deletion)
            || taken_out.iter().any(|letters| !letters.is_empty());
        if erases {
            unerased::insert(&tx)?;
        }
        tx.commit()?;
        self.wait_for_files()?;
        (self.last_seq, self.changes) = (last_seq, changes);
        Ok(Written { records: written, taken_out, purged, erases, window, books })
    }
}
