//! Deleted sessions. Their rows are gone; a tombstone stays and refuses all later records.

use rusqlite::{Connection, Transaction};
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::DeletionCounts;

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

impl SqliteReader {
    /// True if the session was deleted for good.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn is_deleted(&self, session_id: SessionId) -> Result<bool, ReadError> {
        self.connections.look_up(move |connection| deleted_sessions::contains(connection, session_id)).await
    }
}
