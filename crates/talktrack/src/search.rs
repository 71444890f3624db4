//! What it means that a message is found: how text becomes words, what a query asks of them, and what of a message is shown.
//! The same for every store, so that they find the same.
//!
//! A word is a run of letters and digits, whatever its case and its accents: `Äpfel` is found by `apfel`. Scripts that set no
//! spaces between words (Chinese, Japanese, Korean, Thai and their like) are taken two letters at a time, so that any part of
//! a sentence is found.

mod words;
mod query;
mod snippet;

pub use query::{InvalidQuery, MAX_QUERY_CHARS, Query};
pub use snippet::Piece;
pub use words::MAX_WORDS;
pub(crate) use words::Words;

use serde::Serialize;
use uuid::Uuid;

use crate::error::ReadError;
use crate::message::{Kind, Role};
use crate::stored::{Stored, StoredTime};

/// Before the digits of an id among the words of a message, which says whose it is and of which session: no word of a text
/// begins so.
pub(crate) const USER: char = '\u{e000}';
pub(crate) const SESSION: char = '\u{e001}';

/// Which messages to find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchFilter {
    /// What must be in them.
    pub query: Query,
    /// In sessions of this user.
    pub user_id: Option<Uuid>,
    /// In this session.
    pub session_id: Option<Uuid>,
}

/// A place in what was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchCursor {
    /// The last hit's place in the order of the store.
    pub place: i64,
    /// Its message.
    pub id: Uuid,
}

/// A message that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the columns of the schema, described there")]
pub struct Hit {
    pub message_id: Uuid,
    pub session_id: Uuid,
    /// Whose session it is.
    pub user_id: Uuid,
    pub role: Stored<Role>,
    pub kind: Stored<Kind>,
    pub created_at: StoredTime,
    /// A part of the content with what was found in it.
    pub snippet: Vec<Piece>,
    /// Its place in the order of the store, which is that of acceptance as far as the store knows it.
    #[serde(skip)]
    pub place: i64,
}

impl Hit {
    /// Where the list goes on after this hit.
    pub fn cursor(&self) -> SearchCursor {
        SearchCursor { place: self.place, id: self.message_id }
    }
}

/// Why a search has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The store has no index. The text says what to do about it.
    #[error("{0}")]
    NoIndex(String),
    /// It took too long.
    #[error("too much is to be looked through for these words; add one, or write more letters before the *")]
    TooBroad,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A list that is restricted by what is found in it fails in the words of the search.
impl From<SearchError> for ReadError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Read(error) => error,
            other => Self(other.to_string()),
        }
    }
}
