//! Deleted sessions. Their rows are gone; a tombstone stays and refuses all later records.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use talktrack_core::clock::{Clock as _, Seq, SystemClock, Timestamp};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::DeletionCounts;

use crate::changes;
use crate::local::database::{UuidText, column_or_null, parse_id, parse_time};
use crate::store::sqlite::rows::{SESSION_COLUMNS, has_id, session_row};
use crate::store::sqlite::{SqliteReader, deleted_messages};
use crate::store::{DeletedSession, Page, SessionCursor, SessionRow};

const HAS_ID: &str = has_id!("session_id");

/// For each user, at most this many sessions are remembered that the user deleted but did not own according
/// to the store.
const MOST_CLAIMS: u32 = 1_000;

/// True if the session was deleted for good.
pub(super) fn is_deleted(connection: &Connection, session_id: SessionId) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM deleted_sessions WHERE session_id = ?1)";
    connection.prepare_cached(sql)?.query_row([UuidText::new(session_id).as_str()], |row| row.get(0))
}

/// True if a record of the session comes too late. `owner` is the user for whom the record was accepted, if
/// it names one.
pub(crate) fn is_refused(
    connection: &Connection,
    session_id: SessionId,
    owner: Option<&UserId>,
) -> rusqlite::Result<bool> {
    if is_deleted(connection, session_id)? {
        return Ok(true);
    }
    let Some(owner) = owner else { return Ok(false) };
    let sql = "SELECT EXISTS (SELECT 1 FROM deleted_claims WHERE session_id = ?1 AND user_id = ?2)";
    let session_id = UuidText::new(session_id);
    let owner = UuidText::new(owner);
    connection.prepare_cached(sql)?.query_row([session_id.as_str(), owner.as_str()], |row| row.get(0))
}

/// Returns those of these sessions that were deleted for good.
pub(super) fn find_deleted(
    connection: &Connection,
    ids: &[SessionId],
) -> rusqlite::Result<Vec<DeletedSession>> {
    let mut one = connection.prepare_cached("SELECT user_id FROM deleted_sessions WHERE session_id = ?1")?;
    let mut found = Vec::new();
    for id in ids {
        let user = one.query_row([UuidText::new(*id).as_str()], |row| column_or_null(row, 0, parse_id));
        found.extend(user.optional()?.map(|user_id| DeletedSession { session_id: *id, user_id }));
    }
    Ok(found)
}

/// Writes a tombstone: all later records of the session are refused. `user` is the user it belonged to, if
/// known.
pub(crate) fn note_deleted(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user: Option<&UserId>,
) -> rusqlite::Result<()> {
    let sql = "INSERT INTO deleted_sessions (session_id, deleted_at, user_id) VALUES (?1, ?2, ?3) \
               ON CONFLICT (session_id) DO UPDATE SET user_id = coalesce(user_id, excluded.user_id)";
    let now = SystemClock.now().to_string();
    let user = user.map(UuidText::new);
    let user = user.as_ref().map(UuidText::as_str);
    tx.prepare_cached(sql)?.execute(params![UuidText::new(session_id).as_str(), now, user])?;
    deleted_messages::forget_deleted_messages(tx, session_id)
}

/// Refuses records of the session that are accepted for this user from now on. If the user has too many
/// such marks, the oldest are removed.
pub(crate) fn note_deleted_claim(
    tx: &Transaction<'_>,
    session_id: SessionId,
    user_id: &UserId,
) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO deleted_claims (session_id, user_id, deleted_at) VALUES (?1, ?2, ?3)";
    let session_id = UuidText::new(session_id);
    let user_id = UuidText::new(user_id);
    let now = SystemClock.now().as_micros();
    tx.prepare_cached(sql)?.execute(params![session_id.as_str(), user_id.as_str(), now])?;
    let bound = "DELETE FROM deleted_claims WHERE user_id = ?1 AND deleted_at < \
                 (SELECT deleted_at FROM deleted_claims WHERE user_id = ?1 ORDER BY deleted_at DESC LIMIT 1 OFFSET ?2)";
    tx.prepare_cached(bound)?.execute(params![user_id.as_str(), MOST_CLAIMS - 1]).map(drop)
}

/// Removes the session's rows. Notes the span of time that they covered, at the place of the deletion in
/// the order of changes.
pub(super) fn remove_session(
    tx: &Transaction<'_>,
    place: Seq,
    session_id: SessionId,
) -> rusqlite::Result<DeletionCounts> {
    let id = UuidText::new(session_id);
    if let Some(span) = find_span(tx, &id)? {
        changes::note_span(tx, place, span)?;
    }
    let gone = |sql: &str| tx.prepare_cached(sql)?.execute([id.as_str()]).map(|rows| rows as u64);
    let messages = gone("DELETE FROM conversation_messages WHERE session_id = ?1")?;
    let sessions = gone("DELETE FROM conversation_sessions WHERE session_id = ?1")?;
    deleted_messages::forget_deleted_messages(tx, session_id)?;
    Ok(DeletionCounts { sessions, messages, ..DeletionCounts::default() })
}

/// Returns the first and the last moment of a session, from its start and its messages.
fn find_span(tx: &Transaction<'_>, id: &UuidText) -> rusqlite::Result<Option<(Timestamp, Timestamp)>> {
    const MOMENTS: [&str; 3] = [
        "SELECT started_at FROM conversation_sessions WHERE session_id = ?1",
        "SELECT min(created_at) FROM conversation_messages WHERE session_id = ?1",
        "SELECT max(created_at) FROM conversation_messages WHERE session_id = ?1",
    ];
    let mut span: Option<(Timestamp, Timestamp)> = None;
    for sql in MOMENTS {
        let moment =
            tx.prepare_cached(sql)?.query_row([id.as_str()], |row| column_or_null(row, 0, parse_time));
        if let Some(moment) = moment.optional()?.flatten() {
            span = Some(span.map_or((moment, moment), |(first, last)| (first.min(moment), last.max(moment))));
        }
    }
    Ok(span)
}

/// Returns sessions without an event since this moment, oldest start first. A time before 1970, or an
/// invalid one, says nothing about the age of a session.
pub(super) fn inactive_since(
    connection: &Connection,
    since: Timestamp,
    after: Option<SessionCursor>,
    limit: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM conversation_sessions WHERE started_at < ?1 \
         AND coalesce(last_event_at, started_at) < ?1 AND coalesce(last_event_at, started_at) > '1970-01-01T00:00:00.000000Z' \
         AND {HAS_ID} AND (started_at, session_id) > (?2, ?3) ORDER BY started_at, session_id LIMIT ?4"
    );
    // A session with a start that a cursor cannot carry is never in this list.
    let place =
        |cursor: SessionCursor| Some((cursor.started_at.known()?.to_string(), cursor.session_id.to_string()));
    let (began, id) = after.and_then(place).unwrap_or_default();
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params![since.to_string(), began, id, limit], session_row)?;
    Page::fill(rows, Some(limit)).map(|page| page.rows)
}

impl SqliteReader {
    /// True if the session was deleted for good.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn is_deleted(&self, session_id: SessionId) -> Result<bool, ReadError> {
        self.look_up(move |connection| is_deleted(connection, session_id)).await
    }
}
