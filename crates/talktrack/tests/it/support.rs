//! Helpers that several tests share.

use std::future::IntoFuture;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use talktrack::store::{ErrorClass, Store, StoreError};
use talktrack::{DATABASE_FILE, Message, NewSession, Receipt, Role, SessionId, Tracker, UserId};
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{PATIENCE, Setup};
use tempfile::TempDir;

pub(crate) const SESSION: SessionId = SessionId::from_u128(0xa0);
pub(crate) const USER: UserId = UserId::from_u128(0xb0);

/// Creates a temporary data directory, which is removed when dropped.
pub(crate) fn dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

/// Returns a setup with an in-memory store behind an outbox, and the store.
pub(crate) fn remote(dir: &TempDir) -> (Setup, MemoryStore) {
    let store = MemoryStore::new();
    (Setup::remote(dir.path(), Arc::new(store.clone()) as Arc<dyn Store>), store)
}

pub(crate) fn new_session() -> NewSession {
    NewSession::new(SESSION, USER)
}

pub(crate) fn message(content: impl Into<String>) -> Message {
    Message::new(SESSION, Role::User, content)
}

/// Builds an error of the in-memory store.
pub(crate) fn store_error(class: ErrorClass, message: &str) -> StoreError {
    StoreError::new(class, message)
}

/// Opens a separate connection to the database file of a data directory.
pub(crate) fn sqlite(data_dir: &Path) -> Connection {
    let connection = Connection::open(data_dir.join(DATABASE_FILE)).expect("the file can be opened");
    connection.busy_timeout(PATIENCE).expect("a busy timeout can be set");
    connection
}

/// Downgrades the closed database file of a data directory to an earlier schema version. It keeps every
/// row and column that this version had.
pub(crate) fn downgrade(data_dir: &Path, version: usize) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let files = std::fs::read_dir(migrations).expect("the migrations can be listed");
    let mut files: Vec<_> = files.map(|file| file.expect("a migration").path()).collect();
    files.sort();
    let now = data_dir.join(DATABASE_FILE);
    let before = data_dir.join("before.db");
    let file = Connection::open(&before).expect("a file can be made");
    for migration in &files[..version] {
        let sql = std::fs::read_to_string(migration).expect("a migration can be read");
        file.execute_batch(&sql).expect("a migration can be applied");
    }
    file.pragma_update(None, "user_version", i64::try_from(version).expect("few versions"))
        .expect("a version");
    file.execute("ATTACH ?1 AS now", [now.to_str()]).expect("the file can be attached");
    for table in names(&file, "SELECT name FROM main.sqlite_schema WHERE type = 'table'") {
        let columns =
            names(&file, &format!("SELECT name FROM pragma_table_info('{table}', 'main')")).join(", ");
        let copy = format!(
            "DELETE FROM main.{table}; INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}"
        );
        file.execute_batch(&copy).expect("a later version keeps the columns of an earlier one");
    }
    drop(file);
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(data_dir.join(format!("{DATABASE_FILE}{ending}")));
    }
    std::fs::rename(before, now).expect("the file can be replaced");
}

fn names(file: &Connection, sql: &str) -> Vec<String> {
    let mut names = file.prepare(sql).expect("names can be listed");
    let names = names.query_map([], |row| row.get(0)).expect("names can be listed");
    names.collect::<Result<_, _>>().expect("names are text")
}

/// Copies the database file and its WAL as they are now, which is what a killed process would leave.
pub(crate) fn image_of(data_dir: &Path, into: &Path) {
    for file in [DATABASE_FILE.to_owned(), format!("{DATABASE_FILE}-wal")] {
        std::fs::copy(data_dir.join(&file), into.join(&file))
            .expect("the files of a live tracker can be copied");
    }
}

/// Blocks every commit of the journal until it is dropped, as a disk that has stopped responding would.
pub(crate) struct StuckDisk(Connection);

impl StuckDisk {
    pub(crate) fn of(data_dir: &Path) -> Self {
        let connection = sqlite(data_dir);
        connection.execute_batch("BEGIN IMMEDIATE").expect("the write lock is free");
        Self(connection)
    }
}

impl Drop for StuckDisk {
    fn drop(&mut self) {
        self.0.execute_batch("ROLLBACK").expect("the write lock can be released");
    }
}

/// Tracks a message that the tracker must accept.
pub(crate) fn accept(tracker: &Tracker, message: Message) -> Receipt {
    tracker.track_message(message).expect("the message is accepted")
}

/// Waits for an answer that must come within [`PATIENCE`].
pub(crate) async fn within<T>(answer: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, answer.into_future()).await.expect("an answer in good time")
}

/// Checks that the answer is still pending after 50 ms, so the event that it waits for has not happened.
pub(crate) async fn assert_pending<T>(answer: impl Future<Output = T>, what: &str) {
    let moment = Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, answer).await.is_err(), "{what}");
}

/// Returns the single value that the query selects.
pub(crate) fn value<T: rusqlite::types::FromSql>(data_dir: &Path, query: &str) -> T {
    sqlite(data_dir).query_row(query, [], |row| row.get(0)).expect("the query has one answer")
}
