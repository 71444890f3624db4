//! The image of a disk after a power cut, opened by SQLite as the next start would open it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, Row as SqlRow};
use serde_json::Value;
use talktrack::record::{Body, Record};
use uuid::Uuid;

use super::disk::Image;
use super::saying::Row;

const STORED: &str =
    "SELECT id, session_id, user_id, role, content, metadata, revision FROM conversation_messages";
const JOURNALED: &str = "SELECT body FROM journal WHERE message_id IS NOT NULL ORDER BY seq";

/// Replaces the content of this directory with the files of an image. `traced_dir` is the directory that was traced.
pub(crate) fn lay_down(image: &Image, data_dir: &Path, traced_dir: &Path) {
    let _ = std::fs::remove_dir_all(data_dir);
    for (path, content) in image.iter().filter(|(path, _)| *path != traced_dir) {
        std::fs::create_dir_all(data_dir).unwrap();
        std::fs::write(data_dir.join(path.file_name().unwrap()), content).unwrap();
    }
}

/// Returns the newest revision of each message in this directory, from its table and its journal.
///
/// Panics if SQLite's integrity check fails.
pub(crate) fn messages(data_dir: &Path) -> BTreeMap<Uuid, Row> {
    let path: PathBuf = data_dir.join(talktrack::DATABASE_FILE);
    if !path.exists() {
        return BTreeMap::new();
    }
    let database = Connection::open(&path).unwrap();
    let fault: String = database.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).unwrap();
    assert_eq!(fault, "ok");
    let tables = "SELECT 1 FROM sqlite_master WHERE name = 'journal'";
    let mut found = BTreeMap::new();
    if database.query_row(tables, [], |_| Ok(())).optional().unwrap().is_some() {
        take(&database, JOURNALED, journaled, &mut found);
        take(&database, STORED, stored, &mut found);
    }
    found
}

fn take(
    database: &Connection,
    query: &str,
    read: fn(&SqlRow<'_>) -> rusqlite::Result<Row>,
    into: &mut BTreeMap<Uuid, Row>,
) {
    let mut statement = database.prepare(query).unwrap();
    for row in statement.query_map([], read).unwrap() {
        let row = row.unwrap();
        if let Some(other) = into.insert(row.id, row.clone()) {
            assert!(other.revision < row.revision, "there twice: {other:?}, {row:?}");
        }
    }
}

fn stored(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let id = |text: String| text.parse::<Uuid>().unwrap();
    Ok(Row {
        id: id(row.get(0)?),
        session_id: id(row.get(1)?),
        user_id: row.get::<_, Option<_>>(2)?.map(id),
        role: row.get(3)?,
        content: row.get(4)?,
        metadata: row
            .get::<_, Option<String>>(5)?
            .map_or(Value::Null, |text| serde_json::from_str(&text).unwrap()),
        revision: row.get(6)?,
    })
}

fn journaled(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    let record: Record = serde_json::from_str(&row.get::<_, String>(0)?).unwrap();
    let Body::Message(stamped) = record.body else { panic!("no message: {record:?}") };
    let message = &stamped.message;
    let metadata =
        message.metadata.as_ref().map_or(Value::Null, |json| serde_json::from_str(json.as_str()).unwrap());
    Ok(Row {
        id: stamped.id.as_uuid(),
        session_id: message.session_id.as_uuid(),
        user_id: stamped
            .owner
            .as_ref()
            .and_then(|owner| stamped.user_id(owner))
            .map(talktrack::UserId::as_uuid),
        role: message.role.to_string(),
        content: message.content.clone(),
        metadata,
        revision: message.revision.into(),
    })
}
