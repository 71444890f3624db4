//! talktrack records every conversation that a voice or chat agent has. It loses no acknowledged message and never
//! makes the agent wait.
//!
//! # The path of a message
//!
//! The modules below are listed in the order in which a message passes through them. Each stage calls the next and
//! never looks back: a module imports only modules listed after it (a test enforces this).
//!
//! 1. [`tracker`] checks the message ([`Tracker::track_message`]) and stamps it with its id and its session's user.
//! 2. `session` is the registry of active sessions. The tracker looks up the session's user there in O(1).
//! 3. `queue` is a bounded queue in memory. From here on the message is **accepted**, and the caller can continue. A
//!    full queue refuses the message at once and returns it to the caller.
//! 4. `journal` runs one thread that takes everything in the queue, writes it in one SQLite transaction and commits
//!    (group commit). The message is now **durable**, and its [`Receipt`] resolves.
//! 5. `writer` delivers the message if a remote store is configured. The journal is then its outbox.
//! 6. `retry` spaces the attempts with backoff. Their number is not limited.
//! 7. [`store`] commits the row. The message is now **stored**. With the SQLite store, steps 5 to 7 do not exist: the
//!    journal's own transaction writes the row.
//!
//! In the background, `behind` maintains the full-text search index and the statistics. No caller waits for it.
//!
//! The modules after `store` hold the types and helpers that these stages share.
//!
//! # Example
//!
//! ```
//! use talktrack::{Message, NewSession, Options, Role, Tracker};
//! use uuid::Uuid;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let data_dir = dir.path();
//! let tracker = Tracker::open(Options::new(data_dir))?;
//! let (session, user) = (Uuid::from_u128(1), Uuid::from_u128(2));
//! tracker.start_session(NewSession::new(session, user))?.durable().await?;
//!
//! let receipt = tracker.track_message(Message::new(session, Role::User, "Hello"))?; // never waits
//! receipt.await?; // optional: now it is on the disk
//!
//! let ended = tracker.end_session(session, "completed")?.durable().await?;
//! assert_eq!(ended.message_count, 1);
//! # Ok(()) }
//! ```

#[cfg(feature = "testing")]
pub mod testing;

// The path of a message.
pub mod tracker;
mod session;
mod queue;
mod journal;
mod salvage;
mod writer;
mod retry;
mod behind;
pub mod store;

// Shared types and helpers.
pub mod options;
pub mod changes;
mod lock;
mod watched_files;
mod noted_store;
mod database;
pub mod permissions;
pub mod event_log;
mod receipt;
mod health;
mod books;
pub mod search;
pub mod stats;
pub mod record;
pub mod message;
pub mod stored;
pub mod json;
pub mod error;
pub mod clock;

pub use books::Books;
pub use changes::{Change, ChangeKind, Changes};
pub use clock::Timestamp;
pub use database::FILE_NAME as DATABASE_FILE;
pub use error::{NotDurable, OpenError, ReadError, Reason, Refused};
pub use health::Health;
pub use json::{JsonArray, JsonObject};
pub use message::{Author, Kind, Message, Role, TurnMetrics};
pub use noted_store::NotedStore;
pub use options::{Options, Redirect};
pub use receipt::{Claim, ClaimRefusal, Deletion, Durability, Receipt, SessionReceipt, Started};
pub use record::{DeletionCounts, Ended, Status};
pub use salvage::quarantines;
pub use session::SessionRef;
pub use stored::{Stored, StoredTime};
pub use tracker::{Closing, NewSession, Tracker};
