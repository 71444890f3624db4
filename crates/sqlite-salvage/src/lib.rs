//! Reads the rows that are left in a damaged SQLite file and its write-ahead log, without SQLite.
//!
//! SQLite refuses to read a file once it meets a page that contradicts itself, and it silently ignores everything in the
//! write-ahead log (WAL) after the first broken frame. This crate reads the file page by page instead, and judges each
//! record by itself. So one broken page costs the rows on that page, and no others.
//!
//! # Example
//!
//! ```
//! use sqlite_salvage::{Database, Value};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("damaged.db");
//! # let connection = rusqlite::Connection::open(&path)?;
//! # connection.execute_batch("CREATE TABLE words (word TEXT); INSERT INTO words VALUES ('hello'), ('world')")?;
//! # drop(connection);
//! // SQLite says: database disk image is malformed.
//! let database = Database::open(&path)?;
//! for record in database.records() {
//!     match record {
//!         Ok(record) => println!("page {}, rowid {:?}: {:?}", record.page, record.rowid, record.values),
//!         Err(unreadable) => eprintln!("{unreadable}"),
//!     }
//! }
//!
//! // If the schema is readable, the rows of one table.
//! if let Some(root) = database.schema().iter().find(|entry| entry.name == "words").and_then(|entry| entry.root_page) {
//!     let words: Vec<_> = database.records_on(database.tree(root)).flatten().collect();
//!     assert_eq!(words[0].values, [Value::Text("hello".into())]);
//! #   assert_eq!((words.len(), words[1].rowid), (2, Some(2)));
//! }
//! # Ok(()) }
//! ```
//!
//! # What it finds
//!
//! | | |
//! |---|---|
//! | rows | of every table, with their rowids, also if the pages of the b-tree above them are lost |
//! | index entries and `WITHOUT ROWID` tables | with their values, and without a rowid ([`Record::rowid`]) |
//! | long values | from overflow pages, if the chain is complete |
//! | write-ahead log | the newest committed version of each page ([`Wal`]); also committed frames behind a broken one, and those of a log whose header is broken |
//! | schema | the entries of `sqlite_schema` ([`Database::schema`]) and the pages of each table ([`Database::tree`]), if the pages that say so are readable |
//! | page sizes and text | all page sizes, reserved bytes, UTF-8 and UTF-16 ([`Encoding::decode`]) |
//!
//! If the header of the file is broken, the page size comes from the log, or is 4,096 unless [`Options`] say otherwise.
//! The file may be truncated, or missing if the log exists.
//!
//! # What it does not find
//!
//! - *The table of a row whose tree is broken.* Such a row is among [`Database::records`], with its page, and the caller
//!   recognises it by its shape.
//! - *A row of which a part is lost.* A record with a broken length, or with a broken overflow chain, is reported as
//!   [`Unreadable`] and skipped. But a page has no checksum: if only a value is damaged, the record is returned with the
//!   damaged value.
//! - *A lost page.* If a page was overwritten, for example with zeros, nothing says that it had rows.
//! - *Deleted rows*, unless they are on free pages that SQLite did not overwrite ([`Options::read_free_pages`]).
//! - *Which of two versions of a row is the newer one.* A row may be returned twice, or in an old version: if a frame of the
//!   log is broken, its page is read as it was before.
//! - *What a rollback journal* (`-journal`) *has*: a transaction that was interrupted in that mode is read as it is in the
//!   file.
//! - *Anything in an encrypted database.*
//! - In a file of more than 128 GiB (with pages of 4 KiB), a page of a long value may be taken for a page of an index.
//!
//! # Guarantees
//!
//! - Nothing is written: all files are opened for reading only, and without locks. If another process writes to the
//!   database meanwhile, the result may mix two states.
//! - No bytes cause a panic or an endless loop. No offset, length or page number in the file is trusted.
//! - The memory is bounded: one page, one record (with a limit, [`Options::max_record_bytes`]), about 10 bytes for each free
//!   page, and about 50 bytes for each frame of the log. The time is not: in a crafted file, many cells can have one long
//!   value.
//! - There is no `unsafe` code, and no dependency.
//!
//! Close all connections of *this process* to the database before you call [`Database::open`], and drop the [`Database`]
//! before you open new ones: on Unix, closing any descriptor of a file releases all locks that the process has on it, also
//! those of SQLite.

mod schema;
mod records;
mod cells;
mod database;
mod wal;
mod header;
mod value;
mod bytes;
mod error;

pub use database::{Database, Options};
pub use error::OpenError;
pub use records::{Record, Records, Unreadable};
pub use schema::SchemaEntry;
pub use value::{Encoding, Value};
pub use wal::{Wal, WalDamage};
