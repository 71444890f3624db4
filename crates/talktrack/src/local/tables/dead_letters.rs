//! The tables `dead_letters` and `letter_sizes`: the records that the store refused, each with the reason and its size.
//! Triggers keep the sizes up to date.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{DeadReason, Record};

use crate::local::database::users::{UserText, parse_user};
use crate::local::database::{UuidText, column_or_null, parse_id, parse_time, text, text_or_null};
use crate::local::tables::distinct_sessions::read_distinct_sessions;
use crate::local::tables::owner::{of_session, owner, read_records_of};

/// The table with its columns in the order of a stored record. Salvaging writes whole records.
pub(crate) const RECORD: &str = "dead_letters (seq, session_id, message_id, reason, detail, body, died_at)";

const LETTER_COLUMNS: &str = "seq, session_id, message_id, reason, detail, died_at, body";

/// Is answered from an index alone, in the order of the index.
const BYTES_OF_OWNERS: &str = "SELECT owner, sum(bytes) FROM letter_sizes GROUP BY owner";

/// A durable record that the store refused.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its place in the order of acceptance, which also identifies the dead letter.
    pub seq: Seq,
    /// The session of the record. `None` if its bytes cannot be read.
    pub session_id: Option<SessionId>,
    /// The id of the message. `None` for a start, an update or an end of a session.
    pub message_id: Option<MessageId>,
    /// The word of its [`DeadReason`].
    pub reason: String,
    /// The store's own message, if there is one.
    pub detail: Option<String>,
    /// When the record became a dead letter.
    pub died_at: Timestamp,
    /// The record, or the raw text if that cannot be read as a record.
    pub record: Result<Box<Record>, String>,
}

impl DeadLetter {
    /// Returns the record if it is unchanged since its acceptance. Changed bytes need a person to judge
    /// them.
    pub fn intact(self) -> Option<Record> {
        let corrupt = self.reason == DeadReason::Corrupt.as_str();
        self.record.ok().filter(|_| !corrupt).map(|record| *record)
    }
}

/// What a new dead letter consists of. The ids are the text of the columns, and `None` if they cannot be read.
pub(crate) struct NewLetter<'a> {
    pub(crate) seq: Seq,
    pub(crate) session_id: Option<&'a str>,
    /// `None` if the record is no message.
    pub(crate) message_id: Option<&'a str>,
    pub(crate) reason: &'a DeadReason,
    pub(crate) body: &'a str,
    pub(crate) died_at: Timestamp,
}

/// Numbers of dead letters that were removed.
#[derive(Default)]
pub(crate) struct RemovedLetters {
    pub(crate) all: u64,
    /// Those that hold a message.
    pub(crate) messages: u64,
}

/// Writes a dead letter. It replaces one with the same `seq`.
pub(crate) fn insert(tx: &Transaction<'_>, letter: &NewLetter<'_>) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO dead_letters (seq, session_id, message_id, reason, detail, body, died_at) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let NewLetter { seq, session_id, message_id, reason, body, died_at } = *letter;
    tx.prepare_cached(sql)?.execute(params![
        seq,
        session_id,
        message_id,
        reason.as_str(),
        reason.detail(),
        body,
        died_at.to_string()
    ])?;
    Ok(())
}

/// Removes a dead letter. Returns whether it held a message, or `None` if there was no such letter.
pub(crate) fn delete(tx: &Transaction<'_>, seq: Seq) -> rusqlite::Result<Option<bool>> {
    let sql = "DELETE FROM dead_letters WHERE seq = ?1 RETURNING message_id IS NOT NULL";
    tx.prepare_cached(sql)?.query_row([seq], |row| row.get(0)).optional()
}

/// Removes the dead letters of a session: those that were accepted for one user, or all. All of them include letters
/// whose bytes are too damaged to name the session but contain its id.
pub(crate) fn delete_of_session(
    tx: &Transaction<'_>,
    session_id: SessionId,
    owner: Option<&UserId>,
) -> rusqlite::Result<RemovedLetters> {
    let sql = concat!(
        "DELETE FROM dead_letters WHERE ",
        of_session!(),
        " OR (?2 IS NULL AND session_id IS NULL AND instr(body, ?1)) RETURNING message_id IS NOT NULL"
    );
    let id = UuidText::new(session_id);
    let owner = owner.map(UserText::new);
    let mut delete = tx.prepare_cached(sql)?;
    let mut letters = delete.query(params![id.as_str(), owner.as_ref().map(UserText::as_str)])?;
    let mut removed = RemovedLetters::default();
    while let Some(letter) = letters.next()? {
        removed.all += 1;
        removed.messages += u64::from(letter.get::<_, bool>(0)?);
    }
    Ok(removed)
}

/// Deletes the dead letters of a message. Returns their number.
pub(crate) fn delete_of_message(
    tx: &Transaction<'_>,
    session_id: SessionId,
    message_id: MessageId,
) -> rusqlite::Result<u64> {
    let sql = "DELETE FROM dead_letters WHERE session_id = ?1 AND message_id = ?2";
    let session = UuidText::new(session_id);
    let message = UuidText::new(message_id);
    tx.prepare_cached(sql)?.execute([session.as_str(), message.as_str()]).map(|letters| letters as u64)
}

/// Returns one dead letter.
pub(crate) fn find(connection: &Connection, seq: Seq) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = format!("SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq = ?1");
    connection.prepare_cached(&sql)?.query_row([seq], letter_row).optional()
}

/// Returns up to `limit` dead letters after a `seq`, oldest first.
pub(crate) fn read_after(
    connection: &Connection,
    after: Option<Seq>,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!("SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let after = after.unwrap_or(Seq::MIN);
    connection.prepare_cached(&sql)?.query_map(params![after, limit], letter_row)?.collect()
}

/// Returns up to `limit` dead letters before a `seq`, newest first: those with one reason, or all.
pub(crate) fn read_newest(
    connection: &Connection,
    reason: Option<&str>,
    before: Option<Seq>,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!(
        "SELECT {LETTER_COLUMNS} FROM dead_letters WHERE seq < ?1 AND coalesce(reason = ?2, true) \
         ORDER BY seq DESC LIMIT ?3"
    );
    let before = before.unwrap_or(Seq::MAX);
    connection.prepare_cached(&sql)?.query_map(params![before, reason, limit], letter_row)?.collect()
}

/// Returns the `seq` of every dead letter, oldest first.
pub(crate) fn read_seqs(connection: &Connection) -> rusqlite::Result<Vec<Seq>> {
    connection
        .prepare("SELECT seq FROM dead_letters ORDER BY seq")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Returns the `seq` of up to `limit` dead letters with one reason, or of all, oldest first.
pub(crate) fn read_seqs_with_reason(
    connection: &Connection,
    reason: Option<&str>,
    limit: usize,
) -> rusqlite::Result<Vec<Seq>> {
    let sql = "SELECT seq FROM dead_letters WHERE coalesce(reason = ?1, true) ORDER BY seq LIMIT ?2";
    connection.prepare_cached(sql)?.query_map(params![reason, limit], |row| row.get(0))?.collect()
}

/// Returns the `seq` of up to `limit` dead letters that were written before this moment, oldest first.
pub(crate) fn read_seqs_before(
    connection: &Connection,
    moment: Timestamp,
    limit: usize,
) -> rusqlite::Result<Vec<Seq>> {
    let sql = "SELECT seq FROM dead_letters WHERE died_at < ?1 ORDER BY seq LIMIT ?2";
    let moment = moment.to_string();
    connection.prepare_cached(sql)?.query_map(params![moment, limit], |row| row.get(0))?.collect()
}

/// Returns the `seq` of each dead letter that was accepted for this user. Reads all dead letters.
pub(crate) fn read_seqs_of_user(connection: &Connection, user_id: &UserId) -> rusqlite::Result<Vec<Seq>> {
    let sql = "SELECT seq, body FROM dead_letters WHERE instr(body, ?1)";
    let found = read_records_of(connection, sql, user_id)?;
    Ok(found.into_iter().map(|(seq, _)| seq).collect())
}

/// Returns the sessions that have dead letters, in the order of their ids.
pub(crate) fn read_session_ids(connection: &Connection) -> rusqlite::Result<Vec<SessionId>> {
    read_distinct_sessions(connection, "dead_letters")
}

/// Calls `visit` with the time of each dead letter of a message from `since` up to, not including, `until`. A time that
/// cannot be read is left out.
pub(crate) fn visit_times(
    connection: &Connection,
    since: Timestamp,
    until: Timestamp,
    mut visit: impl FnMut(Timestamp),
) -> rusqlite::Result<()> {
    let sql = "SELECT died_at FROM dead_letters \
               WHERE message_id IS NOT NULL AND died_at >= ?1 AND died_at < ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([since.to_string(), until.to_string()])?;
    while let Some(row) = rows.next()? {
        column_or_null(row, 0, parse_time)?.into_iter().for_each(&mut visit);
    }
    Ok(())
}

/// Returns the size of the dead letters in bytes for each user they were accepted for, and for those that name no user.
pub(crate) fn sum_bytes_by_owner(connection: &Connection) -> rusqlite::Result<Vec<(Option<UserId>, u64)>> {
    let mut statement = connection.prepare_cached(BYTES_OF_OWNERS)?;
    let rows = statement.query_map([], |row| {
        let bytes: Option<i64> = row.get(1)?;
        Ok((column_or_null(row, 0, parse_user)?, bytes.unwrap_or(0).unsigned_abs()))
    })?;
    rows.collect()
}

/// Returns the number of all dead letters.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row("SELECT count(*) FROM dead_letters", [], |row| row.get(0))
}

/// Returns the number of dead letters that hold a message.
pub(crate) fn count_messages(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT count(*) FROM dead_letters WHERE message_id IS NOT NULL";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Returns the number of all dead letters by reason, in the order of the reasons.
pub(crate) fn count_by_reason(connection: &Connection) -> rusqlite::Result<Vec<(String, u64)>> {
    let mut reasons = connection
        .prepare_cached("SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason")?;
    let reasons = reasons.query_map([], |row| Ok((text(row, 0)?, row.get(1)?)))?;
    reasons.collect()
}

/// Returns the highest `seq` that is not above `limit`, or 0 if there is none.
pub(crate) fn newest_seq_up_to(connection: &Connection, limit: Seq) -> rusqlite::Result<Seq> {
    let sql = "SELECT coalesce(max(seq), 0) FROM dead_letters WHERE seq <= ?1";
    connection.query_row(sql, [limit], |row| row.get(0))
}

fn letter_row(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let body = row.get_ref(6)?.as_bytes()?;
    let record = serde_json::from_slice(body).map(Box::new);
    let seq: Seq = row.get(0)?;
    let died_at = column_or_null(row, 5, parse_time)?.or_else(|| seq.accepted_at());
    Ok(DeadLetter {
        seq,
        session_id: column_or_null(row, 1, parse_id)?,
        message_id: column_or_null(row, 2, parse_id)?,
        reason: text(row, 3)?,
        detail: text_or_null(row, 4)?,
        died_at: died_at.unwrap_or_else(|| SystemClock.now()),
        record: record.map_err(|_| String::from_utf8_lossy(body).into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::database;

    /// Returns the steps of SQLite's query plan.
    fn plan(connection: &Connection, sql: &str) -> Vec<String> {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let steps = plan.query_map([], |row| row.get(3)).unwrap();
        steps.collect::<rusqlite::Result<_>>().unwrap()
    }

    #[test]
    fn the_bytes_of_letters_are_counted_from_an_index_alone() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::create_draft(&dir.path().join("file")).unwrap();
        let steps = plan(&connection, BYTES_OF_OWNERS);
        assert_eq!(steps, ["SCAN letter_sizes USING COVERING INDEX letter_sizes_of_owner"]);
    }
}
