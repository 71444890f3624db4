//! Records the conversations of voice and chat agents durably, in SQLite or PostgreSQL, without making the agent wait.
//!
//! A [`Tracker`] accepts messages into a bounded queue in memory. One background thread commits everything in the queue
//! to a SQLite file in one transaction (group commit) and then resolves the [`Receipt`]s. That file is the store, or the
//! outbox of PostgreSQL, Supabase or a [`Store`](store::Store) of your own.
//!
//! # Example
//!
//! ```
//! use std::time::Duration;
//!
//! use talktrack::{Message, NewSession, Options, Role, SessionId, Tracker, UserId};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let data_dir = dir.path();
//! let tracker = Tracker::open(Options::new(data_dir))?;
//! let session = SessionId::from_u128(1);
//! let user = UserId::from_u128(2);
//! tracker.start_session(NewSession::new(session, user))?.durable().await?;
//!
//! let receipt = tracker.track_message(Message::new(session, Role::User, "Hello"))?; // never waits
//! receipt.await?; // optional: now it is on the disk
//!
//! let transcript = tracker.reader().messages(session, None, 100).await?;
//! assert_eq!(transcript[0].content, "Hello");
//!
//! let ended = tracker.end_session(session, "completed")?.durable().await?;
//! assert_eq!(ended.message_count, 1);
//! tracker.shutdown(Duration::from_secs(5)).await?;
//! # Ok(()) }
//! ```
//!
//! With PostgreSQL, only opening the tracker differs. The store need not be reachable: the journal keeps what is durable
//! until it is.
//!
//! ```no_run
//! # #[cfg(feature = "postgres")] {
//! use std::sync::Arc;
//!
//! use talktrack::store::postgres::{Address, PostgresStore};
//! use talktrack::{Options, Tracker};
//!
//! # fn open() -> Result<Tracker, Box<dyn std::error::Error>> {
//! let address: Address = "postgresql://user:password@db.example.com/postgres".parse()?;
//! let store = Arc::new(PostgresStore::new(&address)?);
//! let tracker = Tracker::open_with_store(Options::new("./talktrack-data"), store)?;
//! # Ok(tracker) }
//! # }
//! ```
//!
//! The directory `examples` of this crate has complete programs: `embed`, `remote_store` and `custom_store`.
//!
//! # Guarantees
//!
//! | a message is | if | it survives | how you learn it |
//! |---|---|---|---|
//! | **accepted** | it is in the queue; the caller did not wait | nothing yet | [`Tracker::track_message`] returned a [`Receipt`] |
//! | **durable** | a SQLite transaction with it has committed, with `synchronous=FULL` | SIGKILL, a power cut, an outage of the store | the [`Receipt`] resolves |
//! | **stored** | its row is committed in the store; with SQLite as the store, this is the same transaction | what the store survives | [`Tracker::flush_to_store`] returns; [`Health::books`] |
//!
//! - Nothing durable is lost, and nothing is stored twice: every write is idempotent by the message's id.
//! - The caller never waits: a full queue refuses the message at once and returns it.
//! - A row that the store will never accept becomes a dead letter with its reason. Its neighbours are stored.
//! - The [`Books`] balance: `durable = stored + dead_lettered + pending`.
//!
//! A start of a session is one user's *claim* to it. A remote store decides which claim owns the session, so until it has
//! answered there can be claims of more than one user; a message is written in the claim of its user.
//!
//! [`path_of_a_message`] follows one message through the library.
//!
//! # How to embed
//!
//! - Open one tracker per process and clone it: all clones share one queue. A data directory belongs to one process; a
//!   second one gets [`OpenError::Locked`]. After a fork, open another tracker in the child, on another directory.
//! - Only the `async` methods and the receipts wait. [`Tracker::shutdown`] and the reader need a tokio runtime;
//!   [`Tracker::track_message`] may be called from any thread.
//! - Give each message an `id` or an `external_id` if the program may send it again. Repeating it is then harmless.
//! - Call [`Tracker::shutdown`] before the program ends. It ends the open sessions and waits until everything accepted
//!   is durable. Dropping the last clone also writes what was accepted, but blocks the thread.
//! - [`Tracker::reader`] returns the [`Read`](store::Read) side of the store, with lists, transcripts, search and
//!   statistics. With a remote store, it shows what is stored, which may be less than what is durable.
//! - Logs are events of [`tracing`](https://docs.rs/tracing) and metrics go to [`metrics`](https://docs.rs/metrics). The
//!   program chooses a subscriber and a recorder.
//!
//! ## Faster commits
//!
//! SQLite commits measurably faster (40 to 70 %) and just as durably if it calls `fdatasync` instead of `fsync`. The
//! bundled SQLite does so if it is compiled with `HAVE_FDATASYNC`. A library cannot set this for the program that embeds
//! it, so add this to the `.cargo/config.toml` of your workspace:
//!
//! ```toml
//! [env]
//! LIBSQLITE3_FLAGS = "-DHAVE_FDATASYNC=1"
//! ```
//!
//! `cargo install` does not read that file: set the variable in the environment, as in
//! `LIBSQLITE3_FLAGS="-DHAVE_FDATASYNC=1" cargo install …`.
//!
//! # Errors
//!
//! | error | when | what to do |
//! |---|---|---|
//! | [`OpenError`] | the data directory cannot be opened | its text says what to change |
//! | [`Refused`] with a [`Reason`] | before acceptance; it returns what was handed over | correct the message, or try again later |
//! | [`NotDurable`] | after acceptance; the receipt resolves with it | depends on the variant: `Stopped` means send it again |
//! | [`ReadError`] | the store cannot answer a query | try again; nothing was changed |
//! | [`StoreError`](store::StoreError) | a [`Store`](store::Store) could not write | the writer reacts to its [`ErrorClass`](store::ErrorClass) |
//!
//! # Cargo features
//!
//! | feature | default | adds |
//! |---|---|---|
//! | `postgres` | yes | [`store::postgres`]: PostgreSQL and Supabase as the store, and the migration of its tables |
//!
//! The crate `talktrack-testkit` has the conformance suite for stores, a store in memory, and a clock under the test's
//! control.

pub mod path_of_a_message;

// The path of a message.
mod tracker;
mod session;
mod queue;
mod journal;
mod backup;
mod salvage;
mod writer;
mod retry;
mod projections;
pub mod store;

// Shared types and helpers.
mod options;
mod local;
pub mod changes;
#[doc(hidden)]
pub mod permissions;
mod receipt;
mod health;
#[doc(hidden)]
pub mod event_log;
mod metric_handles;
mod now;
mod error;

#[doc(inline)]
pub use talktrack_core::{
    books, clock, dimensions, error_code, ids, json, message, record, search, stats, stored,
};

pub use backup::back_up;
pub use changes::{Change, ChangeKind, Changes};
pub use error::{DatabaseError, OpenError};
pub use health::Health;
pub use local::database::FILE_NAME as DATABASE_FILE;
pub use local::tables::directory::read_noted_store;
pub use options::{Options, Redirect};
pub use receipt::{
    Claim, ClaimRefusal, Deletion, Durability, Receipt, RecordReceipt, Refusals, SessionReceipt, Started,
};
pub use salvage::{known_losses, quarantines};
pub use session::SessionRef;
pub use store::NotedStore;
#[doc(inline)]
pub use talktrack_core::clock::{Clock, Seq};
#[doc(hidden)]
pub use talktrack_core::counted::counted;
#[doc(inline)]
pub use talktrack_core::{
    Author, Books, DeletionCounts, Dimensions, Ended, ErrorCode, Invalid, InvalidUserId, JsonArray,
    JsonObject, Kind, Message, MessageId, MessageStatus, NotDurable, ReadError, ReadErrorKind, Reason,
    Refused, Role, SessionId, Status, Stored, StoredTime, Tags, Timestamp, TurnMetrics, UserId,
};
pub use tracker::{Closing, EditError, NewSession, SessionChanges, Tracker};

/// Compiles the example in the crate's README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
