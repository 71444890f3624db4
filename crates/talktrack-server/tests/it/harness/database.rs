//! Reads the server's database through SQLite alone, without any code of talktrack, so that a test sees the same rows
//! as any other program.

use std::path::{Path, PathBuf};

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, ToSql};
use serde_json::Value;
use uuid::Uuid;

use super::until;

/// A connection to the database file.
pub(crate) struct Database {
    connection: Connection,
    path: PathBuf,
}

/// A row of `conversation_messages` with the columns as SQLite stores them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MessageRow {
    pub(crate) id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) role: String,
    pub(crate) content: String,
    pub(crate) audio_url: Option<String>,
    pub(crate) metadata: Option<String>,
    pub(crate) created_at: String,
    pub(crate) external_id: Option<String>,
    pub(crate) kind: String,
    pub(crate) revision: i64,
    pub(crate) interrupted: bool,
    pub(crate) content_generated: Option<String>,
    pub(crate) parts: Option<String>,
    pub(crate) metrics: Option<String>,
}

/// A row of `conversation_sessions`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SessionRow {
    pub(crate) user_id: String,
    pub(crate) started_at: String,
    pub(crate) ended_at: Option<String>,
    pub(crate) duration_seconds: Option<f64>,
    pub(crate) metadata: Value,
    pub(crate) external_id: Option<String>,
    pub(crate) status: String,
    pub(crate) end_reason: Option<String>,
    pub(crate) message_count: i64,
}

impl SessionRow {
    /// Returns the status and the reason of the end.
    pub(crate) fn end(&self) -> (&str, Option<&str>) {
        (&self.status, self.end_reason.as_deref())
    }
}

impl Database {
    pub(crate) fn open(path: &Path) -> Self {
        Self { connection: connect(path), path: path.to_owned() }
    }

    /// Returns the messages of a session in the order of the conversation.
    pub(crate) fn messages(&self, session: Uuid) -> Vec<MessageRow> {
        let sql = "SELECT id, user_id, role, content, audio_url, metadata, created_at, external_id, kind, revision, \
                   interrupted, content_generated, parts, metrics FROM conversation_messages \
                   WHERE session_id = ?1 ORDER BY created_at, seq";
        let mut statement = self.connection.prepare(sql).unwrap();
        let rows = statement.query_map([session.to_string()], message_row).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Returns the texts of a session's messages in the order of the conversation.
    pub(crate) fn contents(&self, session: Uuid) -> Vec<String> {
        self.messages(session).into_iter().map(|row| row.content).collect()
    }

    /// Returns the row of a session.
    pub(crate) fn session(&self, session: Uuid) -> Option<SessionRow> {
        let sql = "SELECT user_id, started_at, ended_at, duration_seconds, metadata, external_id, status, end_reason, \
                   message_count FROM conversation_sessions WHERE session_id = ?1";
        let mut statement = self.connection.prepare(sql).unwrap();
        let rows = statement.query_map([session.to_string()], session_row).unwrap();
        rows.map(Result::unwrap).next()
    }

    /// Returns the metadata of a session as the text that SQLite stores.
    pub(crate) fn session_metadata(&self, session: Uuid) -> String {
        let sql = "SELECT metadata FROM conversation_sessions WHERE session_id = ?1";
        self.connection.query_row(sql, [session.to_string()], |row| row.get(0)).unwrap()
    }

    /// Waits until a session has ended, and returns its row.
    pub(crate) async fn ended(&self, session: Uuid) -> SessionRow {
        let ended = || self.session(session).filter(|row| row.ended_at.is_some());
        until(&format!("session {session} has ended"), ended).await
    }

    /// Runs a query that returns a single number.
    pub(crate) fn count(&self, sql: &str, parameters: &[&dyn ToSql]) -> i64 {
        self.connection.query_row(sql, parameters, |row| row.get(0)).unwrap()
    }

    /// Runs a query and returns one object per row. A column that holds a JSON object as text becomes an object.
    pub(crate) fn select(&self, query: &str) -> Vec<Value> {
        let mut statement = self.connection.prepare(query).unwrap();
        let columns: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let object = |row: &Row<'_>| {
            let values = columns.iter().map(|column| Ok((column.clone(), json(row.get_ref(&**column)?))));
            values.collect::<rusqlite::Result<_>>().map(Value::Object)
        };
        statement.query_map([], object).unwrap().map(Result::unwrap).collect()
    }

    /// Returns the id and the text of every message.
    pub(crate) fn all_messages(&self) -> Vec<(Uuid, String)> {
        let mut statement = self.connection.prepare("SELECT id, content FROM conversation_messages").unwrap();
        let pair = |row: &Row<'_>| Ok((row.get::<_, String>(0)?.parse().unwrap(), row.get(1)?));
        let rows = statement.query_map([], pair).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Runs SQL that changes the database without the server's knowledge.
    pub(crate) fn execute(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    /// Takes the write lock, so that every write of the server waits, as on a disk that hangs. Dropping the returned
    /// connection releases the lock.
    pub(crate) fn block(&self) -> Connection {
        let blocker = connect(&self.path);
        blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
        blocker
    }
}

fn connect(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(super::DEADLINE).unwrap();
    connection
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => {
            let text = &*String::from_utf8_lossy(text);
            let object = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
            object.unwrap_or_else(|| text.into())
        }
        ValueRef::Blob(_) => panic!("a blob was selected"),
    }
}

fn message_row(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    Ok(MessageRow {
        id: row.get("id")?,
        user_id: row.get("user_id")?,
        role: row.get("role")?,
        content: row.get("content")?,
        audio_url: row.get("audio_url")?,
        metadata: row.get("metadata")?,
        created_at: row.get("created_at")?,
        external_id: row.get("external_id")?,
        kind: row.get("kind")?,
        revision: row.get("revision")?,
        interrupted: row.get("interrupted")?,
        content_generated: row.get("content_generated")?,
        parts: row.get("parts")?,
        metrics: row.get("metrics")?,
    })
}

fn session_row(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
    Ok(SessionRow {
        user_id: row.get("user_id")?,
        started_at: row.get("started_at")?,
        ended_at: row.get("ended_at")?,
        duration_seconds: row.get("duration_seconds")?,
        metadata: serde_json::from_str(&row.get::<_, String>("metadata")?).unwrap(),
        external_id: row.get("external_id")?,
        status: row.get("status")?,
        end_reason: row.get("end_reason")?,
        message_count: row.get("message_count")?,
    })
}
