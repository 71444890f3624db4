//! Records of one session that wait in the journal for a remote store.

use std::collections::BTreeSet;

use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Body, Record};

use crate::local::database::{UuidText, column_or_null, parse_id};
use crate::store::sqlite::journal_records::read_record;
use crate::store::sqlite::{SqliteReader, owner};

/// The journal also contains records that the store has just confirmed; they are equally good evidence. It
/// does not contain records that the store refused.
const STARTS: &str =
    "SELECT seq, body, checksum FROM journal WHERE session_id = ?1 AND message_id IS NULL ORDER BY seq";

/// `EXISTS` stops at the first match: a session has many rows, and SQLite parses the JSON of each.
const UNOWNED: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM pending WHERE session_id = ?1 AND json_valid(body) AND ",
    owner!(),
    " IS NULL)"
);

/// The limits for reading one session at once: the number of messages, and their bytes.
const MOST_MESSAGES: u64 = 10_000;
const MOST_BYTES: u64 = 64 << 20;

impl SqliteReader {
    /// Returns the sessions that have records in the journal (including the re-send window) or in the dead
    /// letters.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn sessions_with_records(&self) -> Result<Vec<SessionId>, ReadError> {
        // The query jumps from one session to the next in the index, so its cost does not depend on the
        // number of rows per session.
        const SESSIONS: [&str; 2] = [
            "WITH RECURSIVE one(id) AS (SELECT min(session_id) FROM journal UNION ALL \
             SELECT (SELECT min(session_id) FROM journal WHERE session_id > one.id) FROM one WHERE one.id IS NOT NULL) \
             SELECT id FROM one WHERE id IS NOT NULL",
            "WITH RECURSIVE one(id) AS (SELECT min(session_id) FROM dead_letters UNION ALL \
             SELECT (SELECT min(session_id) FROM dead_letters WHERE session_id > one.id) FROM one WHERE one.id IS NOT NULL) \
             SELECT id FROM one WHERE id IS NOT NULL",
        ];
        self.run_query(|connection| {
            let mut found = BTreeSet::new();
            for sql in SESSIONS {
                let mut statement = connection.prepare_cached(sql)?;
                let ids = statement.query_map([], |row| column_or_null(row, 0, parse_id::<SessionId>))?;
                found.extend(ids.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten());
            }
            Ok(found.into_iter().collect())
        })
        .await
    }

    /// Returns the users for whom a start of this session is durable here and was not refused by the store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_claims(&self, session_id: SessionId) -> Result<Vec<UserId>, ReadError> {
        let records = self.records_of_session(session_id, STARTS).await?;
        let started = records.iter().filter_map(|record| match &record.body {
            Body::Start(start) => Some(start.user_id.clone()),
            _ => None,
        });
        Ok(started.collect::<BTreeSet<_>>().into_iter().collect())
    }

    /// Returns the starts, updates and ends of this session that wait for the store, in the order of
    /// acceptance.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_session_records(&self, session_id: SessionId) -> Result<Vec<Record>, ReadError> {
        let sql = "SELECT seq, body, checksum FROM pending WHERE session_id = ?1 AND message_id IS NULL ORDER BY seq";
        self.records_of_session(session_id, sql).await
    }

    /// True if a record of this session that names no user waits for the store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn has_pending_without_owner(&self, session_id: SessionId) -> Result<bool, ReadError> {
        let id = UuidText::new(session_id);
        self.run_query(move |connection| {
            connection.prepare_cached(UNOWNED)?.query_row([id.as_str()], |row| row.get(0))
        })
        .await
    }

    /// Returns the number of this session's messages that wait for the store and were accepted for this
    /// user, or that name no user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn count_pending_messages(
        &self,
        session_id: SessionId,
        user_id: &UserId,
    ) -> Result<u64, ReadError> {
        let sql = "SELECT count(DISTINCT message_id) FROM pending WHERE session_id = ?1 \
                   AND CASE WHEN json_valid(body) THEN coalesce(body ->> '$.body.message.owner', ?2) END = ?2";
        let id = UuidText::new(session_id);
        let user = UuidText::new(user_id);
        self.run_query(move |connection| {
            connection.prepare_cached(sql)?.query_row([id.as_str(), user.as_str()], |row| row.get(0))
        })
        .await
    }

    /// Returns the messages of this session that wait for the store, in the order of acceptance.
    ///
    /// # Errors
    /// If SQLite cannot read the file, or if more messages wait than can be read at once.
    pub async fn pending_messages(&self, session_id: SessionId) -> Result<Vec<Record>, ReadError> {
        let count = "SELECT count(*), coalesce(sum(octet_length(body)), 0) FROM pending \
                     WHERE session_id = ?1 AND message_id IS NOT NULL";
        let id = UuidText::new(session_id);
        let (messages, bytes): (u64, u64) = self
            .run_query(move |connection| {
                connection
                    .prepare_cached(count)?
                    .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
            })
            .await?;
        if messages > MOST_MESSAGES || bytes > MOST_BYTES {
            return Err(ReadError::unavailable(
                "too many messages of this session wait for the store; they cannot be shown",
            ));
        }
        let sql = "SELECT seq, body, checksum FROM pending WHERE session_id = ?1 AND message_id IS NOT NULL ORDER BY seq";
        self.records_of_session(session_id, sql).await
    }

    async fn records_of_session(
        &self,
        session_id: SessionId,
        sql: &'static str,
    ) -> Result<Vec<Record>, ReadError> {
        let id = UuidText::new(session_id);
        self.run_query(move |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let rows = statement.query_map([id.as_str()], read_record)?;
            rows.filter_map(|row| row.map(|(_, record)| record).transpose()).collect()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::database;

    #[test]
    fn what_names_no_user_is_found_by_the_index_of_sessions() {
        let dir = tempfile::tempdir().unwrap();
        let connection = database::create_draft(&dir.path().join("file")).unwrap();
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {UNOWNED}")).unwrap();
        let steps = plan.query_map([SESSION], |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<_> = steps.collect::<rusqlite::Result<_>>().unwrap();
        let searches = |step: &String| step == "SEARCH journal USING INDEX journal_of_session (session_id=?)";
        assert!(steps.iter().any(searches), "{steps:?}");
        assert!(steps.iter().all(|step| !step.contains("SCAN") || step == "SCAN CONSTANT ROW"), "{steps:?}");
    }

    const SESSION: &str = "00000000-0000-4000-8000-000000000001";
}
