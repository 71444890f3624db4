//! The file as the outbox of a remote store: records wait in the journal table until the store has them.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{CachedStatement, Connection, Row, Transaction, params};
use uuid::Uuid;

use crate::books::Books;
use crate::clock::{Clock, Seq, SystemClock, Timestamp};
use crate::database::{UuidText, column_or_null, parse_uuid};
use crate::error::NotDurable;
use crate::health::{BACKLOG, Vitals};
use crate::journal::settled::{Outstanding, Run};
use crate::journal::{Entry, Shared, aside, damaged};
use crate::lines;
use crate::options::Options;
use crate::record::{Body, DeadReason, Record, SessionEnd, Stamped, Verdict};
use crate::store::Store;
use crate::writer::{Settle, Writer};

/// A backlog is handed over and cleared away in small steps: a new message waits for no more than one of each.
const FED_AT_ONCE: usize = 250;
const SETTLED_AT_ONCE: usize = 500;

pub(super) struct Outbox {
    writer: Writer,
    answers: Arc<Answers>,
    /// Everything up to here was handed to the writer.
    fed_up_to: Seq,
    /// The newest record in the journal: behind it lies a backlog where it is not fed.
    newest: Seq,
    /// What the writer has.
    outstanding: Outstanding,
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
            fed_up_to: 0,
            newest,
            outstanding: Outstanding::default(),
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

    pub(super) fn is_full(&self, books: &Books) -> bool {
        books.journal_bytes >= self.max_bytes
    }

    /// Hands the writer what it has room for: the batch just committed where nothing waits before it, else the next
    /// records from the table.
    pub(super) fn feed(&mut self, connection: &Connection, batch: &mut Vec<Entry>, verdicts: &[Verdict]) {
        let caught_up = self.fed_up_to >= self.newest;
        self.newest = batch.last().map_or(self.newest, |entry| entry.record.seq);
        if caught_up && self.writer.room() >= batch.len() {
            self.fed_up_to = self.newest;
            let journaled =
                batch.drain(..).zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Journaled);
            return journaled.for_each(|(entry, _)| {
                self.outstanding.add(entry.record.seq, None);
                self.writer.offer(entry.record);
            });
        }
        self.read_back(connection);
        self.writer.expect_more(self.fed_up_to < self.newest);
    }

    /// Where the backlog cannot be read, new messages are durable as always; it is tried again with the next of them.
    fn read_back(&mut self, connection: &Connection) {
        let Err(error) = self.feed_from_table(connection) else {
            self.vitals.store_works(BACKLOG);
            return;
        };
        let cause = damaged(connection, &error)
            .unwrap_or_else(|| format!("cannot read the journal back, it will be tried again: {error}"));
        if self.vitals.store_fails(BACKLOG, &cause) {
            lines::failed(&cause);
        }
    }

    fn feed_from_table(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let sql = "SELECT seq, body, checksum FROM journal WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = connection.prepare_cached(sql)?;
        let wanted = self.writer.room().min(FED_AT_ONCE);
        let rows = statement.query_map(params![self.fed_up_to, wanted], readable)?;
        let mut fed = 0;
        for row in rows {
            // A few large records fill it as well as many small ones.
            if self.writer.room() == 0 {
                return Ok(());
            }
            let (seq, record) = row?;
            match record {
                Some(record) => {
                    self.outstanding.add(seq, None);
                    self.writer.offer(record);
                }
                None => {
                    self.outstanding.add(seq, Some(Verdict::Dead(DeadReason::Corrupt)));
                    self.answers.post(Vec::new());
                }
            }
            self.fed_up_to = seq;
            fed += 1;
        }
        if fed == FED_AT_ONCE {
            self.answers.post(Vec::new());
        } else if fed < wanted {
            // That was all: what came last may have needed no row.
            self.fed_up_to = self.newest;
        }
        Ok(())
    }
}

/// A row of the journal; no record where its bytes are not those that were written.
pub(super) fn readable(row: &Row<'_>) -> rusqlite::Result<(Seq, Option<Record>)> {
    let seq = row.get(0)?;
    // What rots may be the checksum as well: a row that cannot be read must not hold up those behind it.
    let Ok(body) = row.get_ref(1)?.as_bytes() else { return Ok((seq, None)) };
    let intact = row.get::<_, u32>(2).is_ok_and(|checksum| checksum == crc32fast::hash(body));
    Ok((seq, if intact { serde_json::from_slice(body).ok() } else { None }))
}

/// Writes the records into the journal table, and says which need no writing.
pub(super) fn append<'a>(
    tx: &Transaction<'_>,
    records: impl Iterator<Item = &'a Record>,
    books: &mut Books,
) -> rusqlite::Result<Vec<Verdict>> {
    let sql = "INSERT INTO journal (seq, message_id, revision, body, checksum) VALUES (?1, ?2, ?3, ?4, ?5) \
               ON CONFLICT (message_id, revision) WHERE message_id IS NOT NULL DO NOTHING";
    let mut insert = tx.prepare_cached(sql)?;
    records.map(|record| append_one(tx, &mut insert, record, books)).collect()
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
    let added = insert.execute(params![record.seq, id, revision, body, crc32fast::hash(body.as_bytes())])?;
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
        Body::Update(_) | Body::Alive(_) | Body::Message(_) => return Ok(()),
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
    let ends = open.into_iter().map(|session_id| {
        *last_seq += 1;
        let ended_at = Timestamp::from_micros(*last_seq).unwrap_or_else(|| SystemClock.now());
        let end = SessionEnd { seen_until, ..SessionEnd::abandoned(session_id, "error", ended_at) };
        Record { seq: *last_seq, body: Body::End(end) }
    });
    let ends: Vec<Record> = ends.collect();
    append(&tx, ends.iter(), books)?;
    aside::write_books(&tx, books, *last_seq)?;
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
