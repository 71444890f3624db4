//! The index of the file: what was revised and deleted, then what is new.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use crate::database::{self, text};
use crate::store::sqlite::index::{self, Index, Reached, Text};
use crate::store::{Class, Indexer, Step, StoreError};

/// Messages of one step, and bytes of their text: a moment's work.
const MESSAGES: usize = 500;
const BYTES: usize = 1 << 20;

macro_rules! select_texts {
    ($rest:literal) => {
        concat!(
            "SELECT m.rowid, coalesce(s.user_id, ''), m.session_id, m.content FROM conversation_messages m \
             LEFT JOIN conversation_sessions s ON s.session_id = m.session_id ",
            $rest
        )
    };
}

/// Follows a database, from wherever its index has come to.
pub(super) struct Follower {
    path: PathBuf,
    open: Option<Open>,
}

/// Reads the database, writes the index.
struct Open {
    database: Connection,
    index: Index,
    reached: Reached,
}

impl Follower {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: database.to_owned(), open: None }
    }

    /// Goes a step, and says how many messages are left.
    fn try_step(&mut self) -> rusqlite::Result<u64> {
        let suspect = database::is_suspect(&index::path_of(&self.path));
        let open = match self.open.take() {
            Some(open) if !suspect => open,
            _ => Open::at(&self.path, suspect)?,
        };
        self.open.insert(open).step()
    }
}

#[async_trait]
impl Indexer for Follower {
    async fn step(&mut self) -> Result<Step, StoreError> {
        match self.try_step() {
            Ok(0) => Ok(Step::UpToDate),
            Ok(left) => Ok(Step::More(left)),
            Err(error) => {
                self.open = None;
                if database::is_damage(&error) {
                    database::suspect(&index::path_of(&self.path), &error.to_string());
                }
                Err(StoreError { class: Class::Transient, message: error.to_string() })
            }
        }
    }
}

impl Open {
    /// Goes on where the index ends; from the beginning where it cannot be trusted.
    fn at(path: &Path, suspect: bool) -> rusqlite::Result<Self> {
        let database = database::open_to_read(path)?;
        let file = index::path_of(path);
        let index = if suspect { Index::anew(&file) } else { Index::open(&file) };
        let index = match index {
            Err(error) if database::is_damage(&error) => Index::anew(&file)?,
            index => index?,
        };
        let reached = index.reached()?;
        Ok(Self { database, index, reached })
    }

    fn step(&mut self) -> rusqlite::Result<u64> {
        let texts = self.new_texts()?;
        if let Some(last) = texts.last() {
            let reached = Reached { row: last.row, ..self.reached };
            let change = self.index.change()?;
            change.put(&texts)?;
            change.commit(reached)?;
            self.reached = reached;
        }
        let newest = "SELECT coalesce(max(rowid), 0) FROM conversation_messages";
        let newest: i64 = self.database.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
        Ok((newest - self.reached.row).max(0).unsigned_abs())
    }

    fn new_texts(&self) -> rusqlite::Result<Vec<Text>> {
        let sql = select_texts!("WHERE m.rowid > ?1 ORDER BY m.rowid LIMIT ?2");
        let mut statement = self.database.prepare_cached(sql)?;
        let mut rows = statement.query(params![self.reached.row, MESSAGES])?;
        let (mut texts, mut bytes) = (Vec::new(), 0);
        while bytes < BYTES
            && let Some(row) = rows.next()?
        {
            let text = text_of(row)?;
            bytes += text.content.len();
            texts.push(text);
        }
        Ok(texts)
    }
}

fn text_of(row: &Row<'_>) -> rusqlite::Result<Text> {
    Ok(Text { row: row.get(0)?, user_id: text(row, 1)?, session_id: text(row, 2)?, content: text(row, 3)? })
}
