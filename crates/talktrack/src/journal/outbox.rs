//! The file as the outbox of a remote store: records wait in the journal table until the store has them.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, Transaction, params};
use uuid::Uuid;

use crate::books::Books;
use crate::changes::{self, Change};
use crate::clock::{Clock, Seq, SystemClock, Timestamp};
use crate::database::{self, UuidText, column_or_null, parse_uuid};
use crate::error::NotDurable;
use crate::health::{BACKLOG, Vitals};
use crate::journal::erasure::{self, Known};
use crate::journal::settled::{Outstanding, Run};
use crate::journal::{Entry, Shared};
use crate::lines;
use crate::options::Options;
use crate::record::{Body, DeadReason, Record, Removed, SessionDelete, SessionEnd, Stamped, Verdict};
use crate::store::sqlite::readable;
use crate::store::{Store, sqlite};
use crate::writer::{LANES, Settle, Writer};

/// A backlog is handed over and cleared away in small steps: a new message waits for no more than one of each.
const FED_AT_ONCE: usize = 250;
const SETTLED_AT_ONCE: usize = 500;

pub(super) struct Outbox {
    writer: Writer,
    answers: Arc<Answers>,
    /// Of each lane of the writer, everything up to here was handed to it.
    fed: [Seq; LANES],
    /// The newest record in the journal: behind it lies a backlog where it is not fed.
    newest: Seq,
    /// What the writer has.
    outstanding: Outstanding,
    /// What deletions of the batch just committed took out of the journal: some of it may be of the same batch.
    gone: Vec<Seq>,
    vitals: Arc<Vitals>,
    max_bytes: u64,
}

/// Where the store's answers wait for the next commit.
struct Answers {
    waiting: Mutex<Vec<(Seq, Verdict)>>,
    /// Calls for that commit.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Answers {
    fn post(&self, verdicts: Vec<(Seq, Verdict)>) {
        self.waiting.lock().extend(verdicts);
        (self.wake)();
    }
}

impl Outbox {
    /// Starts the writer. Whatever lies in the journal, up to `newest`, is its backlog.
    pub(super) fn open(
        store: &Arc<dyn Store>,
        shared: &Shared,
        newest: Seq,
        options: &Options,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let answers = Arc::new(Answers { waiting: Mutex::default(), wake: Box::new(wake) });
        let posted = Arc::clone(&answers);
        let settle: Settle = Arc::new(move |verdicts| posted.post(verdicts));
        let writer = Writer::start(store, &settle, &shared.vitals, &shared.figures, options)?;
        let (vitals, max_bytes) = (Arc::clone(&shared.vitals), options.journal_max_bytes);
        Ok(Self {
            writer,
            answers,
            fed: [0; LANES],
            newest,
            outstanding: Outstanding::default(),
            gone: Vec::new(),
            vitals,
            max_bytes,
        })
    }

    /// What can leave the journal now.
    pub(super) fn take_settled(&mut self) -> Vec<Run> {
        for (seq, verdict) in std::mem::take(&mut *self.answers.waiting.lock()) {
            self.outstanding.answer(seq, verdict);
        }
        // What one lane waits with must not hold up the others' books.
        if self.vitals.is_store_failing() {
            return self.outstanding.take_all();
        }
        let runs = self.outstanding.take_first(SETTLED_AT_ONCE);
        if runs.iter().flatten().count() == SETTLED_AT_ONCE {
            self.answers.post(Vec::new());
        }
        runs
    }

    /// These rows were taken out of the journal. What the writer has of them it may still bring to the store, before what
    /// deletes it there.
    pub(super) fn forget(&mut self, gone: Vec<Seq>) {
        self.outstanding.forget(&gone);
        self.gone = gone;
    }

    pub(super) fn is_full(&self, books: &Books) -> bool {
        books.journal_bytes >= self.max_bytes
    }

    /// Hands the writer what it has room for: the batch just committed where nothing waits before it, else the next
    /// records from the table.
    pub(super) fn feed(&mut self, connection: &Connection, batch: &mut Vec<Entry>, verdicts: &[Verdict]) {
        let caught_up = self.fed.iter().all(|fed| *fed >= self.newest);
        let before = self.newest;
        self.newest = batch.last().map_or(before, |entry| entry.record.seq);
        if caught_up {
            self.feed_batch(batch, verdicts, before);
        } else {
            self.read_back(connection);
        }
        (0..LANES).for_each(|lane| self.writer.expect_more(lane, self.fed[lane] < self.newest));
    }

    fn feed_batch(&mut self, batch: &mut Vec<Entry>, verdicts: &[Verdict], before: Seq) {
        let mut pass = self.pass(before);
        // A deletion has been done here, and the store has yet to hear of it.
        let goes_on = |verdict: &Verdict| matches!(verdict, Verdict::Journaled | Verdict::Deleted(_));
        let journaled = batch.drain(..).zip(verdicts).filter(|(_, verdict)| goes_on(verdict));
        let gone = std::mem::take(&mut self.gone);
        let records = journaled.map(|(entry, _)| entry.record);
        let mut left = records.filter(|record| gone.binary_search(&record.seq).is_err());
        let complete = left.all(|record| self.hand_over(record, &mut pass));
        self.finish(&pass, complete.then_some(self.newest));
    }

    /// Where the backlog cannot be read, new messages are durable as always; it is tried again with the next of them.
    fn read_back(&mut self, connection: &Connection) {
        let Err(error) = self.feed_from_table(connection) else {
            self.vitals.store_works(BACKLOG);
            return;
        };
        let cause = database::damaged(connection, &error)
            .unwrap_or_else(|| format!("cannot read the journal back, it will be tried again: {error}"));
        if self.vitals.store_fails(BACKLOG, &cause) {
            lines::failed(&cause);
        }
    }

    fn feed_from_table(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let mut pass = self.pass(0);
        let sql = "SELECT seq, body, checksum FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let Some(start) = (0..LANES).filter(|lane| !pass.passed_by[*lane]).map(|lane| self.fed[lane]).min()
        else {
            return Ok(());
        };
        pass.reached = start;
        let mut rows = 0;
        for row in statement.query_map(params![start, FED_AT_ONCE], readable)? {
            let (seq, record) = row?;
            let goes_on = match record {
                Some(record) => self.hand_over(record, &mut pass),
                None => {
                    self.outstanding.add(seq, Some(Verdict::Dead(DeadReason::Corrupt)));
                    self.answers.post(Vec::new());
                    pass.reached = seq;
                    true
                }
            };
            if !goes_on {
                self.finish(&pass, None);
                return Ok(());
            }
            rows += 1;
        }
        // Fewer rows: that was all; what came last may have needed none.
        self.finish(&pass, (rows < FED_AT_ONCE).then_some(self.newest));
        if rows == FED_AT_ONCE {
            self.answers.post(Vec::new());
        }
        Ok(())
    }

    /// A look at the rows behind this one. While the store fails, a lane without room is passed by: it may be the one that
    /// gets nothing through, and the others may get through. While the store works, room comes soon, and all wait for it.
    fn pass(&self, reached: Seq) -> Pass {
        let store_fails = self.vitals.is_store_failing();
        let passed_by = std::array::from_fn(|lane| store_fails && !self.writer.has_room(lane));
        Pass { store_fails, passed_by, reached }
    }

    /// Hands a record to its lane, unless that has it already or is passed by. False where it and what follows must wait.
    fn hand_over(&mut self, record: Record, pass: &mut Pass) -> bool {
        let (seq, lane) = (record.seq, Writer::lane_of(&record));
        if seq > self.fed[lane] && !pass.passed_by[lane] {
            if self.writer.has_room(lane) {
                self.fed[lane] = seq;
                self.outstanding.add(seq, None);
                self.writer.offer(record);
            } else if pass.store_fails {
                pass.passed_by[lane] = true;
            } else {
                return false;
            }
        }
        pass.reached = seq;
        true
    }

    /// Notes how far the lanes were fed that were not passed by.
    fn finish(&mut self, pass: &Pass, reached: Option<Seq>) {
        let reached = reached.unwrap_or(pass.reached);
        let lanes = self.fed.iter_mut().zip(pass.passed_by);
        lanes.filter(|(_, passed_by)| !passed_by).for_each(|(fed, _)| *fed = reached.max(*fed));
    }
}

/// One look at the rows of the journal, in their order.
struct Pass {
    store_fails: bool,
    /// Lanes that had no room for one of their rows. They get it, and what follows it, by another look.
    passed_by: [bool; LANES],
    /// The last row that was seen and need not wait.
    reached: Seq,
}

/// Writes the records into the journal table, and says which need no writing.
pub(super) fn append<'a>(
    tx: &Transaction<'_>,
    records: impl Iterator<Item = &'a Record>,
    books: &mut Books,
    gone: &mut Vec<Seq>,
) -> rusqlite::Result<Vec<Verdict>> {
    let sql = "INSERT INTO journal (seq, message_id, revision, body, checksum, session_id) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (message_id, revision) WHERE message_id IS NOT NULL DO NOTHING";
    let mut insert = tx.prepare_cached(sql)?;
    let mut known = Known::default();
    let mut verdict = |record: &Record| match &record.body {
        Body::Delete(delete) => {
            append_one(tx, &mut insert, record, books)?;
            delete_here(tx, delete, books, &mut known, gone)
        }
        _ if known.is_deleted(tx, record.session_id())? => Ok(Verdict::Refused(NotDurable::Deleted)),
        _ => append_one(tx, &mut insert, record, books),
    };
    records.map(&mut verdict).collect()
}

/// Takes what waits of the session out of the journal. Whether one is too old to be kept, the store alone can tell.
fn delete_here(
    tx: &Transaction<'_>,
    delete: &SessionDelete,
    books: &mut Books,
    known: &mut Known,
    gone: &mut Vec<Seq>,
) -> rusqlite::Result<Verdict> {
    if !delete.is_for_good() {
        return Ok(Verdict::Journaled);
    }
    let session_id = delete.session_id;
    sqlite::note_deleted(tx, session_id)?;
    known.note(session_id);
    let journal = erasure::take_waiting(tx, session_id, books, gone)?;
    Ok(Verdict::Deleted(Removed { journal, ..Removed::default() }))
}

fn append_one(
    tx: &Transaction<'_>,
    insert: &mut CachedStatement<'_>,
    record: &Record,
    books: &mut Books,
) -> rusqlite::Result<Verdict> {
    let body = serde_json::to_string(record)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let stamped = record.message();
    let id = stamped.map(|stamped| UuidText::new(stamped.id));
    let revision = stamped.map(|stamped| stamped.message.revision);
    let id = id.as_ref().map(UuidText::as_str);
    let session_id = record.may_be_let_go().then(|| UuidText::new(record.session_id()));
    let session_id = session_id.as_ref().map(UuidText::as_str);
    let checksum = crc32fast::hash(body.as_bytes());
    let added = insert.execute(params![record.seq, id, revision, body, checksum, session_id])?;
    if let Some(stamped) = stamped.filter(|_| added == 0) {
        return meet_waiting(tx, stamped);
    }
    books.journal_bytes += body.len() as u64;
    note_open_session(tx, &record.body)?;
    Ok(Verdict::Journaled)
}

/// Remembers which sessions are open, for the start after a crash.
fn note_open_session(tx: &Transaction<'_>, body: &Body) -> rusqlite::Result<()> {
    let (sql, session_id) = match body {
        Body::Start(start) => {
            ("INSERT OR IGNORE INTO open_sessions (session_id) VALUES (?1)", start.session_id)
        }
        Body::End(end) => ("DELETE FROM open_sessions WHERE session_id = ?1", end.session_id),
        Body::Update(_) | Body::Alive(_) | Body::Message(_) | Body::Delete(_) => return Ok(()),
    };
    tx.prepare_cached(sql)?.execute([UuidText::new(session_id).as_str()]).map(drop)
}

/// After a crash: an end for each session that was left open, at its last event. Says how many.
pub(super) fn abandon_open_sessions(
    connection: &mut Connection,
    last_seq: &mut Seq,
    books: &mut Books,
) -> rusqlite::Result<usize> {
    let tx = connection.transaction()?;
    let open = open_sessions(&tx)?;
    // Whatever came later is another node's: it took the session over while this one was down.
    let seen_until = Timestamp::from_micros(*last_seq);
    // A file that was saved may have begun its changes later than its books.
    *last_seq = changes::newest(&tx)?.max(*last_seq);
    let ends = open.into_iter().map(|session_id| {
        *last_seq += 1;
        let ended_at = seen_until.unwrap_or_else(|| SystemClock.now());
        let end = SessionEnd { seen_until, ..SessionEnd::abandoned(session_id, "error", ended_at) };
        Record { seq: *last_seq, body: Body::End(end) }
    });
    let ends: Vec<Record> = ends.collect();
    let verdicts = append(&tx, ends.iter(), books, &mut Vec::new())?;
    changes::add(&tx, ends.iter().zip(&verdicts).filter_map(|(end, verdict)| Change::by(end, verdict)))?;
    sqlite::write_books(&tx, books, *last_seq)?;
    tx.commit()?;
    Ok(ends.len())
}

fn open_sessions(tx: &Transaction<'_>) -> rusqlite::Result<Vec<Uuid>> {
    let mut open = tx.prepare("SELECT session_id FROM open_sessions")?;
    let open = open.query_map([], |row| column_or_null(row, 0, parse_uuid))?;
    // An id that has rotted beyond reading names no session that could be ended.
    open.filter_map(Result::transpose).collect()
}

/// The same id and revision waits in the journal already.
fn meet_waiting(tx: &Transaction<'_>, stamped: &Stamped) -> rusqlite::Result<Verdict> {
    let sql = "SELECT seq, body, checksum FROM journal WHERE message_id = ?1 AND revision = ?2";
    let id = UuidText::new(stamped.id);
    let (_, waiting) =
        tx.prepare_cached(sql)?.query_row(params![id.as_str(), stamped.message.revision], readable)?;
    let same = waiting
        .is_some_and(|record| record.message().is_some_and(|other| stamped.same_content(&other.message)));
    Ok(if same { Verdict::AlreadyThere } else { Verdict::Refused(NotDurable::IdConflict) })
}
