//! The sessions that a table has rows of.

use rusqlite::Connection;
use talktrack_core::ids::SessionId;

use crate::local::database::{column_or_null, parse_id};

/// Returns the sessions that this table has rows of, in the order of their ids. The table has an index on `session_id`.
pub(super) fn read_distinct_sessions(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<Vec<SessionId>> {
    // The query jumps from one session to the next in the index, so its cost does not depend on the number of rows per
    // session.
    let sql = format!(
        "WITH RECURSIVE one(id) AS (SELECT min(session_id) FROM {table} UNION ALL \
         SELECT (SELECT min(session_id) FROM {table} WHERE session_id > one.id) FROM one WHERE one.id IS NOT NULL) \
         SELECT id FROM one WHERE id IS NOT NULL"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let ids = statement.query_map([], |row| column_or_null(row, 0, parse_id))?;
    ids.filter_map(Result::transpose).collect()
}
