//! Users in the columns of tables. A session's row has two columns, the UUID and the text. Every other table has one, with the
//! user as callers write it: a text user is never a UUID, so that this names one user as well.

use rusqlite::Row;
use talktrack_core::ids::UserId;

use crate::local::database::{UuidText, column_or_null, parse_id, text_or_null};

/// A user as one text, in the spelling of the columns.
pub(crate) enum UserText<'u> {
    Uuid(UuidText),
    Text(&'u str),
}

impl<'u> UserText<'u> {
    pub(crate) fn new(user: &'u UserId) -> Self {
        user.text().map_or_else(|| Self::Uuid(UuidText::new(user.as_uuid())), Self::Text)
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Uuid(id) => id.as_str(),
            Self::Text(text) => text,
        }
    }
}

/// Parses a user in a table that has one column for it.
pub(crate) fn parse_user(text: &str) -> Option<UserId> {
    text.parse().ok()
}

/// Returns the user in these columns of a session's row, the UUID and the text. `None` if the row names no possible user.
pub(crate) fn read_user(row: &Row<'_>, uuid: usize, text: usize) -> rusqlite::Result<Option<UserId>> {
    Ok(UserId::from_columns(column_or_null(row, uuid, parse_id)?, text_or_null(row, text)?.as_deref()))
}
