//! Copies every readable row into a new file, and then computes again what depends on the rows.

use std::path::Path;
use std::time::Duration;

use rusqlite::{CachedStatement, Transaction, params};
use sqlite_salvage::{Database, Record as FoundRecord, Unreadable, Value};
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Record, SessionStart};

use crate::local::database::{self, column, column_or_null, parse_id, parse_time};
use crate::local::tables::directory;
use crate::salvage::report::{IncompleteSession, Salvaged};
use crate::salvage::tables::{SalvagedTable, SqlValue};
use crate::salvage::totals;
use crate::store::sqlite;
use crate::writer::Writer;

/// A `seq` is a time. One that is further in the future than this is damaged, even if the clock was wrong.
const FUTURE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Builds the new file at `draft`, and returns what it contains. The caller must sync it to disk.
pub(super) fn rebuild(damaged: &Database, draft: &Path) -> rusqlite::Result<Salvaged> {
    let mut connection = database::create_draft(draft)?;
    // Other programs write words that talktrack does not know, despite the checks of the tables: these rows
    // stay unchanged.
    connection.pragma_update(None, "ignore_check_constraints", true)?;
    let tx = connection.transaction()?;
    let horizon = SystemClock.now().plus(FUTURE).as_micros();
    let mut rebuilder = Rebuilder { tx: &tx, books: None, broken: 0, horizon, renumbered: 0 };
    tx.execute_batch("CREATE TEMP TABLE session_index (user_id, started_at, session_id)")?;
    rebuilder.copy_rows(damaged)?;
    let books = rebuilder.books;
    let broken = rebuilder.broken;
    remove_deleted(&tx)?;
    let restored = restore_sessions(&tx)?;
    let incomplete = correct_message_counts(&tx)?;
    let mut saved = totals::write_totals(&tx, books.as_deref(), horizon)?;
    saved.missing.add_sessions(&incomplete);
    saved.missing.broken_records = broken;
    saved.restored_sessions = restored;
    tx.commit()?;
    Ok(saved)
}

struct Rebuilder<'t> {
    tx: &'t Transaction<'t>,
    books: Option<Vec<Value>>,
    broken: u64,
    /// No valid `seq` is higher.
    horizon: Seq,
    /// The number of records that got a new `seq`, because theirs cannot be valid.
    renumbered: Seq,
}

impl Rebuilder<'_> {
    fn copy_rows(&mut self, damaged: &Database) -> rusqlite::Result<()> {
        damaged.records().try_for_each(|found| match found {
            Ok(found) => self.copy_row(found),
            // Index entries are in the rows as well.
            Err(unreadable) => {
                self.broken += u64::from(matches!(unreadable, Unreadable::Record { is_row: true, .. }));
                Ok(())
            }
        })
    }

    fn copy_row(&mut self, mut found: FoundRecord) -> rusqlite::Result<()> {
        let Some(table) = SalvagedTable::recognise(&found) else { return Ok(()) };
        if table == SalvagedTable::Journal {
            self.repair_record(&mut found);
        }
        if table == SalvagedTable::Sessions && found.values.len() < 16 {
            found.values.extend([Value::Integer(0), Value::Null, Value::Null]);
        }
        if matches!(table, SalvagedTable::Sessions | SalvagedTable::Messages) && found.values.len() < 17 {
            found.values.push(Value::Null);
        }
        if table == SalvagedTable::DeletedSessions {
            found.values.resize(3, Value::Null);
        }
        // A flipped bit in a letter can change its case: the id is the same but spelled differently.
        for column in table.id_columns() {
            if let Value::Text(id) = &mut found.values[*column] {
                id.make_ascii_lowercase();
            }
        }
        if table == SalvagedTable::Directory {
            let [store, address] = [&found.values[2], &found.values[3]].map(SqlValue);
            return directory::restore(self.tx, &store, &address);
        }
        let Some(mut insert) = self.prepare_insert(table)? else {
            self.books = Some(found.values);
            return Ok(());
        };
        self.prefer_newer(table, &found.values)?;
        let rowid = found.rowid.map(Value::Integer);
        // If the rowid is also a column of the table, that is the first column.
        let values = if rowid.is_some() && found.values[0] == Value::Null {
            &found.values[1..]
        } else {
            &found.values
        };
        insert.execute(rusqlite::params_from_iter(rowid.iter().chain(values).map(SqlValue)))?;
        Ok(())
    }

    /// For an intact record, the fields in its body count, not the columns of its row. A damaged one will
    /// become a dead letter, but it must not come after new records, so a `seq` in the future is replaced.
    fn repair_record(&mut self, found: &mut FoundRecord) {
        found.values.resize(7, Value::Null);
        if let Some(record) = parse_intact(&found.values) {
            let message = record.message().map(|stamped| (stamped.id.to_string(), stamped.message.revision));
            let (id, revision) = message.unzip();
            found.rowid = Some(record.seq);
            if !record.is_deletion() {
                found.values[5] = Value::Text(record.session_id().to_string().into());
            }
            let lane = i64::try_from(Writer::lane_of(&record)).unwrap_or(0);
            found.values[6] = Value::Integer(lane);
            found.values[1] = id.map_or(Value::Null, |id| Value::Text(id.into()));
            found.values[2] = revision.map_or(Value::Null, |revision| Value::Integer(revision.into()));
        } else if !found.rowid.is_some_and(|seq| (1..=self.horizon).contains(&seq)) {
            self.renumbered += 1;
            found.rowid = Some(self.renumbered);
        }
    }

    fn prepare_insert(&self, table: SalvagedTable) -> rusqlite::Result<Option<CachedStatement<'_>>> {
        let (into, columns) = match table {
            SalvagedTable::Sessions => (
                "conversation_sessions (rowid, id, session_id, user_id, started_at, ended_at, \
                duration_seconds, metadata, created_at, external_id, status, end_reason, message_count, last_event_at, \
                end_inferred, last_node, last_seq, extra)",
                18,
            ),
            SalvagedTable::Messages => (
                "conversation_messages (rowid, id, session_id, user_id, role, content, audio_url, metadata, \
                created_at, seq, external_id, kind, revision, interrupted, content_generated, parts, metrics, extra)",
                18,
            ),
            SalvagedTable::Journal => {
                ("journal (seq, message_id, revision, body, checksum, session_id, lane)", 7)
            }
            SalvagedTable::ResendWindow => {
                ("resend_window (lane, first, last, delivery, stored_at, bytes, deletes)", 7)
            }
            SalvagedTable::Lanes => ("lanes (lane, delivery)", 2),
            SalvagedTable::DeadLetters => {
                ("dead_letters (seq, session_id, message_id, reason, detail, body, died_at)", 7)
            }
            SalvagedTable::OpenSessions => ("open_sessions (session_id)", 1),
            SalvagedTable::DeletedSessions => ("deleted_sessions (session_id, deleted_at, user_id)", 3),
            SalvagedTable::DeletedMessages => {
                ("conversation_message_deletions (session_id, message_id, deleted_at)", 3)
            }
            SalvagedTable::DeletedClaims => ("deleted_claims (session_id, user_id, deleted_at)", 3),
            SalvagedTable::SessionIndex => ("session_index (user_id, started_at, session_id, rowid)", 4),
            SalvagedTable::Books | SalvagedTable::Directory => return Ok(None),
        };
        let places = vec!["?"; columns].join(", ");
        self.tx.prepare_cached(&format!("INSERT OR IGNORE INTO {into} VALUES ({places})")).map(Some)
    }

    /// Removes the older version of a row: if a page of the WAL was broken, an older page may contain the
    /// same row again.
    fn prefer_newer(&self, table: SalvagedTable, values: &[Value]) -> rusqlite::Result<()> {
        let (sql, values) = match table {
            SalvagedTable::Messages => (
                "DELETE FROM conversation_messages WHERE id = ?1 AND revision < ?2",
                [&values[0], &values[11]],
            ),
            SalvagedTable::Sessions => (
                "DELETE FROM conversation_sessions WHERE session_id = ?1 AND last_event_at < ?2",
                [&values[1], &values[12]],
            ),
            _ => return Ok(()),
        };
        self.tx.prepare_cached(sql)?.execute(values.map(SqlValue)).map(drop)
    }
}

/// Returns a record of the journal, if its bytes are those that were written.
fn parse_intact(values: &[Value]) -> Option<Record> {
    let (Value::Text(body), Value::Integer(checksum)) = (&values[3], &values[4]) else { return None };
    let holds = i64::from(crc32fast::hash(body)) == *checksum;
    holds.then(|| serde_json::from_slice(body).ok()).flatten()
}

/// Removes rows of deleted sessions and messages, which an old page may still contain.
fn remove_deleted(tx: &Transaction<'_>) -> rusqlite::Result<()> {
    let tables =
        ["conversation_messages", "conversation_sessions", "session_index", "journal", "dead_letters"];
    tables.into_iter().try_for_each(|table| {
        let sql =
            format!("DELETE FROM {table} WHERE session_id IN (SELECT session_id FROM deleted_sessions)");
        tx.execute(&sql, []).map(drop)
    })?;
    let sql = "DELETE FROM conversation_messages WHERE EXISTS (SELECT 1 FROM conversation_message_deletions gone \
               WHERE gone.session_id = conversation_messages.session_id AND gone.message_id = conversation_messages.id)";
    tx.execute(sql, []).map(drop)
}

/// Writes missing session rows again, from the index or else from the messages. Returns how many there
/// were.
fn restore_sessions(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    const KNOWN: [&str; 2] = [
        "SELECT session_id, user_id, started_at FROM session_index i \
         WHERE NOT EXISTS (SELECT 1 FROM conversation_sessions s WHERE s.session_id = i.session_id)",
        "SELECT session_id, max(user_id), min(created_at) FROM conversation_messages m \
         WHERE NOT EXISTS (SELECT 1 FROM conversation_sessions s WHERE s.session_id = m.session_id) GROUP BY session_id",
    ];
    let mut restored = 0;
    for sql in KNOWN {
        let mut missing = tx.prepare(sql)?;
        let rows = missing.query_map([], |row| {
            Ok((column(row, 0, parse_id)?, column_or_null(row, 1, parse_id)?, column(row, 2, parse_time)?))
        })?;
        for (session_id, user, started_at) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
            restore(tx, session_id, user, started_at)?;
            restored += 1;
        }
    }
    Ok(restored)
}

/// Restores the session as open. The first start after a crash ends it, as of its last event.
fn restore(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user: Option<UserId>,
    started_at: Timestamp,
) -> rusqlite::Result<()> {
    // If only system messages are left, the user is unknown.
    let user_id = user.unwrap_or(UserId::nil());
    let external_id = None;
    let metadata = None;
    let resumed = true;
    let start = SessionStart { session_id, user_id, external_id, metadata, started_at, resumed };
    sqlite::insert_session(tx, started_at.as_micros(), &start, false)?;
    let sql = "UPDATE conversation_sessions SET last_event_at = max(last_event_at, coalesce((SELECT max(created_at) \
               FROM conversation_messages m WHERE m.session_id = ?1), '')) WHERE session_id = ?1";
    tx.prepare_cached(sql)?.execute(params![session_id.to_string()]).map(drop)
}

/// Corrects the message count of each session, and returns the sessions that had more messages.
fn correct_message_counts(tx: &Transaction<'_>) -> rusqlite::Result<Vec<IncompleteSession>> {
    let sql = "SELECT session_id, message_count, n FROM (SELECT s.session_id, s.message_count, \
               (SELECT count(*) FROM conversation_messages m WHERE m.session_id = s.session_id) n \
               FROM conversation_sessions s) WHERE message_count <> n";
    let mut differing = tx.prepare(sql)?;
    let differing = differing.query_map([], |row| {
        Ok(IncompleteSession { session_id: row.get(0)?, counted: row.get(1)?, found: row.get(2)? })
    })?;
    let differing = differing.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut correct =
        tx.prepare("UPDATE conversation_sessions SET message_count = ?2 WHERE session_id = ?1")?;
    for session in &differing {
        correct.execute(params![session.session_id, session.found])?;
    }
    Ok(differing.into_iter().filter(|session| session.counted > session.found).collect())
}
