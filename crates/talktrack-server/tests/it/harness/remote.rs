//! A PostgreSQL as the server's store, seen through psql alone: what is there is what anybody else would find.

use std::collections::BTreeMap;

use serde_json::Value;
use talktrack_testbed::{Database, Postgres};
use uuid::Uuid;

use super::{Home, until};

/// A fresh database on this cluster, with the schema as `talktrack migrate` makes it.
pub(crate) async fn migrated(cluster: &Postgres) -> Database {
    let database = cluster.database();
    Home::new().run(&["migrate", "--database-url", &database.url()]).await.succeeded();
    database
}

/// What a query selects: an object a row.
pub(crate) fn select(database: &Database, query: &str) -> Vec<Value> {
    let rows = database.psql(&format!("SELECT to_jsonb(selected) FROM ({query}) selected"));
    rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
}

/// A session's row, every column.
pub(crate) fn session(database: &Database, session: Uuid) -> Option<Value> {
    select(database, &format!("SELECT * FROM conversation_sessions WHERE session_id = '{session}'")).pop()
}

/// What was said in a session, in the order in which it was said.
pub(crate) fn said(database: &Database, session: Uuid) -> Vec<String> {
    let query = format!(
        "SELECT content FROM conversation_messages WHERE session_id = '{session}' ORDER BY created_at, seq"
    );
    select(database, &query).iter().map(|row| row["content"].as_str().unwrap().to_owned()).collect()
}

/// Every message's id and content.
pub(crate) fn all_said(database: &Database) -> BTreeMap<Uuid, String> {
    let rows = select(database, "SELECT id, content FROM conversation_messages");
    let text = |row: &Value, column: &str| row[column].as_str().unwrap().to_owned();
    rows.iter().map(|row| (text(row, "id").parse().unwrap(), text(row, "content"))).collect()
}

/// Waits until exactly this was said in a session, as far as the database knows.
pub(crate) async fn arrives(database: &Database, session: Uuid, expected: &[&str]) {
    let what = format!("the database has {expected:?}");
    until(&what, || (said(database, session) == expected).then_some(())).await;
}

/// Waits until the session has this status there, and returns its row.
pub(crate) async fn has_status(database: &Database, id: Uuid, status: &str) -> Value {
    let what = format!("session {id} is {status}");
    until(&what, || session(database, id).filter(|row| row["status"] == status)).await
}
