//! Deleted sessions. Their rows are gone; a tombstone stays and refuses all later records.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction, params};
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{DeletionCounts, Record};

use crate::local::database::UuidText;
use crate::local::tables::{
    changes, deleted_claims, deleted_sessions, message_deletions, messages, sessions,
};
use crate::store::sqlite::SqliteReader;

/// For each user, at most this many sessions are remembered that the user deleted but did not own according
/// to the store.
const MOST_CLAIMS: u32 = 1_000;

/// True if a record of the session comes too late. `owner` is the user for whom the record was accepted, if
/// it names one.
pub(crate) fn is_refused(
    connection: &Connection,
    session_id: SessionId,
    owner: Option<&UserId>,
) -> rusqlite::Result<bool> {
    if deleted_sessions::contains(connection, session_id)? {
        return Ok(true);
    }
    owner.map_or(Ok(false), |owner| deleted_claims::contains(connection, session_id, owner))
}

/// Writes a tombstone: all later records of the session are refused. `user` is the user it belonged to, if
/// known.
pub(crate) fn note_deleted(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user: Option<&UserId>,
) -> rusqlite::Result<()> {
    deleted_sessions::insert_tombstone(tx, session_id, user, SystemClock.now())?;
    message_deletions::delete_of_session(tx, session_id)
}

/// Refuses records of the session that are accepted for this user from now on. If the user has too many
/// such marks, the oldest are removed.
pub(crate) fn note_deleted_claim(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user_id: &UserId,
) -> rusqlite::Result<()> {
    deleted_claims::insert_claim(tx, session_id, user_id, SystemClock.now())?;
    deleted_claims::delete_oldest(tx, user_id, MOST_CLAIMS)
}

/// Removes the session's rows. Notes the span of time that they covered, at the place of the deletion in
/// the order of changes.
pub(super) fn remove_session(
    tx: &Transaction<'_>,
    place: Seq,
    session_id: SessionId,
) -> rusqlite::Result<DeletionCounts> {
    if let Some(span) = find_span(tx, session_id)? {
        changes::note_span(tx, place, span)?;
    }
    let messages = messages::delete_of_session(tx, session_id)?;
    let sessions = sessions::delete_session(tx, session_id)?;
    message_deletions::delete_of_session(tx, session_id)?;
    Ok(DeletionCounts { sessions, messages, ..DeletionCounts::default() })
}

/// Returns the first and the last moment of a session, from its start and its messages.
fn find_span(
    tx: &Transaction<'_>,
    session_id: SessionId,
) -> rusqlite::Result<Option<(Timestamp, Timestamp)>> {
    let moments = [
        sessions::read::read_started_at(tx, session_id)?,
        messages::read::read_first_said_at(tx, session_id)?,
        messages::read::read_last_said_at(tx, session_id)?,
    ];
    let moments = moments.into_iter().flatten();
    Ok(moments.clone().min().zip(moments.max()))
}

/// Queries that a deletion needs in addition to those for stored rows.
impl SqliteReader {
    /// True if the session was deleted for good.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn is_deleted(&self, session_id: SessionId) -> Result<bool, ReadError> {
        self.look_up(move |connection| deleted_sessions::contains(connection, session_id)).await
    }

    /// True if the journal or the dead letters hold a record of the session. The re-send window counts too: its records
    /// are stored, but a deletion has to remove their text from this file. Deletions themselves do not count.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn has_records_of(&self, session_id: SessionId) -> Result<bool, ReadError> {
        let sql = "SELECT EXISTS (SELECT 1 FROM journal WHERE session_id = ?1) \
                   OR EXISTS (SELECT 1 FROM dead_letters WHERE session_id = ?1)";
        let id = UuidText::new(session_id);
        self.look_up(move |connection| connection.query_row(sql, [id.as_str()], |row| row.get(0))).await
    }

    /// Returns the sessions of this user that have records in the journal. Reads the whole journal.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn journaled_sessions_of(&self, user_id: &UserId) -> Result<BTreeSet<SessionId>, ReadError> {
        let sql = "SELECT seq, body FROM journal WHERE session_id IS NOT NULL AND instr(body, ?1)";
        let found = self.records_of(user_id, sql).await?;
        Ok(found.into_iter().map(|(_, record)| record.session_id()).collect())
    }

    /// True if the deletion of this user is still pending for a remote store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn is_user_deletion_pending(&self, user_id: &UserId) -> Result<bool, ReadError> {
        // Only deletions of users have no session in the column.
        let sql = "SELECT EXISTS (SELECT 1 FROM pending WHERE session_id IS NULL AND message_id IS NULL \
                   AND json_valid(body) AND body ->> '$.body.delete_user.user_id' = ?1)";
        let id = UuidText::new(user_id);
        self.look_up(move |connection| connection.query_row(sql, [id.as_str()], |row| row.get(0))).await
    }

    /// Returns the `seq` of each dead letter of this user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letters_of(&self, user_id: &UserId) -> Result<Vec<Seq>, ReadError> {
        let found =
            self.records_of(user_id, "SELECT seq, body FROM dead_letters WHERE instr(body, ?1)").await?;
        Ok(found.into_iter().map(|(seq, _)| seq).collect())
    }

    /// Returns the `seq` of up to `limit` dead letters that were written before this moment, oldest first.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn dead_letters_before(&self, moment: Timestamp, limit: usize) -> Result<Vec<Seq>, ReadError> {
        let sql = "SELECT seq FROM dead_letters WHERE died_at < ?1 ORDER BY seq LIMIT ?2";
        let moment = moment.to_string();
        self.run_query(move |connection| {
            connection.prepare_cached(sql)?.query_map(params![moment, limit], |row| row.get(0))?.collect()
        })
        .await
    }

    async fn records_of(&self, user_id: &UserId, sql: &'static str) -> Result<Vec<(Seq, Record)>, ReadError> {
        let user_id = user_id.clone();
        self.run_query(move |connection| {
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map([UuidText::new(&user_id).as_str()], |row| {
                Ok((row.get(0)?, serde_json::from_slice::<Record>(row.get_ref(1)?.as_bytes()?).ok()))
            })?;
            // The text of a message may contain the user's id too: only the owner of the record counts.
            let is_theirs = |(seq, record): (Seq, Option<Record>)| {
                record.filter(|record| record.owner() == Some(&user_id)).map(|record| (seq, record))
            };
            rows.filter_map(|row| row.map(is_theirs).transpose()).collect()
        })
        .await
    }
}
