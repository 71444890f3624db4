//! SQLite as the store. The journal's own transaction writes the rows, so a durable record is also stored.

mod write;
mod sessions;
mod audit;
mod rows;
mod read;
mod session_preview;
mod following;
mod on_the_way;
mod letters;
mod deleted;
mod deleted_messages;
mod owner;
mod stats;
mod search;
pub(crate) mod search_index;
pub(crate) mod rollup;
mod derived;

pub(crate) use deleted::{is_refused, note as note_deleted, note_claim as note_deleted_claim};
pub(crate) use deleted_messages::{
    DeletedMessages, forget as forget_deleted_messages, note as note_deleted_message,
};
pub use following::Waiting;
pub(crate) use following::readable;
pub use letters::{DeadLetter, Replayed, Tally};
pub(crate) use owner::owner;
pub use read::SqliteReader;
pub(crate) use rows::{BOOKS_COLUMNS, books_row};
pub(crate) use sessions::{abandon_open_sessions, insert as insert_session};
pub(crate) use write::{apply, write_books};
