//! SQLite as the store. The journal's own transaction writes the rows, so a durable record is also stored.

mod write;
mod session_records;
mod audit;
mod read;
mod connections;
mod journal_records;
mod outbox;
mod dead_letters;
mod books_check;
mod deleted;
mod deleted_messages;
mod edits;
mod stats;
mod search;
pub(crate) mod search_index;
pub(crate) mod rollup;
mod derived;

pub use crate::local::tables::dead_letters::DeadLetter;
pub use books_check::BooksCheck;
pub use dead_letters::{DeadLetterReader, Replayed};
pub(crate) use deleted::{is_refused, note_deleted, note_deleted_claim};
pub(crate) use deleted_messages::{DeletedMessages, note_deleted_message};
pub use journal_records::JournalRecord;
pub use outbox::OutboxReader;
pub use read::SqliteReader;
pub(crate) use session_records::abandon_open_sessions;
pub(crate) use write::{WrittenRecords, write_records};
