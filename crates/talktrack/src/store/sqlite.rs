//! SQLite as the store. The journal's own transaction writes the rows, so a durable record is also stored.

mod write;
mod session_records;
mod audit;
mod rows;
mod read;
mod journal_records;
mod pending;
mod dead_letters;
mod deleted;
mod deleted_messages;
mod owner;
mod stats;
mod search;
pub(crate) mod search_index;
pub(crate) mod rollup;
mod derived;

pub use dead_letters::{BooksCheck, DeadLetter, Replayed};
pub(crate) use deleted::{is_refused, note_deleted, note_deleted_claim};
pub(crate) use deleted_messages::{DeletedMessages, note_deleted_message};
pub use journal_records::JournalRecord;
pub(crate) use journal_records::read_record;
pub(crate) use owner::owner;
pub use read::SqliteReader;
pub(crate) use rows::{BOOKS_COLUMNS, books_row};
pub(crate) use session_records::abandon_open_sessions;
pub(crate) use write::{write_books, write_records};
