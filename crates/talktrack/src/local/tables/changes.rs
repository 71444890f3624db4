//! The tables `changes`, which holds the change feed, and `deleted_spans`, which holds the span of time of each deletion
//! in it.

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::{MessageId, UserId};
use uuid::Uuid;

use crate::changes::{Change, ChangeKind, Changes};
use crate::local::tables::{closed_messages, moved_starts, removed_messages};

/// Adds changes after all others. Returns the number of added changes.
pub(crate) fn append(tx: &Transaction<'_>, changes: impl Iterator<Item = Change>) -> rusqlite::Result<u64> {
    let sql = "INSERT INTO changes (seq, kind, session_id, user_id, message_id) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = tx.prepare_cached(sql)?;
    let mut added = 0;
    for Change { seq, kind, session_id, user_id, message_id } in changes {
        let user_id = user_id.as_ref().map(user_value);
        let message_id = message_id.as_ref().map(MessageId::as_bytes);
        insert.execute(params![seq, kind.code(), session_id.as_bytes(), user_id, message_id])?;
        added += 1;
    }
    Ok(added)
}

/// Removes the oldest `surplus` changes, and what was noted of those among them. Returns the number of removed
/// changes.
pub(crate) fn delete_oldest(tx: &Transaction<'_>, surplus: u64) -> rusqlite::Result<u64> {
    let first_kept = "SELECT seq FROM changes ORDER BY seq LIMIT 1 OFFSET ?1";
    let first_kept: Option<Seq> =
        tx.prepare_cached(first_kept)?.query_row([surplus], |row| row.get(0)).optional()?;
    let Some(first_kept) = first_kept else { return Ok(0) };
    let gone = tx.prepare_cached("DELETE FROM changes WHERE seq < ?1")?.execute([first_kept])?;
    tx.prepare_cached("DELETE FROM deleted_spans WHERE seq < ?1")?.execute([first_kept])?;
    moved_starts::delete_before(tx, first_kept)?;
    closed_messages::delete_before(tx, first_kept)?;
    removed_messages::delete_before(tx, first_kept)?;
    Ok(gone as u64)
}

/// Returns the number of changes.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM changes", [], |row| row.get(0))
}

/// Returns the `seq` of the newest change, or 0 if there is none.
pub(crate) fn newest_seq(connection: &Connection) -> rusqlite::Result<Seq> {
    let sql = "SELECT coalesce(max(seq), 0) FROM changes";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Resets the feed, so that it starts after this place. Followers of the old feed learn that it is gone.
pub(crate) fn reset(tx: &Transaction<'_>, place: Seq) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM changes", [])?;
    tx.execute("DELETE FROM deleted_spans", [])?;
    tx.execute("DELETE FROM removed_messages", [])?;
    tx.execute("INSERT INTO changes (seq, kind) VALUES (?1, 0)", [place]).map(drop)
}

/// Returns up to `limit` changes after a place.
pub(crate) fn read_since(connection: &Connection, place: Seq, limit: usize) -> rusqlite::Result<Changes> {
    // One transaction, so that no change is removed between the two queries.
    let tx = connection.unchecked_transaction()?;
    let first: Option<Seq> =
        tx.prepare_cached("SELECT min(seq) FROM changes")?.query_row([], |row| row.get(0))?;
    let mut read =
        Changes { changes: Vec::new(), next: place, is_gap_free: first.is_some_and(|first| first <= place) };
    let sql =
        "SELECT seq, kind, session_id, user_id, message_id FROM changes WHERE seq > ?1 ORDER BY seq LIMIT ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![place, limit])?;
    while let Some(row) = rows.next()? {
        read.next = row.get(0)?;
        match read_change(row) {
            Some(change) => {
                read.changes.extend(closings_by(&tx, &change)?);
                read.changes.push(change);
            }
            // The marker row of a reset feed, or a row that is damaged beyond reading. In both cases a change is
            // missing.
            None => read.is_gap_free = false,
        }
    }
    Ok(read)
}

/// Returns the changes of the messages that the end of their session made final.
fn closings_by(tx: &Transaction<'_>, end: &Change) -> rusqlite::Result<Vec<Change>> {
    if end.kind != ChangeKind::SessionEnded {
        return Ok(Vec::new());
    }
    let closed = closed_messages::read_between(tx, end.seq.previous(), end.seq)?;
    let closing = |id| Change { kind: ChangeKind::Revision, message_id: Some(id), ..end.clone() };
    Ok(closed.into_iter().map(closing).collect())
}

/// Returns the number of changes of these kinds after a place. Counts no further than `limit`.
pub(crate) fn count_kinds_since(
    connection: &Connection,
    kinds: &[ChangeKind],
    place: Seq,
    limit: usize,
) -> rusqlite::Result<u64> {
    let sql = format!(
        "SELECT count(*) FROM (SELECT 1 FROM changes WHERE seq > ?1 AND kind IN ({}) LIMIT ?2)",
        kind_codes(kinds)
    );
    connection.prepare_cached(&sql)?.query_row(params![place, limit], |row| row.get(0))
}

fn kind_codes(kinds: &[ChangeKind]) -> String {
    kinds.iter().map(|kind| kind.code().to_string()).collect::<Vec<_>>().join(", ")
}

/// Returns up to `limit` changes of these kinds after a place that an earlier call returned, as of this transaction. No
/// change is missing if the place itself is still in the feed. In a file that was reset or replaced, it is not.
pub(crate) fn read_kinds_since(
    tx: &Transaction<'_>,
    kinds: &[ChangeKind],
    place: Seq,
    limit: usize,
) -> rusqlite::Result<Changes> {
    let is_gap_free = tx.prepare_cached("SELECT 1 FROM changes WHERE seq = ?1")?.exists([place])?;
    let last = newest_seq(tx)?;
    let sql = format!(
        "SELECT seq, kind, session_id, user_id, message_id FROM changes WHERE seq > ?1 AND kind IN ({}) \
         ORDER BY seq LIMIT ?2",
        kind_codes(kinds)
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query_map(params![place, limit], |row| Ok(read_change(row)))?;
    let changes: Vec<_> = found.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    let seen = changes.last().filter(|_| changes.len() == limit).map(|change| change.seq);
    Ok(Changes { changes, next: seen.unwrap_or(last).max(place), is_gap_free })
}

/// Notes the times of the earliest and the latest row that the deletion at this place removed.
pub(crate) fn note_span(
    tx: &Transaction<'_>,
    place: Seq,
    (earliest, latest): (Timestamp, Timestamp),
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO deleted_spans (seq, earliest, latest) VALUES (?1, ?2, ?3)";
    let span = params![place, earliest.as_micros(), latest.as_micros()];
    tx.prepare_cached(sql)?.execute(span).map(drop)
}

/// Returns the times of the earliest and the latest row that the deletion at this place removed, or `None` if it
/// removed none.
pub(crate) fn read_span(
    tx: &Transaction<'_>,
    place: Seq,
) -> rusqlite::Result<Option<(Timestamp, Timestamp)>> {
    let sql = "SELECT earliest, latest FROM deleted_spans WHERE seq = ?1";
    let span = tx.prepare_cached(sql)?.query_row([place], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let moments = |(earliest, latest)| Timestamp::from_micros(earliest).zip(Timestamp::from_micros(latest));
    Ok(span.and_then(moments))
}

/// Returns the value of the column `user_id`: the bytes of a UUID, or the user's text.
fn user_value(user: &UserId) -> ToSqlOutput<'_> {
    let uuid = ValueRef::Blob(user.as_bytes());
    ToSqlOutput::Borrowed(user.text().map_or(uuid, |text| ValueRef::Text(text.as_bytes())))
}

/// Reads the column `user_id`. `None` if no change has this value.
fn read_user(value: ValueRef<'_>) -> Option<Option<UserId>> {
    match value {
        ValueRef::Null => Some(None),
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes).ok().map(|uuid| Some(UserId::new(uuid))),
        ValueRef::Text(text) => str::from_utf8(text).ok()?.parse().ok().map(Some),
        ValueRef::Integer(_) | ValueRef::Real(_) => None,
    }
}

fn read_change(row: &Row<'_>) -> Option<Change> {
    Some(Change {
        seq: row.get(0).ok()?,
        kind: ChangeKind::from_code(row.get(1).ok()?)?,
        session_id: Uuid::from_bytes(row.get(2).ok()?).into(),
        user_id: read_user(row.get_ref(3).ok()?)?,
        message_id: row.get::<_, Option<[u8; 16]>>(4).ok()?.map(|id| Uuid::from_bytes(id).into()),
    })
}
