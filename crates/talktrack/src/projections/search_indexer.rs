//! Maintains the search index of the SQLite file: first revisions and deletions, then new messages.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use talktrack_core::ids::MessageId;

use crate::changes::{ChangeKind, INVALIDATING};
use crate::local::database::{self, text};
use crate::local::tables::changes;
use crate::projections::file_projection::DerivedProjection;
use crate::store::Step;
use crate::store::sqlite::search_index::{self, IndexCheckpoint, IndexedText, SearchIndex};

/// The most messages of one step, and the most bytes of their text. A step takes a moment.
const MAX_MESSAGES: usize = 500;
const MAX_BYTES: usize = 1 << 20;
/// The most revisions and deletions of one step.
const MAX_CHANGES: usize = 1_000;

/// The shortest time between two cleanings. Removing the words of deleted messages from the file rewrites
/// all of it, a little at a time.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60 * 60);

macro_rules! select_texts {
    ($rest:literal) => {
        concat!(
            "SELECT m.rowid, coalesce(s.user_id, ''), m.session_id, m.content FROM conversation_messages m \
             LEFT JOIN conversation_sessions s ON s.session_id = m.session_id ",
            $rest
        )
    };
}

/// Keeps the index of a database up to date, and continues where the index ends.
pub(super) struct SearchIndexer {
    database: Connection,
    index: SearchIndex,
    /// The path of the index.
    file: PathBuf,
    checkpoint: IndexCheckpoint,
    cleaning: Cleaning,
}

/// The state of removing deleted words from the file.
enum Cleaning {
    /// Deleted words may be in the file. The next check is at this moment.
    NextAt(Instant),
    /// Some deleted words are still in the file.
    InProgress,
}

impl DerivedProjection for SearchIndexer {
    type File = SearchIndex;

    fn path_of(database: &Path) -> PathBuf {
        search_index::path_of(database)
    }

    fn open_file(path: &Path) -> rusqlite::Result<SearchIndex> {
        SearchIndex::open(path)
    }

    fn recreate_file(path: &Path) -> rusqlite::Result<SearchIndex> {
        SearchIndex::recreate(path)
    }

    fn open(database: &Path, index: SearchIndex) -> rusqlite::Result<Self> {
        let file = search_index::path_of(database);
        let checkpoint = index.read_checkpoint()?;
        let cleaning = Cleaning::NextAt(Instant::now());
        let database = database::open_to_read(database)?;
        let mut indexer = Self { database, index, file, checkpoint, cleaning };
        if indexer.checkpoint == IndexCheckpoint::default() {
            indexer.reset_checkpoint()?;
        }
        Ok(indexer)
    }

    /// Makes one step. New messages come before cleaning.
    fn step(&mut self) -> rusqlite::Result<Step> {
        match self.index_news()? {
            0 if self.remove_stale_words()? => Ok(Step::Verifying),
            0 => Ok(Step::UpToDate),
            left => Ok(Step::More(left)),
        }
    }
}

impl SearchIndexer {
    /// Starts with the first row. Changes made until now are already in the rows.
    fn reset_checkpoint(&mut self) -> rusqlite::Result<()> {
        self.checkpoint = IndexCheckpoint { row: 0, change: changes::newest_seq(&self.database)? };
        Ok(())
    }

    /// Indexes some changes and new messages, and returns the number of messages that are left.
    fn index_news(&mut self) -> rusqlite::Result<u64> {
        let before = self.checkpoint;
        // All reads are from one moment, so the stored place in the changes is never before a row in the
        // index. If an earlier database is restored, that place shows that the index does not match it.
        let moment = self.database.unchecked_transaction()?;
        let news = changes::read_kinds_since(&moment, &INVALIDATING, before.change, MAX_CHANGES)?;
        if !news.is_gap_free {
            drop(moment);
            tracing::info!("search: the index does not match the database; rebuilding it");
            self.index = SearchIndex::recreate(&self.file)?;
            self.reset_checkpoint()?;
            return Ok(1);
        }
        let mut checkpoint = IndexCheckpoint { change: news.next, ..before };
        let change = self.index.begin_change()?;
        for news in &news.changes {
            match (news.kind, news.message_id) {
                (ChangeKind::SessionDeleted, _) => {
                    // Later rows may have reused the row numbers of the last deleted rows.
                    let last = change.remove_session(&news.session_id.to_string())?;
                    checkpoint.row = checkpoint.row.min(last);
                }
                (ChangeKind::Revision, Some(id)) => {
                    let revised = revised_text(&moment, id, checkpoint.row)?;
                    change.put_texts(revised.as_slice())?;
                }
                _ => {}
            }
        }
        let texts = new_texts(&moment, checkpoint.row)?;
        change.put_texts(&texts)?;
        checkpoint.row = texts.last().map_or(checkpoint.row, |last| last.row);
        if checkpoint != before {
            change.commit(checkpoint)?;
            self.checkpoint = checkpoint;
        }
        let newest = "SELECT coalesce(max(rowid), 0) FROM conversation_messages";
        let newest: i64 = moment.prepare_cached(newest)?.query_row([], |row| row.get(0))?;
        let unread = u64::from(news.changes.len() >= MAX_CHANGES);
        Ok((newest - checkpoint.row).max(0).unsigned_abs().max(unread))
    }

    /// Removes some words of deleted messages from the file. Returns true if there are more.
    fn remove_stale_words(&mut self) -> rusqlite::Result<bool> {
        let is_first = match self.cleaning {
            Cleaning::NextAt(then) if Instant::now() < then || !self.index.has_stale_words()? => {
                return Ok(false);
            }
            Cleaning::NextAt(_) => true,
            Cleaning::InProgress => false,
        };
        let has_more = self.index.remove_stale_words(is_first)?;
        self.cleaning = if has_more {
            Cleaning::InProgress
        } else {
            Cleaning::NextAt(Instant::now() + CLEANING_INTERVAL)
        };
        Ok(has_more)
    }
}

/// Returns messages after this row, in their present state.
fn new_texts(database: &Connection, row: i64) -> rusqlite::Result<Vec<IndexedText>> {
    let sql = select_texts!("WHERE m.rowid > ?1 ORDER BY m.rowid LIMIT ?2");
    let mut statement = database.prepare_cached(sql)?;
    let mut rows = statement.query(params![row, MAX_MESSAGES])?;
    let mut texts = Vec::new();
    let mut bytes = 0;
    while bytes < MAX_BYTES
        && let Some(row) = rows.next()?
    {
        let text = text_of(row)?;
        bytes += text.content.len();
        texts.push(text);
    }
    Ok(texts)
}

/// Returns a message in its present state, if the index has an earlier revision of it.
fn revised_text(database: &Connection, id: MessageId, row: i64) -> rusqlite::Result<Option<IndexedText>> {
    let mut statement = database.prepare_cached(select_texts!("WHERE m.id = ?1 AND m.rowid <= ?2"))?;
    statement.query_row(params![id.to_string(), row], text_of).optional()
}

fn text_of(row: &Row<'_>) -> rusqlite::Result<IndexedText> {
    Ok(IndexedText {
        row: row.get(0)?,
        user_id: text(row, 1)?,
        session_id: text(row, 2)?,
        content: text(row, 3)?,
    })
}
