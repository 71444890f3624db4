//! The index of the file: what was revised and deleted, then what is new.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::changes::{self, ChangeKind};
use crate::database::{self, text};
use crate::store::sqlite::index::{self, Index, Reached, Text};
use crate::store::{Class, Indexer, Step, StoreError};

/// Messages of one step, and bytes of their text: a moment's work.
const MESSAGES: usize = 500;
const BYTES: usize = 1 << 20;
/// What was revised or deleted, of one step.
const CHANGES: usize = 1_000;

/// Taking words out of the file writes all of it anew, a little at a time: not more often than this.
const CLEANINGS: Duration = Duration::from_secs(60 * 60);

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
    /// Of the index.
    file: PathBuf,
    reached: Reached,
    cleaning: Cleaning,
}

/// How far the words of what was deleted have left the file.
enum Cleaning {
    /// They may be there; it is looked at from then on.
    From(Instant),
    /// Some are still there.
    UnderWay,
}

impl Follower {
    pub(super) fn of(database: &Path) -> Self {
        Self { path: database.to_owned(), open: None }
    }

    /// Goes a step: what is new first.
    fn try_step(&mut self) -> rusqlite::Result<Step> {
        let suspect = database::is_suspect(&index::path_of(&self.path));
        let open = match self.open.take() {
            Some(open) if !suspect => open,
            _ => Open::at(&self.path, suspect)?,
        };
        let open = self.open.insert(open);
        match open.step()? {
            0 if open.clean()? => Ok(Step::Passing),
            0 => Ok(Step::UpToDate),
            left => Ok(Step::More(left)),
        }
    }
}

#[async_trait]
impl Indexer for Follower {
    async fn step(&mut self) -> Result<Step, StoreError> {
        match self.try_step() {
            Ok(step) => Ok(step),
            Err(error) => {
                self.open = None;
                if database::is_damage(&error) {
                    database::suspect(&index::path_of(&self.path), &error.to_string());
                }
                Err(StoreError::new(Class::Systemic, error.to_string()))
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
        let cleaning = Cleaning::From(Instant::now());
        let mut open = Self { reached: index.reached()?, database, index, file, cleaning };
        if open.reached == Reached::default() {
            open.begin()?;
        }
        Ok(open)
    }

    /// Every row is new. What was changed before they are looked at is in them.
    fn begin(&mut self) -> rusqlite::Result<()> {
        self.reached = Reached { row: 0, change: changes::newest(&self.database)? };
        Ok(())
    }

    /// Goes a step, and says how many messages are left.
    fn step(&mut self) -> rusqlite::Result<u64> {
        let before = self.reached;
        // All of one moment: the place in the changes that is kept is not before any row that is in the index. Of an earlier
        // database that is put back, the index knows by that place that it is of another time.
        let moment = self.database.unchecked_transaction()?;
        let news = changes::of_kinds_since(&moment, &changes::OVERTURNING, before.change, CHANGES)?;
        if !news.is_whole {
            drop(moment);
            tracing::info!("search: the index is of another time than the database, and is made anew");
            self.index = Index::anew(&self.file)?;
            self.begin()?;
            return Ok(1);
        }
        let mut reached = Reached { change: news.next, ..before };
        let change = self.index.change()?;
        for news in &news.changes {
            match (news.kind, news.message_id) {
                (ChangeKind::SessionDeleted, _) => {
                    // What came later may have the numbers of the last rows that are gone.
                    let last = change.take_out(&news.session_id.to_string())?;
                    reached.row = reached.row.min(last);
                }
                (ChangeKind::Revision, Some(id)) => {
                    let revised = revised_text(&moment, id, reached.row)?;
                    change.put(revised.as_slice())?;
                }
                _ => {}
            }
        }
        let texts = new_texts(&moment, reached.row)?;
        change.put(&texts)?;
        reached.row = texts.last().map_or(reached.row, |last| last.row);
        if reached != before {
            change.commit(reached)?;
            self.reached = reached;
        }
        let newest = "SELECT coalesce(max(rowid), 0) FROM conversation_messages";
        let newest: i64 = moment.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
        let unread = u64::from(news.changes.len() >= CHANGES);
        Ok((newest - reached.row).max(0).unsigned_abs().max(unread))
    }
}

impl Open {
    /// Takes a part of the words of deleted messages out of the file. Says whether there are more.
    fn clean(&mut self) -> rusqlite::Result<bool> {
        let is_first = match self.cleaning {
            Cleaning::From(then) if Instant::now() < then || !self.index.is_unclean()? => return Ok(false),
            Cleaning::From(_) => true,
            Cleaning::UnderWay => false,
        };
        let has_more = self.index.clean(is_first)?;
        self.cleaning =
            if has_more { Cleaning::UnderWay } else { Cleaning::From(Instant::now() + CLEANINGS) };
        Ok(has_more)
    }
}

/// Messages behind this row, as they are now.
fn new_texts(database: &Connection, row: i64) -> rusqlite::Result<Vec<Text>> {
    let sql = select_texts!("WHERE m.rowid > ?1 ORDER BY m.rowid LIMIT ?2");
    let mut statement = database.prepare_cached(sql)?;
    let mut rows = statement.query(params![row, MESSAGES])?;
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

/// A message as it is now, where the index has an earlier revision of it.
fn revised_text(database: &Connection, id: Uuid, row: i64) -> rusqlite::Result<Option<Text>> {
    let mut statement = database.prepare_cached(select_texts!("WHERE m.id = ?1 AND m.rowid <= ?2"))?;
    statement.query_row(params![id.to_string(), row], text_of).optional()
}

fn text_of(row: &Row<'_>) -> rusqlite::Result<Text> {
    Ok(Text { row: row.get(0)?, user_id: text(row, 1)?, session_id: text(row, 2)?, content: text(row, 3)? })
}
