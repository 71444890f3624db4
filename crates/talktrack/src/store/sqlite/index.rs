//! The search index: a file of its own beside the database, written behind the journal and made anew whenever it is not
//! what it should be. It holds no text, only which words are in which row.
//!
//! A row's number in the index is its `rowid` in `conversation_messages`: what was written last comes last, so that the newest
//! hits are found first without sorting. Whose a message is, and which session's, are words of it, too: one user's hits among
//! those of all others are an intersection of two lists.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, params};

use crate::search::{SESSION, USER, Words};
use crate::store::sqlite::derived::Derived;

/// Pages that one step of cleaning writes.
const CLEANED_PAGES: i64 = 200;

/// `ascii` takes every letter beyond ASCII for a part of a word, and so leaves the words as they are given. The layout goes up
/// whenever other words are made of the same text.
const FILE: Derived = Derived {
    name: "search",
    layout: 2,
    schema: "
CREATE VIRTUAL TABLE texts USING fts5(words, content='', contentless_delete=1, tokenize='ascii');
CREATE TABLE state (one integer PRIMARY KEY CHECK (one = 1), row integer NOT NULL, change integer NOT NULL,
  unclean integer NOT NULL);
INSERT INTO state VALUES (1, 0, 0, 0);",
    cache_kib: 16_384,
    overwrites: true,
};

/// How far the index has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Every row up to here is in it.
    pub(crate) row: i64,
    /// Every change up to here was followed.
    pub(crate) change: i64,
}

/// A message to be found.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) row: i64,
    pub(crate) user_id: String,
    pub(crate) session_id: String,
    pub(crate) content: String,
}

/// The index, for the one who writes it.
pub(crate) struct Index {
    connection: Connection,
}

/// Where the index of this database is.
pub(crate) fn path_of(database: &Path) -> PathBuf {
    FILE.path_of(database)
}

impl Index {
    /// Opens it, or makes an empty one where it is missing or of another layout.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        FILE.open(path).map(|connection| Self { connection })
    }

    /// An empty one, whatever was there.
    pub(crate) fn anew(path: &Path) -> rusqlite::Result<Self> {
        FILE.anew(path).map(|connection| Self { connection })
    }

    /// How far it has come.
    pub(crate) fn reached(&self) -> rusqlite::Result<Reached> {
        let reached = |row: &rusqlite::Row<'_>| Ok(Reached { row: row.get(0)?, change: row.get(1)? });
        self.connection.query_row("SELECT row, change FROM state", [], reached)
    }

    /// Whether words of what was taken out are still in the file.
    pub(crate) fn is_unclean(&self) -> rusqlite::Result<bool> {
        self.connection.query_row("SELECT unclean <> 0 FROM state", [], |row| row.get(0))
    }

    /// Writes a part of the index anew, without the words of what was taken out. `is_first` begins with all of it. Says whether
    /// more is to be done.
    pub(crate) fn clean(&mut self, is_first: bool) -> rusqlite::Result<bool> {
        // A negative number takes every segment of the index for one that is to be merged: the words go in no other way.
        let pages = if is_first { -CLEANED_PAGES } else { CLEANED_PAGES };
        let before = self.connection.total_changes();
        self.connection.execute("INSERT INTO texts (texts, rank) VALUES ('merge', ?1)", [pages])?;
        // One change is the command itself.
        let has_more = self.connection.total_changes() - before >= 2;
        if is_first {
            self.connection.execute("UPDATE state SET unclean = 2", [])?;
        }
        if !has_more {
            // What was taken out meanwhile may lie in a part that had been written anew before.
            self.connection.execute("UPDATE state SET unclean = 0 WHERE unclean = 2", [])?;
            self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        }
        Ok(has_more)
    }

    /// Begins to change it: all of it, or nothing.
    pub(crate) fn change(&mut self) -> rusqlite::Result<Change<'_>> {
        Ok(Change(self.connection.transaction()?))
    }
}

/// A change of the index that is under way.
pub(crate) struct Change<'c>(Transaction<'c>);

impl Change<'_> {
    /// Adds texts, or puts them in the place of what was there.
    pub(crate) fn put(&self, texts: &[Text]) -> rusqlite::Result<()> {
        let mut put = self.0.prepare_cached("INSERT OR REPLACE INTO texts (rowid, words) VALUES (?1, ?2)")?;
        let mut words = String::new();
        for text in texts {
            words.clear();
            words.extend([USER]);
            words.extend(digits(&text.user_id));
            words.extend([' ', SESSION]);
            words.extend(digits(&text.session_id));
            for word in Words::of(&text.content).iter() {
                words.push(' ');
                words.push_str(word);
            }
            put.execute(params![text.row, words])?;
        }
        Ok(())
    }

    /// Takes every message of a session out. Says up to which row the index still holds anything.
    pub(crate) fn take_out(&self, session_id: &str) -> rusqlite::Result<i64> {
        let mut rows = self.0.prepare_cached("SELECT rowid FROM texts WHERE texts MATCH ?1")?;
        let rows = rows
            .query_map([of_session(session_id)], |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<i64>>>()?;
        let mut delete = self.0.prepare_cached("DELETE FROM texts WHERE rowid = ?1")?;
        for row in rows {
            delete.execute([row])?;
            self.0.prepare_cached("UPDATE state SET unclean = 1")?.execute([])?;
        }
        self.0.query_row("SELECT coalesce(max(id), 0) FROM texts_docsize", [], |row| row.get(0))
    }

    /// Holds what was changed, and how far that is.
    pub(crate) fn commit(self, reached: Reached) -> rusqlite::Result<()> {
        self.0.execute("UPDATE state SET row = ?1, change = ?2", params![reached.row, reached.change])?;
        self.0.commit()
    }
}

/// What finds the messages of a user.
pub(crate) fn of_user(id: &str) -> String {
    format!("\"{USER}{}\"", digits(id).collect::<String>())
}

/// What finds the messages of a session.
pub(crate) fn of_session(id: &str) -> String {
    format!("\"{SESSION}{}\"", digits(id).collect::<String>())
}

fn digits(id: &str) -> impl Iterator<Item = char> {
    id.chars().filter(char::is_ascii_hexdigit)
}
