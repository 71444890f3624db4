//! What became durable, in this order: one row for each record that changed something, written in its own transaction.
//! Whoever derives something from the rows (live events, an index, figures) follows it, and learns where it is too late.
//!
//! Nothing is ever added before what is there: a `seq` is that of the record, or a fresh one behind all of them.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::record::{Body, Record, Verdict};

/// How many are kept, about 13 MB. Whoever is further behind has to look at the rows themselves.
const KEPT: u64 = 200_000;

/// So many more are there before the oldest go, all at once.
const SURPLUS: u64 = 2_000;

/// What a durable record changed. The row itself is read where it is stored, and may have changed again, or be gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Its place; that of the record in the order of acceptance.
    pub seq: Seq,
    /// What happened.
    pub kind: ChangeKind,
    /// The session.
    pub session_id: Uuid,
    /// Whose the session is, where the record told. With a remote store that is a claim which the store may not confirm.
    pub user_id: Option<Uuid>,
    /// The message, where it is one.
    pub message_id: Option<Uuid>,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// A session began, or goes on.
    SessionStarted,
    /// Its metadata grew.
    SessionUpdated,
    /// It ended, or somebody ended it once more.
    SessionEnded,
    /// It was deleted, and everything in it.
    SessionDeleted,
    /// Something was said. With a remote store also where the store has it already.
    Message,
    /// A message was replaced by a later revision.
    Revision,
}

/// Some of the changes after a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// In their order.
    pub changes: Vec<Change>,
    /// The place to go on from.
    pub next: Seq,
    /// Nothing is missing between the place that was asked for and the next one. False where what came after it is no longer
    /// kept: it was too long ago, or was lost with a damaged file.
    pub is_whole: bool,
}

impl ChangeKind {
    fn code(self) -> u8 {
        match self {
            Self::SessionStarted => 1,
            Self::SessionUpdated => 2,
            Self::SessionEnded => 3,
            Self::SessionDeleted => 4,
            Self::Message => 5,
            Self::Revision => 6,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [
            Self::SessionStarted,
            Self::SessionUpdated,
            Self::SessionEnded,
            Self::SessionDeleted,
            Self::Message,
            Self::Revision,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

impl Change {
    /// `None` where the record changed nothing.
    pub(crate) fn by(record: &Record, verdict: &Verdict) -> Option<Self> {
        let nothing = match verdict {
            Verdict::AlreadyThere
            | Verdict::Waits
            | Verdict::GoesOn
            | Verdict::Refused(_)
            | Verdict::Dead(_) => true,
            Verdict::Inserted
            | Verdict::Reopened(_)
            | Verdict::Revised
            | Verdict::Journaled
            | Verdict::Started { .. }
            | Verdict::Updated
            | Verdict::Ended(_)
            | Verdict::Deleted(_)
            | Verdict::Expired(..) => false,
        };
        if nothing {
            return None;
        }
        let revises = |revision| match verdict {
            Verdict::Journaled => revision > 0,
            verdict => *verdict == Verdict::Revised,
        };
        let (kind, user_id) = match &record.body {
            Body::Start(start) => (ChangeKind::SessionStarted, Some(start.user_id)),
            Body::Update(update) => (ChangeKind::SessionUpdated, update.owner),
            Body::End(end) => (ChangeKind::SessionEnded, end.owner),
            Body::Alive(_) | Body::DeleteUser(_) => return None,
            // Whether it goes, the remote store has yet to find out.
            Body::Delete(_) if *verdict == Verdict::Journaled => return None,
            Body::Delete(delete) => (ChangeKind::SessionDeleted, delete.told_to),
            Body::Message(stamped) if revises(stamped.message.revision) => {
                (ChangeKind::Revision, stamped.owner)
            }
            Body::Message(stamped) => (ChangeKind::Message, stamped.owner),
        };
        let message_id = record.message().map(|stamped| stamped.id);
        Some(Self { seq: record.seq, kind, session_id: record.session_id(), user_id, message_id })
    }
}

/// Adds them, behind all others.
pub(crate) fn add(tx: &Transaction<'_>, changes: impl Iterator<Item = Change>) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO changes (seq, kind, session_id, user_id, message_id) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = tx.prepare_cached(sql)?;
    let mut added = 0;
    for Change { seq, kind, session_id, user_id, message_id } in changes {
        let (user_id, message_id) =
            (user_id.as_ref().map(Uuid::as_bytes), message_id.as_ref().map(Uuid::as_bytes));
        insert.execute(params![seq, kind.code(), session_id.as_bytes(), user_id, message_id])?;
        added += 1;
    }
    Ok(added)
}

/// Lets the oldest go where there are too many, and says how many are left of so many.
pub(crate) fn forget(tx: &Transaction<'_>, there: u64) -> rusqlite::Result<u64> {
    if there <= KEPT + SURPLUS {
        return Ok(there);
    }
    let first_kept = "SELECT seq FROM changes ORDER BY seq LIMIT 1 OFFSET ?1";
    let first_kept: Option<Seq> =
        tx.prepare_cached(first_kept)?.query_row([there - KEPT], |row| row.get(0)).optional()?;
    let Some(first_kept) = first_kept else { return Ok(there) };
    let gone = tx.prepare_cached("DELETE FROM changes WHERE seq < ?1")?.execute([first_kept])?;
    tx.prepare_cached("DELETE FROM deleted_spans WHERE seq < ?1")?.execute([first_kept])?;
    Ok(there.saturating_sub(gone as u64))
}

/// How many there are.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM changes", [], |row| row.get(0))
}

/// The place behind the newest.
pub(crate) fn newest(connection: &Connection) -> rusqlite::Result<Seq> {
    let sql = "SELECT coalesce(max(seq), 0) FROM changes";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// They begin anew, behind this place: whoever followed what was there before learns that it is gone.
pub(crate) fn begin_anew(tx: &Transaction<'_>, place: Seq) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM changes", [])?;
    tx.execute("DELETE FROM deleted_spans", [])?;
    tx.execute("INSERT INTO changes (seq, kind) VALUES (?1, 0)", [place]).map(drop)
}

/// Up to so many that came after a place.
pub(crate) fn since(connection: &Connection, place: Seq, limit: usize) -> rusqlite::Result<Changes> {
    // One transaction: nothing may be forgotten between the two questions.
    let tx = connection.unchecked_transaction()?;
    let first: Option<Seq> =
        tx.prepare_cached("SELECT min(seq) FROM changes")?.query_row([], |row| row.get(0))?;
    let mut read =
        Changes { changes: Vec::new(), next: place, is_whole: first.is_some_and(|first| first <= place) };
    let sql =
        "SELECT seq, kind, session_id, user_id, message_id FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![place, limit])?;
    while let Some(row) = rows.next()? {
        read.next = row.get(0)?;
        match change(row) {
            Some(change) => read.changes.push(change),
            // The first row of all, or one that has rotted beyond reading: either way something is not there.
            None => read.is_whole = false,
        }
    }
    Ok(read)
}

/// What touches what was there before.
pub(crate) const OVERTURNING: [ChangeKind; 2] = [ChangeKind::SessionDeleted, ChangeKind::Revision];

/// How many of these kinds came after a place; no more than the limit are counted.
pub(crate) fn count_of_kinds_since(
    connection: &Connection,
    kinds: &[ChangeKind],
    place: Seq,
    limit: usize,
) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM changes WHERE seq > ?1 AND kind IN ({}) LIMIT ?2)",
        codes(kinds)
    );
    connection.prepare_cached(&sql)?.query_row(params![place, limit], |row| row.get(0))
}

fn codes(kinds: &[ChangeKind]) -> String {
    kinds.iter().map(|kind| kind.code().to_string()).collect::<Vec<_>>().join(", ")
}

/// Of those that came after a place that was told before, up to so many of these kinds, at the moment of the transaction.
/// Nothing is missing where that place itself is still kept; in a file of another time it never was.
pub(crate) fn of_kinds_since(
    tx: &Transaction<'_>,
    kinds: &[ChangeKind],
    place: Seq,
    limit: usize,
) -> rusqlite::Result<Changes> {
    let is_whole = tx.prepare_cached("SELECT 1 FROM changes WHERE seq = ?1")?.exists([place])?;
    let last = newest(tx)?;
    let sql = format!(
        "SELECT seq, kind, session_id, user_id, message_id FROM changes WHERE seq > ?1 AND kind IN ({}) \
         ORDER BY seq LIMIT ?2",
        codes(kinds)
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query_map(params![place, limit], |row| Ok(change(row)))?;
    let changes: Vec<_> = found.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    let seen = changes.last().filter(|_| changes.len() == limit).map(|change| change.seq);
    Ok(Changes { changes, next: seen.unwrap_or(last).max(place), is_whole })
}

/// Notes when that had happened which the deletion at this place took with it.
pub(crate) fn note_span(
    tx: &Transaction<'_>,
    place: Seq,
    (earliest, latest): (Timestamp, Timestamp),
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO deleted_spans (seq, earliest, latest) VALUES (?1, ?2, ?3)";
    let span = params![place, earliest.as_micros(), latest.as_micros()];
    tx.prepare_cached(sql)?.execute(span).map(drop)
}

/// When that had happened which the deletion at this place took with it; `None` where that was nothing.
pub(crate) fn span(tx: &Transaction<'_>, place: Seq) -> rusqlite::Result<Option<(Timestamp, Timestamp)>> {
    let sql = "SELECT earliest, latest FROM deleted_spans WHERE seq = ?1";
    let span = tx.prepare_cached(sql)?.query_row([place], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let moments = |(earliest, latest)| Timestamp::from_micros(earliest).zip(Timestamp::from_micros(latest));
    Ok(span.and_then(moments))
}

fn change(row: &Row<'_>) -> Option<Change> {
    Some(Change {
        seq: row.get(0).ok()?,
        kind: ChangeKind::of_code(row.get(1).ok()?)?,
        session_id: Uuid::from_bytes(row.get(2).ok()?),
        user_id: row.get::<_, Option<[u8; 16]>>(3).ok()?.map(Uuid::from_bytes),
        message_id: row.get::<_, Option<[u8; 16]>>(4).ok()?.map(Uuid::from_bytes),
    })
}
