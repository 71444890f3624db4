//! Reads a PostgreSQL store through psql alone, without any code of talktrack, so that a test sees the same rows as any
//! other program.

use std::collections::BTreeMap;

use serde_json::Value;
use talktrack_testbed::{Database, Postgres};
use uuid::Uuid;

use super::{Home, until};

/// Creates a database on this cluster, with the schema that `talktrack migrate` creates.
pub(crate) async fn migrated(cluster: &Postgres) -> Database {
    let database = cluster.database();
    Home::new().run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    database
}

/// Runs a query and returns one object per row.
pub(crate) fn select(database: &Database, query: &str) -> Vec<Value> {
    let rows = database.psql(&format!("SELECT to_jsonb(selected) FROM ({query}) selected"));
    rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// Returns the row of a session with all columns.
pub(crate) fn session(database: &Database, session: Uuid) -> Option<Value> {
    select(database, &format!("SELECT * FROM conversation_sessions WHERE session_id = '{session}'")).pop()
}

/// Returns the texts of a session's messages in the order of the conversation.
pub(crate) fn said(database: &Database, session: Uuid) -> Vec<String> {
    let query = format!(
        "SELECT content FROM conversation_messages WHERE session_id = '{session}' ORDER BY created_at, seq"
    );
    select(database, &query).iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect()
}

/// Returns the id and the text of every message.
pub(crate) fn all_said(database: &Database) -> BTreeMap<Uuid, String> {
    let rows = select(database, "SELECT id, content FROM conversation_messages");
    let text = |row: &Value, column: &str| row[column].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "id").parse().unwrap(), text(row, "content"))).collect()
}

/// Waits until the database has exactly these messages of a session.
pub(crate) async fn arrives(database: &Database, session: Uuid, expected: &[&str]) {
    let what = format!("the database has {expected:?}");
    until(&what, || (said(database, session) == expected).then_some(())).await;
}

/// Waits until the database shows this status for the session, and returns the row.
pub(crate) async fn has_status(database: &Database, id: Uuid, status: &str) -> Value {
    let what = format!("session {id} is {status}");
    until(&what, || session(database, id).filter(|row| row["status"] == status)).await
}
