//! Maintains the search index of the SQLite file: first revisions and deletions, then new messages.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::changes::{ChangeKind, INVALIDATING};
use crate::local::database;
use crate::local::tables::{changes, closed_messages, messages, removed_messages};
use crate::projections::file_projection::DerivedProjection;
use crate::store::Step;
use crate::store::sqlite::search_index::{self, IndexCheckpoint, SearchIndex};

/// The most messages of one step, and the most bytes of their text. A step takes a moment.
const MAX_MESSAGES: usize = 500;
const MAX_BYTES: usize = 1 << 20;
/// The most revisions and deletions of one step.
const MAX_CHANGES: usize = 1_000;

/// The shortest time between two cleanings. Removing the words of deleted messages from the file rewrites
/// all of it, a little at a time.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60 * 60);

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
                (ChangeKind::MessagesDeleted, _) => {
                    let removed = removed_messages::read(&moment, news.seq)?;
                    let last = change.remove_rows(removed.iter().filter_map(|message| message.row))?;
                    checkpoint.row = checkpoint.row.min(last);
                }
                (ChangeKind::Revision, Some(id)) => {
                    // The index has no revision of a message in a later row.
                    let revised = messages::search::read_text(&moment, id, checkpoint.row)?;
                    change.put_texts(revised.as_slice())?;
                }
                _ => {}
            }
        }
        for id in closed_messages::read_between(&moment, before.change, checkpoint.change)? {
            let closed = messages::search::read_text(&moment, id, checkpoint.row)?;
            change.put_texts(closed.as_slice())?;
        }
        let texts = messages::search::read_texts_after(&moment, checkpoint.row, MAX_MESSAGES, MAX_BYTES)?;
        change.put_texts(&texts)?;
        checkpoint.row = texts.last().map_or(checkpoint.row, |last| last.row);
        if checkpoint != before {
            change.commit(checkpoint)?;
            self.checkpoint = checkpoint;
        }
        let newest = messages::read::newest_row(&moment)?;
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
