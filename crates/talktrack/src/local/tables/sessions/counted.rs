//! Reads what the statistics count of sessions.

use rusqlite::{Connection, Transaction, params};
use talktrack_core::clock::Timestamp;
use talktrack_core::ids::UserId;
use talktrack_core::record::Status;
use talktrack_core::stats::TimeRange;

use crate::local::database::{UuidText, column_or_null, parse_time};

/// Returns the highest `rowid`, or 0 if there is no row.
pub(crate) fn newest_row(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT coalesce(max(rowid), 0) FROM conversation_sessions";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

/// Returns the `rowid` and the start of up to `limit` sessions after this row, in the order of rows. The start is
/// `None` if it is not a valid time.
pub(crate) fn read_starts_after(
    tx: &Transaction<'_>,
    row: i64,
    limit: usize,
) -> rusqlite::Result<Vec<(i64, Option<Timestamp>)>> {
    let sql = "SELECT rowid, started_at FROM conversation_sessions WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let starts = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, column_or_null(row, 1, parse_time)?));
    statement.query_map(params![row, limit], starts)?.collect()
}

/// A place in the order of starts, in the spelling of the columns. The start need not be that of a session.
#[derive(Debug, Clone, Default)]
pub(crate) struct StartPlace {
    pub(crate) started_at: String,
    pub(crate) session_id: String,
}

/// What [`visit_starts`] has read.
pub(crate) struct VisitedStarts {
    pub(crate) count: usize,
    /// The place of the last session, or `None` if fewer than `limit` were left.
    pub(crate) last: Option<StartPlace>,
}

/// Calls `visit` with the status and the duration in seconds of up to `limit` sessions after this place that started
/// before `until`, in the order of starts. An unknown status counts as active.
pub(crate) fn visit_starts(
    tx: &Transaction<'_>,
    after: &StartPlace,
    until: &str,
    limit: usize,
    mut visit: impl FnMut(Status, Option<f64>),
) -> rusqlite::Result<VisitedStarts> {
    let sql = "SELECT started_at, session_id, status, duration_seconds FROM conversation_sessions \
               WHERE (started_at, session_id) > (?1, ?2) AND started_at < ?3 ORDER BY started_at, session_id LIMIT ?4";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![after.started_at, after.session_id, until, limit])?;
    let mut visited = VisitedStarts { count: 0, last: None };
    while let Some(row) = rows.next()? {
        visited.count += 1;
        if visited.count == limit {
            visited.last = Some(StartPlace { started_at: row.get(0)?, session_id: row.get(1)? });
        }
        let status = column_or_null(row, 2, |word| word.parse().ok())?.unwrap_or(Status::Active);
        visit(status, row.get(3).ok().flatten());
    }
    Ok(visited)
}

/// Calls `visit` with the start, the status and the duration in seconds of each session of a user that started in the
/// range. Reads the index of the user's sessions. An unknown status counts as active.
pub(crate) fn visit_of_user(
    tx: &Transaction<'_>,
    user_id: &UserId,
    range: &TimeRange,
    mut visit: impl FnMut(Timestamp, Status, Option<f64>),
) -> rusqlite::Result<()> {
    let sql = "SELECT started_at, status, duration_seconds FROM conversation_sessions \
               WHERE user_id = ?1 AND user_external_id IS ?4 AND started_at >= ?2 AND started_at < ?3";
    let uuid = UuidText::new(user_id.as_uuid());
    let mut statement = tx.prepare(sql)?;
    let (since, until) = (range.since().to_string(), range.until().to_string());
    let mut rows = statement.query(params![uuid.as_str(), since, until, user_id.text()])?;
    while let Some(row) = rows.next()? {
        let status = column_or_null(row, 1, |word| word.parse().ok())?.unwrap_or(Status::Active);
        let seconds = row.get(2).ok().flatten();
        column_or_null(row, 0, parse_time)?.into_iter().for_each(|at| visit(at, status, seconds));
    }
    Ok(())
}
