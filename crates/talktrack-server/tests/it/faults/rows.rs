//! Reads the content of a store through SQLite or psql alone, without any code of talktrack.

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::saying::Row;
use super::stand::Stand;
use crate::harness::remote::select;

const MESSAGES: &str = "SELECT id, session_id, user_id, role, content, metadata, revision FROM conversation_messages \
     ORDER BY session_id, created_at, seq";
const SESSIONS: &str = "SELECT session_id, user_id, status, end_reason, message_count, metadata, ended_at IS NOT NULL AS has_end \
     FROM conversation_sessions";

/// A session as a store holds it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct SessionRow {
    pub(crate) session_id: Uuid,
    pub(crate) user_id: Uuid,
    pub(crate) status: String,
    pub(crate) end_reason: Option<String>,
    pub(crate) message_count: usize,
    pub(crate) metadata: Value,
    pub(crate) has_end: Truth,
}

/// A truth value: `true` in PostgreSQL, 1 in SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub(crate) struct Truth(pub(crate) bool);

impl From<Value> for Truth {
    fn from(value: Value) -> Self {
        Self(value == true || value == 1)
    }
}

/// Returns every stored message, grouped by session and in the order of the conversation.
pub(crate) fn messages(stand: &Stand) -> Vec<Row> {
    all(stand, MESSAGES)
}

/// Returns the stored messages as raw values, for a store with damaged columns.
pub(crate) fn messages_as_they_are(stand: &Stand) -> Vec<Value> {
    all(stand, MESSAGES)
}

/// Returns every stored session.
pub(crate) fn sessions(stand: &Stand) -> Vec<SessionRow> {
    all(stand, SESSIONS)
}

/// Returns the number of stored messages.
pub(crate) fn count(stand: &Stand) -> u64 {
    number(stand, "SELECT count(*) AS n FROM conversation_messages")
}

/// Returns the number that a query selects as `n`.
pub(crate) fn number(stand: &Stand, query: &str) -> u64 {
    all::<Value>(stand, query)[0]["n"].as_u64().unwrap()
}

fn all<T: serde::de::DeserializeOwned>(stand: &Stand, query: &str) -> Vec<T> {
    let rows = match stand.remote() {
        Some(remote) => select(&remote.database, query),
        None => stand.home.database().select(query),
    };
    rows.into_iter().map(|row| serde_json::from_value(row).unwrap()).collect()
}
