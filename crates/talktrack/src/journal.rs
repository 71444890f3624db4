//! The journal: one thread, one SQLite connection, one transaction for all that waited meanwhile. When the transaction
//! has committed, what was in it is durable. Where SQLite is the store, the same transaction writes the store's rows.

mod opening;
mod aside;
mod outbox;
mod homecoming;
mod settled;
mod erasure;
mod answers;
mod reserve;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior, ffi};

use crate::books::{Books, Figures, count_deletion};
use crate::changes::{self, Change};
use crate::clock::Seq;
use crate::database;
use crate::error::OpenError;
use crate::health::Vitals;
use crate::journal::answers::Deletions;
use crate::journal::erasure::Eraser;
use crate::journal::outbox::Outbox;
use crate::journal::reserve::Reserve;
use crate::journal::settled::Run;
use crate::lines;
use crate::options::Options;
use crate::receipt::{Progress, Reply};
use crate::record::{Record, Verdict};
use crate::retry::Backoff;
use crate::store::{Store, sqlite};

pub(crate) use aside::TakeOut;

/// A record on its way into the journal, and who waits for its figures.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) reply: Reply,
}

/// What the journal shares with the other side of the queue.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) progress: Arc<Progress>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) figures: Figures,
    /// Set when a stop can wait no longer: what cannot be written now is given up.
    pub(crate) give_up: Arc<AtomicBool>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Committed {
    /// It is durable.
    Yes,
    /// It waits for another attempt, after this pause or as soon as there is something to do that may help.
    NotYet(Duration),
    /// A stop can wait no longer.
    Never,
}

/// Writes batches of entries and says what is durable.
pub(crate) struct Journal {
    connection: Connection,
    books: Books,
    last_seq: Seq,
    /// Rows in the table of changes.
    changes: u64,
    outbox: Option<Outbox>,
    /// What can leave the journal with the next commit.
    settled: Vec<Run>,
    /// Who waits for the remote store to delete something.
    deletions: Deletions,
    eraser: Eraser,
    reserve: Reserve,
    /// The last attempt to write failed, and everybody was told why.
    failing: bool,
    shared: Shared,
    backoff: Backoff,
}

/// What has to wait although a transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Nothing,
    /// The batch, for room.
    Batch,
}

/// What one transaction did.
struct Written {
    /// Of each entry, in order.
    verdicts: Vec<Verdict>,
    /// Of each chore, in order: the dead letters that were there.
    taken_out: Vec<Vec<Seq>>,
    /// What deletions took out of the journal.
    gone: Vec<Seq>,
    books: Books,
}

impl Journal {
    /// Opens the file and closes what a crash left open, in the store itself or, where that is remote, on the way to it.
    pub(crate) fn open(path: &Path, shared: Shared, remote: bool) -> Result<Self, OpenError> {
        match Self::try_open(path, shared.clone(), remote) {
            // Damage that the first look at a large file has not seen: every page is looked at now.
            Err(OpenError::Database { source, .. }) if database::is_damage(&source) => {
                database::suspect(path, &source.to_string());
                Self::try_open(path, shared, remote)
            }
            opened => opened,
        }
    }

    fn try_open(path: &Path, shared: Shared, remote: bool) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let mut reserve = Reserve::beside(path);
        let (connection, books, last_seq) = opening::take_up(path, remote, &mut reserve)?;
        let changes = changes::count(&connection).map_err(failed)?;
        reserve.grow();
        if reserve.held() > 0 {
            database::keep_log_within(&connection, reserve.held()).map_err(failed)?;
        }
        let backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1), fastrand::Rng::new());
        shared.figures.store_up.set(1.0);
        shared.figures.publish(&books);
        shared.vitals.books(books);
        shared.progress.answer_up_to(last_seq);
        let (outbox, settled, deletions) = (None, Vec::new(), Deletions::default());
        let (failing, mut eraser) = (false, Eraser::default());
        eraser.resume(&connection, &shared.vitals).map_err(failed)?;
        Ok(Self {
            connection,
            books,
            last_seq,
            changes,
            outbox,
            settled,
            deletions,
            eraser,
            reserve,
            failing,
            shared,
            backoff,
        })
    }

    /// Brings what is durable to `store` from now on. `wake` calls for a commit when the store has answered.
    pub(crate) fn feed(
        &mut self,
        store: &Arc<dyn Store>,
        options: &Options,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        self.outbox = Some(Outbox::open(store, &self.shared, self.last_seq, options, wake)?);
        Ok(())
    }

    /// The highest `seq` ever stamped on this data directory.
    pub(crate) fn last_seq(&self) -> Seq {
        self.last_seq
    }

    /// The end. Copies the log into the file where nobody reads from it: then that file is everything.
    pub(crate) fn close(self) {
        let _ = self.connection.busy_timeout(Duration::ZERO);
        self.clear_log();
    }

    /// Makes the batch durable and does the chores, and tells whoever waits. What is done is taken out of both.
    pub(crate) fn commit(&mut self, batch: &mut Vec<Entry>, chores: &mut Vec<TakeOut>) -> Committed {
        let settled = self.outbox.as_mut().map(Outbox::take_settled).unwrap_or_default();
        self.settled.extend(settled);
        let written = self.write_if_it_must_be_with_the_reserve(batch, chores);
        let committed = match &written {
            Ok(_) => Committed::Yes,
            Err(_) if self.shared.give_up.load(Ordering::Acquire) => Committed::Never,
            Err(_) => Committed::NotYet(self.backoff.next()),
        };
        if let Some(outbox) = &mut self.outbox {
            match &written {
                Ok(verdicts) => outbox.feed(&self.connection, batch, verdicts),
                // What is durable goes on although nothing new becomes it.
                Err(_) => outbox.feed(&self.connection, &mut Vec::new(), &[]),
            }
        }
        if committed == Committed::Yes {
            batch.clear();
        }
        committed
    }

    fn write_if_it_must_be_with_the_reserve(
        &mut self,
        batch: &mut [Entry],
        chores: &mut Vec<TakeOut>,
    ) -> rusqlite::Result<Vec<Verdict>> {
        let mut written = self.write_down(batch, chores, Waiting::Nothing);
        if let Err(error) = &written {
            self.fails(error);
            let makes_room = !self.settled.is_empty() || !chores.is_empty();
            // Not in vain: whoever else writes to this disk may be faster when the reserve is taken back.
            if database::is_disk_full(error) && (makes_room || database::has_room_inside(&self.connection)?) {
                let lent = self.reserve.make_way();
                // Overwriting pages takes room that there is not: those that become free now are overwritten as they are used.
                database::overwrite_what_is_deleted(&self.connection, false)?;
                written = self.write_in_the_reserve(batch, chores);
                database::overwrite_what_is_deleted(&self.connection, true)?;
                self.reserve.take_back(lent);
            }
        }
        written
    }

    /// The disk is full. What makes room is written first, and the batch only where it has room in what became free.
    fn write_in_the_reserve(
        &mut self,
        batch: &mut [Entry],
        chores: &mut Vec<TakeOut>,
    ) -> rusqlite::Result<Vec<Verdict>> {
        self.clear_log();
        self.write_down(&mut [], chores, Waiting::Batch)?;
        self.clear_log();
        if !batch.is_empty() && !database::has_room_inside(&self.connection)? {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        }
        let verdicts = self.write_down(batch, chores, Waiting::Nothing)?;
        self.clear_log();
        Ok(verdicts)
    }

    /// Where that fails, what follows needs more room, and fails or not.
    fn clear_log(&self) {
        if let Err(error) = database::clear_log(&self.connection) {
            tracing::debug!(%error, "the log of the journal's file stays as long as it is");
        }
    }

    /// One transaction for all of it, and everybody is told.
    fn write_down(
        &mut self,
        batch: &mut [Entry],
        chores: &mut Vec<TakeOut>,
        waiting: Waiting,
    ) -> rusqlite::Result<Vec<Verdict>> {
        let is_idle = batch.is_empty() && self.settled.is_empty() && chores.is_empty();
        if is_idle {
            self.recovers(waiting);
            self.eraser.go_on(&self.connection, &self.shared.vitals);
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let Written { verdicts, taken_out, gone, books } = self.write(batch, chores)?;
        self.books = books;
        // Before the books: who sees there that nothing waits any more must find the claims fallen.
        let settled = std::mem::take(&mut self.settled);
        self.announce_settled(&settled);
        if let Some(outbox) = &mut self.outbox {
            outbox.forget(gone);
        }
        let is_deletion = |verdict: &Verdict| matches!(verdict, Verdict::Deleted(_));
        if verdicts.iter().any(is_deletion) || taken_out.iter().any(|letters| !letters.is_empty()) {
            self.eraser.begin(&self.connection, &self.shared.vitals);
        } else {
            self.eraser.go_on(&self.connection, &self.shared.vitals);
        }
        self.holds(batch.len(), started.elapsed(), waiting);
        self.announce(batch, &verdicts);
        for (chore, taken_out) in chores.drain(..).zip(taken_out) {
            // Whoever asked may be gone; it is done all the same.
            let _ = chore.done.send(taken_out);
        }
        Ok(verdicts)
    }

    fn write(&mut self, batch: &[Entry], chores: &[TakeOut]) -> rusqlite::Result<Written> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let records = batch.iter().map(|entry| &entry.record);
        let (mut books, mut gone) = (self.books, Vec::new());
        // First: what a deletion takes out below must not be settled any more.
        settled::settle(&tx, &self.settled, &mut books)?;
        let mut verdicts = match &self.outbox {
            None => sqlite::apply(&tx, records)?,
            Some(_) => outbox::append(&tx, records, &mut books, &mut gone)?,
        };
        for (entry, verdict) in batch.iter().zip(&mut verdicts) {
            aside::enter(&tx, &entry.record, verdict, &mut books)?;
        }
        let changed = batch.iter().zip(&verdicts);
        let changed = changed.filter_map(|(entry, verdict)| Change::by(&entry.record, verdict));
        let changes = changes::forget(&tx, self.changes + changes::add(&tx, changed)?)?;
        let taken_out = chores.iter().map(|chore| chore.carry_out(&tx, &mut books));
        let taken_out = taken_out.collect::<rusqlite::Result<_>>()?;
        let last_seq = batch.last().map_or(self.last_seq, |entry| entry.record.seq.max(self.last_seq));
        sqlite::write_books(&tx, &books, last_seq)?;
        tx.commit()?;
        gone.sort_unstable();
        (self.last_seq, self.changes) = (last_seq, changes);
        Ok(Written { verdicts, taken_out, gone, books })
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch has at most some thousand records")]
    fn holds(&mut self, records: usize, took: Duration, waiting: Waiting) {
        let figures = &self.shared.figures;
        figures.batch_size.record(records as f64);
        figures.commit_seconds.record(took);
        figures.publish(&self.books);
        self.recovers(waiting);
        // The books come last: who waits for them finds everything else in its place.
        self.shared.vitals.books(self.books);
    }

    fn recovers(&mut self, waiting: Waiting) {
        if waiting == Waiting::Batch {
            return;
        }
        let full = self.outbox.as_ref().is_some_and(|outbox| outbox.is_full(&self.books));
        self.shared.vitals.set_full(full);
        self.backoff.reset();
        if std::mem::take(&mut self.failing) {
            self.reserve.grow();
            self.shared.vitals.journal(None);
            self.store_is_up(true);
            tracing::info!("the journal can write again");
        }
    }

    fn fails(&mut self, error: &rusqlite::Error) {
        self.failing = true;
        let is_full = database::is_disk_full(error);
        let cause = if is_full {
            "the journal's disk is full".to_owned()
        } else if let Some(damaged) = database::damaged(&self.connection, error) {
            damaged
        } else {
            format!("the journal cannot write: {error}")
        };
        lines::failed(&cause);
        self.shared.vitals.journal(Some(cause));
        if is_full {
            // Until a commit holds again, whoever comes hears at once that there is no room, and keeps what they have. After
            // the cause: who finds it full without one takes `journal_max_bytes` for it.
            self.shared.vitals.set_full(true);
        }
        self.store_is_up(false);
    }

    /// Where this file is the store. Of a remote one the writer tells.
    fn store_is_up(&self, up: bool) {
        if self.outbox.is_none() {
            self.shared.figures.store_up.set(f64::from(u8::from(up)));
        }
    }

    /// The store may find out later that a session is another user's: the claim to it falls.
    fn announce_settled(&mut self, settled: &[Run]) {
        for (seq, verdict) in settled.iter().flatten() {
            self.deletions.settle(*seq, verdict);
            if let Verdict::Refused(why) = verdict {
                self.shared.progress.refuse(*seq, *why);
            }
        }
    }

    /// Tells receipts first (somebody may wait), then those who asked for figures, then the log.
    fn announce(&mut self, batch: &mut [Entry], verdicts: &[Verdict]) {
        for (entry, verdict) in batch.iter().zip(verdicts) {
            if let Verdict::Refused(why) = verdict {
                self.shared.progress.refuse(entry.record.seq, *why);
                if entry.record.message().is_some() {
                    self.shared.vitals.count_refusal(why.code());
                }
            }
        }
        if let Some(last) = batch.last() {
            self.shared.progress.answer_up_to(last.record.seq);
        }
        let is_remote = self.outbox.is_some();
        for (entry, verdict) in batch.iter_mut().zip(verdicts) {
            let reply = std::mem::take(&mut entry.reply);
            self.deletions.answer(&entry.record, reply, verdict, is_remote);
            // Of a remote store the writer tells.
            if !(is_remote && matches!(verdict, Verdict::Deleted(_))) {
                lines::stored(&entry.record, verdict);
                count_deletion(&entry.record, verdict);
            }
        }
    }
}
