//! Files for the tests, and damage to them.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sqlite_salvage::{Database, Record, Value};
use tempfile::TempDir;

pub(crate) const PAGE: u64 = 4096;

/// A database in a directory of its own.
pub(crate) struct Scene {
    dir: TempDir,
}

impl Scene {
    /// Creates a database with these statements and closes it.
    pub(crate) fn new(sql: &str) -> Self {
        let scene = Self { dir: tempfile::tempdir().unwrap() };
        scene.connect().execute_batch(sql).unwrap();
        scene
    }

    /// Creates a database with the table `words (id INTEGER PRIMARY KEY, word TEXT)` and 1,000 rows, whose b-tree has two
    /// levels.
    pub(crate) fn with_words() -> Self {
        Self::new(
            "CREATE TABLE words (id INTEGER PRIMARY KEY, word TEXT);
             WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000)
             INSERT INTO words SELECT n, 'word number ' || n FROM n",
        )
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("test.db")
    }

    pub(crate) fn wal(&self) -> PathBuf {
        self.dir.path().join("test.db-wal")
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    pub(crate) fn open(&self) -> Database {
        Database::open(self.path()).unwrap()
    }

    pub(crate) fn root_page(&self, name: &str) -> u64 {
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        self.connect().query_row(sql, [name], |row| row.get(0)).unwrap()
    }

    /// Copies the files while they are open, as a power failure would leave them.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self { dir: tempfile::tempdir().unwrap() };
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.dir.path().join(path.file_name().unwrap())).unwrap();
        }
        copy
    }

    /// Overwrites a page of the file. The first page is 1.
    pub(crate) fn overwrite_page(&self, page: u64, byte: u8) {
        write_at(&self.path(), (page - 1) * PAGE, &[byte; 4096]);
    }
}

pub(crate) fn write_at(file: &Path, place: u64, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(place)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Flips all bits of one byte.
pub(crate) fn flip(file: &Path, place: u64) {
    let mut byte = [0];
    let mut opened = File::open(file).unwrap();
    opened.seek(SeekFrom::Start(place)).unwrap();
    opened.read_exact(&mut byte).unwrap();
    write_at(file, place, &[!byte[0]]);
}

/// Returns the rows of a table that is read by its root page.
pub(crate) fn rows_of(database: &Database, table: &str) -> Vec<Record> {
    let schema = database.schema();
    let entry = schema.iter().find(|entry| entry.name == table).unwrap();
    let pages = database.tree(entry.root_page.unwrap());
    database.records_on(pages).map(Result::unwrap).collect()
}

/// Returns the rowids of all readable rows whose second value begins with `word number`.
pub(crate) fn words_of(database: &Database) -> Vec<i64> {
    let is_word = |record: &Record| {
        let word = record.values.get(1).and_then(Value::text);
        word.is_some_and(|word| Some(word) == record.rowid.map(|id| format!("word number {id}")).as_deref())
    };
    let mut ids: Vec<i64> =
        database.records().flatten().filter(is_word).filter_map(|record| record.rowid).collect();
    ids.sort_unstable();
    ids
}
