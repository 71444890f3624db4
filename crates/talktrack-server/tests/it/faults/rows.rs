//! What a store holds, seen through SQLite or psql alone, as anybody else would find it.

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

/// What a store has of a session.
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

/// PostgreSQL says `true` where SQLite says 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub(crate) struct Truth(pub(crate) bool);

impl From<Value> for Truth {
    fn from(value: Value) -> Self {
        Self(value == true || value == 1)
    }
}

/// Every message that is stored, session by session, in the order in which it was said.
pub(crate) fn messages(stand: &Stand) -> Vec<Row> {
    all(stand, MESSAGES)
}

/// The same where the columns of some may be broken.
pub(crate) fn messages_as_they_are(stand: &Stand) -> Vec<Value> {
    all(stand, MESSAGES)
}

/// Every session that is stored.
pub(crate) fn sessions(stand: &Stand) -> Vec<SessionRow> {
    all(stand, SESSIONS)
}

/// How many messages are stored.
pub(crate) fn count(stand: &Stand) -> u64 {
    number(stand, "SELECT count(*) AS n FROM conversation_messages")
}

/// The number that a query selects as `n`.
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
