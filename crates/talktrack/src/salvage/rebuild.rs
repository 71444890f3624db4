//! Copies every readable row into a new file, and then computes again what depends on the rows.

use std::path::Path;
use std::time::Duration;

use rusqlite::{CachedStatement, Transaction};
use sqlite_salvage::{Database, Record as FoundRecord, Unreadable, Value};
use talktrack_core::clock::{Clock as _, Seq, SystemClock};
use talktrack_core::ids::UserId;
use talktrack_core::record::{Record, SessionStart};

use crate::local::database;
use crate::local::tables::messages::checks::KnownSession;
use crate::local::tables::sessions::checks::WrongCount;
use crate::local::tables::{
    dead_letters, deleted_claims, deleted_sessions, directory, journal, lanes, message_deletions, messages,
    open_sessions, resend_window, sessions,
};
use crate::salvage::report::Salvaged;
use crate::salvage::tables::{SalvagedTable, SqlValue};
use crate::salvage::totals;
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
    let horizon = Seq::from(SystemClock.now().plus(FUTURE));
    let mut rebuilder = Rebuilder { tx: &tx, books: None, broken: 0, horizon, renumbered: Seq::ZERO };
    sessions::checks::create_index_copy(&tx)?;
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
        if table == SalvagedTable::Messages && found.values.len() < 20 {
            found.values.extend([Value::Null, Value::Text("final".into()), Value::Null]);
        }
        if table == SalvagedTable::Sessions {
            found.values.resize(24, Value::Null);
        }
        if table == SalvagedTable::SessionIndex && found.values.len() == 4 {
            found.values.insert(3, Value::Null);
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
            found.rowid = Some(record.seq.get());
            if !record.is_deletion() {
                found.values[5] = Value::Text(record.session_id().to_string().into());
            }
            let lane = i64::try_from(Writer::lane_of(&record)).unwrap_or(0);
            found.values[6] = Value::Integer(lane);
            found.values[1] = id.map_or(Value::Null, |id| Value::Text(id.into()));
            found.values[2] = revision.map_or(Value::Null, |revision| Value::Integer(revision.into()));
        } else if !found.rowid.is_some_and(|seq| (1..=self.horizon.get()).contains(&seq)) {
            self.renumbered = self.renumbered.next();
            found.rowid = Some(self.renumbered.get());
        }
    }

    fn prepare_insert(&self, table: SalvagedTable) -> rusqlite::Result<Option<CachedStatement<'_>>> {
        let record = match table {
            SalvagedTable::Sessions => sessions::RECORD,
            SalvagedTable::Messages => messages::RECORD,
            SalvagedTable::Journal => journal::RECORD,
            SalvagedTable::ResendWindow => resend_window::RECORD,
            SalvagedTable::Lanes => lanes::RECORD,
            SalvagedTable::DeadLetters => dead_letters::RECORD,
            SalvagedTable::OpenSessions => open_sessions::RECORD,
            SalvagedTable::DeletedSessions => deleted_sessions::RECORD,
            SalvagedTable::DeletedMessages => message_deletions::RECORD,
            SalvagedTable::DeletedClaims => deleted_claims::RECORD,
            SalvagedTable::SessionIndex => {
                "session_index (user_id, started_at, session_id, user_external_id, rowid)"
            }
            SalvagedTable::Books | SalvagedTable::Directory => return Ok(None),
        };
        let columns = record.matches(',').count() + 1;
        let places = vec!["?"; columns].join(", ");
        self.tx.prepare_cached(&format!("INSERT OR IGNORE INTO {record} VALUES ({places})")).map(Some)
    }

    /// Removes the older version of a row: if a page of the WAL was broken, an older page may contain the
    /// same row again.
    fn prefer_newer(&self, table: SalvagedTable, values: &[Value]) -> rusqlite::Result<()> {
        let value = |column: usize| SqlValue(&values[column]);
        match table {
            SalvagedTable::Messages => messages::checks::delete_older(self.tx, &value(0), &value(11)),
            SalvagedTable::Sessions => sessions::checks::delete_older(self.tx, &value(1), &value(12)),
            _ => Ok(()),
        }
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
    tables.into_iter().try_for_each(|table| deleted_sessions::delete_from_table(tx, table))?;
    messages::checks::delete_with_tombstone(tx)
}

/// Writes missing session rows again, from the index or else from the messages. Returns how many there
/// were.
fn restore_sessions(tx: &Transaction<'_>) -> rusqlite::Result<u64> {
    let in_index = sessions::checks::read_missing(tx)?;
    in_index.iter().try_for_each(|known| restore(tx, known))?;
    let in_messages = messages::checks::read_orphaned_sessions(tx)?;
    in_messages.iter().try_for_each(|known| restore(tx, known))?;
    Ok((in_index.len() + in_messages.len()) as u64)
}

/// Restores the session as open. The first start after a crash ends it, as of its last event.
fn restore(tx: &Transaction<'_>, known: &KnownSession) -> rusqlite::Result<()> {
    let KnownSession { session_id, started_at, .. } = *known;
    // If only system messages are left, the user is unknown.
    let user_id = known.user_id.clone().unwrap_or(UserId::nil());
    let start = SessionStart::restored(session_id, user_id, started_at);
    sessions::insert_session(tx, started_at.into(), &start, false)?;
    sessions::checks::advance_last_event(tx, session_id)
}

/// Corrects the message count of each session, and returns the sessions that had more messages.
fn correct_message_counts(tx: &Transaction<'_>) -> rusqlite::Result<Vec<WrongCount>> {
    let wrong = sessions::checks::read_wrong_counts(tx)?;
    sessions::checks::correct_counts(tx, &wrong)?;
    Ok(wrong.into_iter().filter(|session| session.counted > session.found).collect())
}
