//! The table `moved_starts`: sessions whose start moved. The statistics had counted them at their old start.

use rusqlite::{Transaction, params};
use talktrack_core::clock::{Seq, Timestamp};

/// Notes that the record with this `seq` moved a start from one time to another.
pub(crate) fn note(tx: &Transaction<'_>, seq: Seq, from: Timestamp, to: Timestamp) -> rusqlite::Result<()> {
    let sql = "INSERT INTO moved_starts (seq, moved_from, moved_to) VALUES (?1, ?2, ?3)";
    tx.prepare_cached(sql)?.execute(params![seq, from.as_micros(), to.as_micros()]).map(drop)
}

/// Returns the old and the new starts that records after the first and up to the second place moved.
pub(crate) fn read_between(tx: &Transaction<'_>, after: Seq, until: Seq) -> rusqlite::Result<Vec<Timestamp>> {
    let sql = "SELECT moved_from, moved_to FROM moved_starts WHERE seq > ?1 AND seq <= ?2";
    let mut statement = tx.prepare_cached(sql)?;
    let mut rows = statement.query(params![after, until])?;
    let mut times = Vec::new();
    while let Some(row) = rows.next()? {
        let moved = [row.get(0)?, row.get(1)?];
        times.extend(moved.into_iter().filter_map(Timestamp::from_micros));
    }
    Ok(times)
}

/// Removes what records before this place noted.
pub(crate) fn delete_before(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM moved_starts WHERE seq < ?1")?.execute([seq]).map(drop)
}
