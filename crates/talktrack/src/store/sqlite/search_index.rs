//! The search index: a derived file next to the database. It is updated behind the journal and rebuilt if
//! it does not match the database. It contains no text, only which words are in which row.
//!
//! A row's number in the index is its `rowid` in `conversation_messages`. The last written row has the
//! highest number, so the newest hits are found first without sorting. The message's user and session are
//! words of the index too: the hits of one user among those of all others are an intersection of two lists.

use std::path::{Path, PathBuf};
use talktrack_core::clock::Seq;

use rusqlite::{Connection, Transaction, params};
use talktrack_core::search::{FOLDING, SESSION, USER, Words};

use crate::local::tables::messages::search::MessageText;
use crate::store::sqlite::derived::DerivedFile;

/// The number of pages that one cleaning step writes.
const CLEANED_PAGES: i64 = 200;

/// The `ascii` tokenizer treats every letter outside ASCII as part of a word, so it leaves the words as
/// they are given.
const FILE: DerivedFile = DerivedFile {
    name: "search",
    layout: FOLDING as i64,
    schema: "
CREATE VIRTUAL TABLE texts USING fts5(words, content='', contentless_delete=1, tokenize='ascii');
CREATE TABLE state (one integer PRIMARY KEY CHECK (one = 1), row integer NOT NULL, change integer NOT NULL,
  unclean integer NOT NULL);
INSERT INTO state VALUES (1, 0, 0, 0);",
    cache_kib: 16_384,
    overwrites: true,
};

/// The progress of the index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct IndexCheckpoint {
    /// Every row up to this one is indexed.
    pub(crate) row: i64,
    /// Every change up to this one was processed.
    pub(crate) change: Seq,
}

/// The index, opened by its writer.
pub(crate) struct SearchIndex {
    connection: Connection,
}

/// Returns the path of the index of this database.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    FILE.path_of(database)
}

impl SearchIndex {
    /// Opens the index. Creates an empty one if it is missing or has a different layout.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        FILE.open(path).map(|connection| Self { connection })
    }

    /// Replaces the index, if it exists, with an empty one.
    pub(crate) fn recreate(path: &Path) -> rusqlite::Result<Self> {
        FILE.recreate(path).map(|connection| Self { connection })
    }

    /// Returns the progress of the index.
    pub(crate) fn read_checkpoint(&self) -> rusqlite::Result<IndexCheckpoint> {
        let checkpoint =
            |row: &rusqlite::Row<'_>| Ok(IndexCheckpoint { row: row.get(0)?, change: row.get(1)? });
        self.connection.query_row("SELECT row, change FROM state", [], checkpoint)
    }

    /// True if the file still contains words of removed messages.
    pub(crate) fn has_stale_words(&self) -> rusqlite::Result<bool> {
        self.connection.query_row("SELECT unclean <> 0 FROM state", [], |row| row.get(0))
    }

    /// Rewrites a part of the index without the words of removed messages. `is_first` starts a pass over
    /// the whole index. Returns true if there is more to do.
    pub(crate) fn remove_stale_words(&mut self, is_first: bool) -> rusqlite::Result<bool> {
        // A negative number makes FTS5 merge all segments of the index. Only a merge removes the words.
        let pages = if is_first { -CLEANED_PAGES } else { CLEANED_PAGES };
        let before = self.connection.total_changes();
        self.connection.execute("INSERT INTO texts (texts, rank) VALUES ('merge', ?1)", [pages])?;
        // The command itself counts as one change.
        let has_more = self.connection.total_changes() - before >= 2;
        if is_first {
            self.connection.execute("UPDATE state SET unclean = 2", [])?;
        }
        if !has_more {
            // Messages removed since the start of this pass may have words in a part that was already
            // rewritten.
            self.connection.execute("UPDATE state SET unclean = 0 WHERE unclean = 2", [])?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(has_more)
    }

    /// Begins a transaction that changes the index.
    pub(crate) fn begin_change(&mut self) -> rusqlite::Result<IndexTransaction<'_>> {
        Ok(IndexTransaction(self.connection.transaction()?))
    }
}

/// A transaction that changes the index.
pub(crate) struct IndexTransaction<'c>(Transaction<'c>);

impl IndexTransaction<'_> {
    /// Adds texts, or replaces those with the same row number.
    pub(crate) fn put_texts(&self, texts: &[MessageText]) -> rusqlite::Result<()> {
        let mut put = self.0.prepare_cached("INSERT OR REPLACE INTO texts (rowid, words) VALUES (?1, ?2)")?;
        let mut words = String::new();
        for text in texts {
            words.clear();
            words.extend([USER]);
            words.extend(digits(&text.user_id));
            words.extend([' ', SESSION]);
            words.extend(digits(&text.session_id));
            for word in Words::split(&text.content).terms() {
                words.push(' ');
                words.push_str(word);
            }
            put.execute(params![text.row, words])?;
        }
        Ok(())
    }

    /// Removes every message of a session. Returns the highest row number that is still in the index.
    pub(crate) fn remove_session(&self, session_id: &str) -> rusqlite::Result<i64> {
        let mut rows = self.0.prepare_cached("SELECT rowid FROM texts WHERE texts MATCH ?1")?;
        let rows = rows
            .query_map([session_term(session_id)], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        self.remove_rows(rows.into_iter())
    }

    /// Removes the messages in these rows. Returns the highest row number that is still in the index.
    pub(crate) fn remove_rows(&self, rows: impl Iterator<Item = i64>) -> rusqlite::Result<i64> {
        let mut delete = self.0.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
        for row in rows {
            delete.execute([row])?;
            self.0.prepare_cached("UPDATE state SET unclean = 1")?.execute([])?;
        }
        self.0.query_row("SELECT coalesce(max(id), 0) FROM texts_docsize", [], |row| row.get(0))
    }

    /// Commits the changes together with the progress that they reach.
    pub(crate) fn commit(self, checkpoint: IndexCheckpoint) -> rusqlite::Result<()> {
        self.0
            .execute("UPDATE state SET row = ?1, change = ?2", params![checkpoint.row, checkpoint.change])?;
        self.0.commit()
    }
}

/// Returns the expression that matches the messages of a user.
pub(crate) fn user_term(id: &str) -> String {
    format!("\"{USER}{}\"", digits(id).collect::<String>())
}

/// Returns the expression that matches the messages of a session.
pub(crate) fn session_term(id: &str) -> String {
    format!("\"{SESSION}{}\"", digits(id).collect::<String>())
}

fn digits(id: &str) -> impl Iterator<Item = char> {
    id.chars().filter(char::is_ascii_hexdigit)
}
