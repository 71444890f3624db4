//! Reads the records in the journal: those that wait for a remote store, and those that the re-send window keeps.

use std::collections::BTreeSet;

use rusqlite::Connection;
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Body, Record};
use talktrack_core::store::CountedMessage;

use crate::local::tables::dead_letters;
use crate::local::tables::journal::{self, WaitingCounts};
use crate::store::sqlite::connections::ReadConnections;

/// The limits for reading one session at once: the number of messages, and their bytes.
const MOST_MESSAGES: u64 = 10_000;
const MOST_BYTES: u64 = 64 << 20;

/// A view of the file as the outbox of a remote store, made by [`SqliteReader::outbox`](super::SqliteReader::outbox). If
/// the file is the store itself, nothing waits.
#[derive(Debug, Clone)]
pub struct OutboxReader {
    pub(super) connections: ReadConnections,
}

impl OutboxReader {
    pub(super) fn new(connections: ReadConnections) -> Self {
        Self { connections }
    }

    /// Returns the sessions that have records in the journal (including the re-send window) or in the dead
    /// letters.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn sessions_with_records(&self) -> Result<Vec<SessionId>, ReadError> {
        self.connections
            .run_query(|connection| {
                let mut found = BTreeSet::from_iter(journal::read_session_ids(connection)?);
                found.extend(dead_letters::read_session_ids(connection)?);
                Ok(found.into_iter().collect())
            })
            .await
    }

    /// Returns the users for whom a start of this session is durable here and was not refused by the store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_claims(&self, session_id: SessionId) -> Result<Vec<UserId>, ReadError> {
        // The journal also contains records that the store has just confirmed; they are equally good evidence. It
        // does not contain records that the store refused.
        let records = self
            .connections
            .run_query(move |connection| journal::read_starts(connection, session_id))
            .await?;
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
        self.connections
            .run_query(move |connection| journal::read_pending_session_records(connection, session_id))
            .await
    }

    /// True if a record of this session that was accepted up to this `seq` waits for the store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn is_session_pending(&self, session_id: SessionId, up_to: Seq) -> Result<bool, ReadError> {
        self.connections
            .look_up(move |connection| {
                Ok(!journal::read_oldest_pending(connection, session_id, up_to, 1)?.is_empty())
            })
            .await
    }

    /// True if a record of this session that names no user waits for the store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn has_pending_without_owner(&self, session_id: SessionId) -> Result<bool, ReadError> {
        self.connections
            .run_query(move |connection| journal::has_pending_without_owner(connection, session_id))
            .await
    }

    /// Returns all records of this session in the journal, in the order of acceptance: those that wait for the store, and
    /// those that the re-send window keeps.
    ///
    /// # Errors
    /// If SQLite cannot read the file, or if there are more than can be read at once.
    pub async fn session_records(&self, session_id: SessionId) -> Result<Vec<Record>, ReadError> {
        let measure = move |connection: &Connection| journal::measure_session(connection, session_id);
        check_size(&self.connections.run_query(measure).await?)?;
        self.connections.run_query(move |connection| journal::read_session(connection, session_id)).await
    }

    /// Returns the sessions of which records wait that were accepted for this user, except messages, or whose waiting start
    /// has this external id.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_sessions(
        &self,
        user_id: Option<UserId>,
        external_id: Option<String>,
    ) -> Result<BTreeSet<SessionId>, ReadError> {
        self.connections
            .run_query(move |connection| {
                let mut found = BTreeSet::new();
                if let Some(user_id) = &user_id {
                    found.extend(journal::read_pending_sessions_of_user(connection, user_id)?);
                }
                if let Some(external_id) = &external_id {
                    found.extend(journal::read_pending_sessions_named(connection, external_id)?);
                }
                Ok(found)
            })
            .await
    }

    /// Returns those of these sessions of which any record waits.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_among(&self, sessions: Vec<SessionId>) -> Result<BTreeSet<SessionId>, ReadError> {
        self.connections
            .run_query(move |connection| {
                let mut found = BTreeSet::new();
                for session_id in sessions {
                    if !journal::read_oldest_pending(connection, session_id, Seq::MAX, 1)?.is_empty() {
                        found.insert(session_id);
                    }
                }
                Ok(found)
            })
            .await
    }

    /// Returns the latest revision of each message of this session that waits for the store and was accepted for this user, or
    /// that names no user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_counted(
        &self,
        session_id: SessionId,
        user_id: &UserId,
    ) -> Result<Vec<CountedMessage>, ReadError> {
        let user_id = user_id.clone();
        self.connections
            .run_query(move |connection| journal::read_pending_counted(connection, session_id, &user_id))
            .await
    }

    /// Returns the time of the last event among the waiting messages of this session that were accepted for this user.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn pending_last_event(
        &self,
        session_id: SessionId,
        user_id: &UserId,
    ) -> Result<Option<Timestamp>, ReadError> {
        let user_id = user_id.clone();
        self.connections
            .run_query(move |connection| journal::read_pending_last_event(connection, session_id, &user_id))
            .await
    }

    /// Returns the messages of this session that wait for the store, in the order of acceptance.
    ///
    /// # Errors
    /// If SQLite cannot read the file, or if more messages wait than can be read at once.
    pub async fn pending_messages(&self, session_id: SessionId) -> Result<Vec<Record>, ReadError> {
        let waiting = self
            .connections
            .run_query(move |connection| journal::measure_pending_messages(connection, session_id))
            .await?;
        check_size(&waiting)?;
        self.connections
            .run_query(move |connection| journal::read_pending_messages(connection, session_id))
            .await
    }

    /// True if the journal or the dead letters hold a record of the session. The re-send window counts too: its records
    /// are stored, but a deletion has to remove their text from this file. Deletions themselves do not count.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn has_records_of(&self, session_id: SessionId) -> Result<bool, ReadError> {
        self.connections
            .look_up(move |connection| journal::has_record_or_letter(connection, session_id))
            .await
    }

    /// Returns the sessions of this user that have records in the journal. Reads the whole journal.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn journaled_sessions_of(&self, user_id: &UserId) -> Result<BTreeSet<SessionId>, ReadError> {
        let user_id = user_id.clone();
        self.connections
            .run_query(move |connection| journal::read_session_ids_of_user(connection, &user_id))
            .await
    }

    /// True if the deletion of this user is still pending for a remote store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn is_user_deletion_pending(&self, user_id: &UserId) -> Result<bool, ReadError> {
        let user_id = user_id.clone();
        self.connections
            .look_up(move |connection| journal::is_user_deletion_pending(connection, &user_id))
            .await
    }
}

/// Fails if a session has more records than can be read at once.
fn check_size(WaitingCounts { records, bytes }: &WaitingCounts) -> Result<(), ReadError> {
    if *records > MOST_MESSAGES || *bytes > MOST_BYTES {
        let why = "too many messages of this session wait for the store; they cannot be shown";
        return Err(ReadError::unavailable(why));
    }
    Ok(())
}
