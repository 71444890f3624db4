//! Reads what the statistics count of messages.

use rusqlite::{OptionalExtension as _, Row, Rows, Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::ids::{MessageId, UserId};
use talktrack_core::message::Role;
use talktrack_core::stats::TimeRange;

use crate::local::database::{UuidText, column_or_null, parse_time};

/// The parts of a message that are counted.
pub(crate) struct CountedMessage<'r> {
    pub(crate) created_at: Timestamp,
    pub(crate) role: Role,
    pub(crate) interrupted: bool,
    /// JSON as it is stored.
    pub(crate) metrics: Option<&'r str>,
    /// False if the message is in progress or discarded. It is not counted, and may be later.
    pub(crate) is_final: bool,
}

impl<'r> CountedMessage<'r> {
    /// Reads `created_at, role, interrupted, metrics, status`, of which the first is at this index. `None` if the time or the
    /// role is invalid.
    fn read(row: &'r Row<'_>, first: usize) -> rusqlite::Result<Option<Self>> {
        let at = column_or_null(row, first, parse_time)?;
        let role = column_or_null(row, first + 1, |word| word.parse::<Role>().ok())?;
        let Some((created_at, role)) = at.zip(role) else { return Ok(None) };
        Ok(Some(Self {
            created_at,
            role,
            interrupted: row.get(first + 2).unwrap_or_default(),
            metrics: row.get_ref(first + 3)?.as_str_or_null().ok().flatten(),
            is_final: row.get_ref(first + 4)?.as_str_or_null().ok().flatten() == Some("final"),
        }))
    }
}

/// Calls `visit` with the `rowid` of up to `limit` messages after this row, in the order of rows, and with the message
/// or `None` if it cannot be counted.
pub(crate) fn visit_after(
    tx: &Transaction<'_>,
    row: i64,
    limit: usize,
    visit: impl FnMut(i64, Option<CountedMessage<'_>>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT rowid, created_at, role, interrupted, metrics, status FROM conversation_messages \
               WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    visit_rows(tx.prepare_cached(sql)?.query(params![row, limit])?, visit)
}

/// Calls `visit` as [`visit_after`] does, with up to `limit` messages from the row `first` to the row `last`.
pub(crate) fn visit_between(
    tx: &Transaction<'_>,
    first: i64,
    last: i64,
    limit: usize,
    visit: impl FnMut(i64, Option<CountedMessage<'_>>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let sql = "SELECT rowid, created_at, role, interrupted, metrics, status FROM conversation_messages \
               WHERE rowid BETWEEN ?1 AND ?2 ORDER BY rowid LIMIT ?3";
    visit_rows(tx.prepare_cached(sql)?.query(params![first, last, limit])?, visit)
}

fn visit_rows(
    mut rows: Rows<'_>,
    mut visit: impl FnMut(i64, Option<CountedMessage<'_>>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    while let Some(row) = rows.next()? {
        visit(row.get(0)?, CountedMessage::read(row, 1)?)?;
    }
    Ok(())
}

/// Calls `visit` with each message that was said in the range in a session of this user. Reads the index of the user's
/// sessions, and the messages of each by their time. Leaves out messages that cannot be counted.
pub(crate) fn visit_of_user(
    tx: &Transaction<'_>,
    user_id: &UserId,
    range: &TimeRange,
    mut visit: impl FnMut(CountedMessage<'_>),
) -> rusqlite::Result<()> {
    let sql = "SELECT m.created_at, m.role, m.interrupted, m.metrics, m.status FROM conversation_sessions s \
               CROSS JOIN conversation_messages m ON m.session_id = s.session_id AND m.created_at >= ?2 AND m.created_at < ?3 \
               WHERE s.user_id = ?1 AND s.user_external_id IS ?4";
    let uuid = UuidText::new(user_id.as_uuid());
    let mut statement = tx.prepare(sql)?;
    let (since, until) = (range.since().to_string(), range.until().to_string());
    let mut rows = statement.query(params![uuid.as_str(), since, until, user_id.text()])?;
    while let Some(row) = rows.next()? {
        CountedMessage::read(row, 0)?.into_iter().filter(|said| said.is_final).for_each(&mut visit);
    }
    Ok(())
}

/// Returns the last row up to `last_row` that was accepted up to this `seq`, or 0 if there is none. Reads the rows
/// backwards. A row without a `seq` counts as accepted before.
pub(crate) fn last_row_accepted_until(
    tx: &Transaction<'_>,
    last_row: i64,
    until: Seq,
) -> rusqlite::Result<i64> {
    let sql = "SELECT rowid, seq FROM conversation_messages WHERE rowid <= ?1 ORDER BY rowid DESC";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query([last_row])?;
    while let Some(row) = rows.next()? {
        let seq: Option<Seq> = row.get(1)?;
        if seq.is_none_or(|seq| seq <= until) {
            return row.get(0);
        }
    }
    Ok(0)
}

/// Returns the time of a message. `None` if its row is after `last_row`, or the time is not valid.
pub(crate) fn read_created_at(
    tx: &Transaction<'_>,
    id: MessageId,
    last_row: i64,
) -> rusqlite::Result<Option<Timestamp>> {
    let sql = "SELECT created_at FROM conversation_messages WHERE id = ?1 AND rowid <= ?2";
    let id = UuidText::new(id);
    let at = tx
        .prepare_cached(sql)?
        .query_row(params![id.as_str(), last_row], |row| column_or_null(row, 0, parse_time));
    Ok(at.optional()?.flatten())
}
