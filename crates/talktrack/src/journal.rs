//! The journal: one thread, one SQLite connection, one transaction for all that waited meanwhile. When the transaction
//! has committed, what was in it is durable. Where SQLite is the store, the same transaction writes the store's rows.

mod opening;
mod aside;
mod outbox;
mod append;
mod parking;
mod homecoming;
mod settled;
mod window;
mod announce;
mod gone;
mod erasure;
mod scrub;
mod answers;
mod reserve;
mod condition;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, TransactionBehavior, ffi};

use crate::books::{Books, Figures};
use crate::changes::{self, Change};
use crate::clock::Seq;
use crate::database;
use crate::error::OpenError;
use crate::ground::Ground;
use crate::health::Vitals;
use crate::journal::answers::Deletions;
use crate::journal::erasure::Eraser;
use crate::journal::gone::Gone;
use crate::journal::opening::Opened;
use crate::journal::outbox::Outbox;
use crate::journal::reserve::Reserve;
use crate::journal::window::Change as WindowChange;
use crate::noted_store::NotedStore;
use crate::options::{Options, Redirect};
use crate::receipt::{Progress, Reply};
use crate::record::{Record, Reopened, Verdict};
use crate::retry::Backoff;
use crate::store::{Store, sqlite};
use crate::writer::{Answer, LANES, StoreClaim, Writer};

pub(crate) use aside::TakeOut;
pub(crate) use opening::Purpose;

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
    /// Sessions whose end a message took back, for the tracker to take up again.
    pub(crate) reopened: Arc<Mutex<Vec<Reopened>>>,
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
    /// The store that the file notes, if it is an outbox, until there is a writer.
    noted: Option<NotedStore>,
    outbox: Option<Outbox>,
    /// What the writer has told, for the next commit.
    settled: Vec<Answer>,
    /// Who waits for the remote store to delete something.
    deletions: Deletions,
    eraser: Eraser,
    reserve: Reserve,
    /// What the file stands on, once the tracker has surveyed it.
    ground: Option<Arc<Ground>>,
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
    /// What deletions removed from the journal.
    gone: Gone,
    /// Whether text was deleted.
    erases: bool,
    /// What became of the re-send window.
    window: WindowChange,
    books: Books,
}

impl Journal {
    /// Opens the file and closes what a crash left open, in the store itself or, where that is remote, on the way to it.
    pub(crate) fn open(path: &Path, shared: Shared, purpose: Purpose<'_>) -> Result<Self, OpenError> {
        match Self::try_open(path, shared.clone(), purpose) {
            // Damage that the first look at a large file has not seen: every page is looked at now.
            Err(OpenError::Database { source, .. }) if database::is_damage(&source) => {
                database::suspect(path, &source.to_string());
                Self::try_open(path, shared, purpose)
            }
            opened => opened,
        }
    }

    fn try_open(path: &Path, shared: Shared, purpose: Purpose<'_>) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let mut reserve = Reserve::beside(path);
        let opened = opening::take_up(path, purpose, &mut reserve)?;
        let Opened { connection, books, last_seq, outbox: noted } = opened;
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
            noted,
            outbox,
            settled,
            deletions,
            eraser,
            reserve,
            ground: None,
            failing,
            shared,
            backoff,
        })
    }

    /// What is to be compared before anything goes to `store`.
    pub(crate) fn claim(&mut self, options: &Options, store: &Arc<dyn Store>) -> Arc<StoreClaim> {
        let redirects = match options.redirect {
            Redirect::Never => false,
            Redirect::IfEmpty => self.noted.as_ref().is_none_or(|noted| noted.is_drained()),
            Redirect::Always => true,
        };
        StoreClaim::new(self.noted.take(), redirects, store)
    }

    /// Brings what is durable to the store from now on. `wake` calls for a commit when the store has answered.
    pub(crate) fn feed(
        &mut self,
        claim: &Arc<StoreClaim>,
        options: &Options,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<()> {
        window::fit_lanes(&mut self.connection, LANES, Writer::lane_of, &mut self.books)
            .map_err(std::io::Error::other)?;
        self.shared.vitals.books(self.books);
        self.shared.vitals.becomes_outbox();
        self.outbox =
            Some(Outbox::open(&self.connection, claim, &self.shared, self.last_seq, options, wake)?);
        Ok(())
    }

    /// Acknowledges nothing from now on unless the names of the files lead to what this process has open.
    pub(crate) fn stand_on(&mut self, ground: &Arc<Ground>) {
        self.ground = Some(Arc::clone(ground));
    }

    /// The store that the file notes, if it is an outbox.
    pub(crate) fn noted(&self) -> Option<&NotedStore> {
        self.noted.as_ref()
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
        if let Some(outbox) = &self.outbox {
            outbox.note_store(&self.connection);
        }
        let settled = self.outbox.as_mut().map(Outbox::take_answers).unwrap_or_default();
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
            let makes_room = !self.settled.is_empty() || !chores.is_empty() || self.has_window();
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
        self.shrink_window()?;
        if !batch.is_empty() && !database::has_room_inside(&self.connection)? {
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_FULL), None));
        }
        let verdicts = self.write_down(batch, chores, Waiting::Nothing)?;
        self.clear_log();
        Ok(verdicts)
    }

    /// Everybody has their answers: what has been in the window for long enough goes.
    fn tidy_window(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.remove_old(&mut self.connection);
        }
    }

    fn has_window(&self) -> bool {
        self.outbox.as_ref().is_some_and(|outbox| !outbox.window().is_empty())
    }

    /// What the store has confirmed makes way for what it has not, as far as that needs room.
    fn shrink_window(&mut self) -> rusqlite::Result<()> {
        while !database::has_room_inside(&self.connection)?
            && let Some(outbox) = &mut self.outbox
            && outbox.window_mut().give_way(&mut self.connection)?
        {
            self.clear_log();
        }
        Ok(())
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
            self.tidy_window();
            self.eraser.go_on(&self.connection, &self.shared.vitals, true);
            return Ok(Vec::new());
        }
        let started = Instant::now();
        let Written { verdicts, taken_out, gone, erases, window, books } = self.write(batch, chores)?;
        self.books = books;
        // Before the books: who sees there that nothing waits any more must find the claims fallen.
        let settled = std::mem::take(&mut self.settled);
        self.announce_settled(&settled);
        gone.announce_claims(&self.shared.progress);
        if let Some(outbox) = &mut self.outbox {
            outbox.settled(window, gone);
        }
        if erases {
            self.eraser.begin(&self.connection, &self.shared.vitals);
        } else {
            self.eraser.go_on(&self.connection, &self.shared.vitals, false);
        }
        self.holds(batch.len(), started.elapsed(), waiting);
        self.announce(batch, &verdicts);
        for (chore, taken_out) in chores.drain(..).zip(taken_out) {
            // Whoever asked may be gone; it is done all the same.
            let _ = chore.done.send(taken_out);
        }
        self.tidy_window();
        Ok(verdicts)
    }

    fn write(&mut self, batch: &[Entry], chores: &[TakeOut]) -> rusqlite::Result<Written> {
        let tx = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let records = batch.iter().map(|entry| &entry.record);
        let mut books = self.books;
        let now = self.outbox.as_ref().map(|outbox| outbox.window().now());
        // First: what a deletion removes below must not be settled any more.
        let (window, mut gone) = match now {
            Some(now) => settled::settle(&tx, &self.settled, now, &mut books)?,
            None => (WindowChange::default(), Gone::default()),
        };
        gone.announce_records(&self.shared.progress, self.last_seq);
        let mut removed = Gone::default();
        let mut verdicts = match &self.outbox {
            None => sqlite::apply(&tx, records)?,
            Some(_) => append::append(&tx, records, &mut books, &mut removed)?,
        };
        for (entry, verdict) in batch.iter().zip(&mut verdicts) {
            aside::enter(&tx, &entry.record, verdict, &mut books)?;
        }
        let changed = batch.iter().zip(&verdicts);
        let changed = changed.filter_map(|(entry, verdict)| Change::by(&entry.record, verdict));
        let changes = changes::forget(&tx, self.changes + changes::add(&tx, changed)?)?;
        let taken_out = chores.iter().map(|chore| chore.carry_out(&tx, &mut books));
        let taken_out: Vec<Vec<Seq>> = taken_out.collect::<rusqlite::Result<_>>()?;
        let last_seq = batch.last().map_or(self.last_seq, |entry| entry.record.seq.max(self.last_seq));
        sqlite::write_books(&tx, &books, last_seq)?;
        let is_deletion = |verdict: &Verdict| matches!(verdict, Verdict::Deleted(_));
        removed.announce_records(&self.shared.progress, last_seq);
        gone.extend(removed);
        let erases = !gone.is_empty()
            || verdicts.iter().any(is_deletion)
            || taken_out.iter().any(|letters| !letters.is_empty());
        if erases {
            erasure::note_unerased(&tx)?;
        }
        tx.commit()?;
        self.wait_for_ground()?;
        (self.last_seq, self.changes) = (last_seq, changes);
        Ok(Written { verdicts, taken_out, gone, erases, window, books })
    }
}
