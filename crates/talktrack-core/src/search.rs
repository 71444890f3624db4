//! The rules of full-text search: how text is split into words, when a query matches, and which part of a
//! message is shown. They are the same for every store, so that all stores find the same messages.
//!
//! A word is a run of letters and digits, or an emoji. Case, accents, characters that are not seen (such as
//! soft hyphens), forms of one letter and the script of digits do not matter: `apfel` finds `Äpfel`, `lodz`
//! finds `Łódź`. Scripts that write no spaces between words (Chinese, Japanese, Korean, Thai and similar
//! ones) are indexed as pairs of letters, so that any part of a sentence can be found.
//!
//! A number of at least seven digits is found however its digits are grouped, and with or without the code
//! of the country.

mod words;
mod numbers;
mod fold;
mod query;
mod snippet;

pub use fold::FOLDING;
pub use query::{InvalidQuery, MAX_QUERY_CHARS, Query};
pub use snippet::Piece;
pub use words::MAX_WORDS;
pub use words::Words;

use crate::ids::{MessageId, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::error::ReadError;
use crate::message::{Kind, Role};
use crate::stored::{Stored, StoredTime};

/// The marker before the digits of a user's id among the words of a message: such a word names the user of the message.
/// No word of a text begins with a marker.
pub const USER: char = '\u{e000}';
/// The marker before the digits of a session's id, in the same way.
pub const SESSION: char = '\u{e001}';
/// The marker before the digits of a number among the terms of a message, last digit first.
pub const NUMBER: char = '\u{e002}';

/// Selects the messages to find.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SearchFilter {
    /// The words that a message must contain.
    pub query: Query,
    /// Only messages in sessions of this user.
    pub user_id: Option<UserId>,
    /// Only messages in this session.
    pub session_id: Option<SessionId>,
}

impl SearchFilter {
    /// Selects all messages that match the query.
    pub fn new(query: Query) -> Self {
        Self { query, user_id: None, session_id: None }
    }

    /// Selects only messages in sessions of this user.
    #[must_use]
    pub fn with_user_id(self, user_id: impl Into<Option<UserId>>) -> Self {
        Self { user_id: user_id.into(), ..self }
    }

    /// Selects only messages in this session.
    #[must_use]
    pub fn with_session_id(self, session_id: impl Into<Option<SessionId>>) -> Self {
        Self { session_id: session_id.into(), ..self }
    }
}

/// A position in the list of hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchCursor {
    /// The last hit's place in the order of the store.
    pub place: i64,
    /// The id of the last hit's message.
    pub id: MessageId,
}

/// A message that matches a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the columns of the schema, described there")]
pub struct Hit {
    pub message_id: MessageId,
    pub session_id: SessionId,
    /// The user of the message's session.
    pub user_id: UserId,
    pub role: Stored<Role>,
    pub kind: Stored<Kind>,
    pub created_at: StoredTime,
    /// A part of the content that contains the first match.
    pub snippet: Vec<Piece>,
    /// The message's place in the order of the store. This is the order of acceptance, if the store knows
    /// that.
    #[serde(skip)]
    pub place: i64,
}

impl Hit {
    /// Returns the cursor that continues the list after this hit.
    pub fn cursor(&self) -> SearchCursor {
        SearchCursor { place: self.place, id: self.message_id }
    }
}

/// A search that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SearchError {
    /// The store has no index. The text says what to do about it.
    #[error("{0}")]
    NoIndex(String),
    /// The search took too long.
    #[error("the search took too long; add a word, or write more letters before the *")]
    TooBroad,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A list that is restricted by a search query fails with the message of the search.
impl From<SearchError> for ReadError {
    fn from(error: SearchError) -> Self {
        match error {
            SearchError::Read(error) => error,
            SearchError::NoIndex(why) => Self::unavailable(why),
            SearchError::TooBroad => Self::unavailable(SearchError::TooBroad.to_string()),
        }
    }
}
