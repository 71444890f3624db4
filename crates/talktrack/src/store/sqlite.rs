//! SQLite as the store: its rows are written by the journal's own transaction, so durable and stored are one.

mod write;
mod sessions;
mod audit;
mod rows;
mod read;
mod glimpse;
mod following;
mod letters;
mod deleted;
mod stats;
mod search;
pub(crate) mod index;
pub(crate) mod tallies;
mod derived;

pub(crate) use deleted::{is_deleted, note as note_deleted, take_back as take_back_deleted};
pub use following::Waiting;
pub(crate) use following::readable;
pub use letters::{DeadLetter, Replayed, Tally};
pub use read::SqliteReader;
pub(crate) use rows::{BOOKS_COLUMNS, books_row};
pub(crate) use sessions::{abandon_open_sessions, insert as insert_session};
pub(crate) use write::{apply, write_books};
