//! The table `lanes`: the number of the last delivery of each lane of the writer.

use rusqlite::{Connection, Transaction, params};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "lanes (lane, delivery)";

/// Notes the number of the last delivery of a lane. A smaller number than the noted one changes nothing.
pub(crate) fn note_delivery(tx: &Transaction<'_>, lane: usize, delivery: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO lanes (lane, delivery) VALUES (?1, ?2) \
               ON CONFLICT (lane) DO UPDATE SET delivery = max(delivery, excluded.delivery)";
    tx.prepare_cached(sql)?.execute(params![lane, delivery]).map(drop)
}

/// Returns each lane with the number of its last delivery, from this table and from the re-send window.
pub(crate) fn read_deliveries(connection: &Connection) -> rusqlite::Result<Vec<(usize, i64)>> {
    // A file that was salvaged may have only one of the two tables.
    let sql = "SELECT lane, max(delivery) FROM (SELECT lane, delivery FROM lanes UNION ALL \
               SELECT lane, delivery FROM resend_window) GROUP BY lane";
    connection.prepare(sql)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Returns the numbers of the noted lanes in ascending order.
pub(crate) fn read_numbers(connection: &Connection) -> rusqlite::Result<Vec<usize>> {
    read_list(connection, "SELECT lane FROM lanes ORDER BY lane")
}

/// Returns the numbers of the lanes that are noted here or in the re-send window.
pub(crate) fn read_used_numbers(connection: &Connection) -> rusqlite::Result<Vec<usize>> {
    read_list(connection, "SELECT lane FROM lanes UNION SELECT lane FROM resend_window")
}

/// Removes all lanes.
pub(crate) fn delete_all(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    tx.execute("DELETE FROM lanes", []).map(drop)
}

fn read_list(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<usize>> {
    connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect()
}
