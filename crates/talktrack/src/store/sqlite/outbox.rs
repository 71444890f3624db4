//! Reads the records in the journal: those that wait for a remote store, and those that the re-send window keeps.

use std::collections::BTreeSet;

use talktrack_core::error::ReadError;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::record::{Body, Record};

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

    /// True if a record of this session that names no user waits for the store.
    ///
    /// # Errors
    /// If SQLite cannot read the file.
    pub async fn has_pending_without_owner(&self, session_id: SessionId) -> Result<bool, ReadError> {
        self.connections
            .run_query(move |connection| journal::has_pending_without_owner(connection, session_id))
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
        let user_id = user_id.clone();
        self.connections
            .run_query(move |connection| journal::count_pending_messages_of(connection, session_id, &user_id))
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
        let WaitingCounts { records: messages, bytes } = waiting;
        if messages > MOST_MESSAGES || bytes > MOST_BYTES {
            return Err(ReadError::unavailable(
                "too many messages of this session wait for the store; they cannot be shown",
            ));
        }
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
