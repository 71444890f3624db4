//! talktrack writes down every conversation that a voice or chat agent has, and loses none of it, without ever making the
//! agent wait.
//!
//! # The path of a message
//!
//! The modules below are listed in the order in which a message meets them. Each calls the next and never looks back: a
//! module imports only modules listed after it (a test holds the code to that).
//!
//! 1. [`tracker`]: the door. [`Tracker::track_message`] checks the message, stamps it with its id and its session's user,
//! 2. `session`: which the registry of sessions under way knows in O(1),
//! 3. `queue`: and puts it in a bounded queue. Now it is **accepted**, and the caller goes on. A full queue refuses at once and
//!    hands the message back.
//! 4. `journal`: one thread takes everything that waits, writes it in one SQLite transaction and commits. Now it is
//!    **durable**: the [`Receipt`] resolves.
//! 5. `writer`: where a remote store is configured, the journal was its outbox, and lanes bring the message on,
//! 6. `retry`: as often as it takes,
//! 7. [`store`]: until the row is committed in the store. Now it is **stored**. With the SQLite store there is no way to go:
//!    its row was written by the journal's own transaction.
//!
//! Behind it, where nobody waits, `behind` keeps the index by which messages are found by their words.
//!
//! Then come the words in which the path is written.
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

// The path.
pub mod tracker;
mod session;
mod queue;
mod journal;
mod salvage;
mod writer;
mod retry;
mod behind;
pub mod store;

// The words it is written in.
pub mod options;
pub mod changes;
mod lock;
mod ground;
mod noted_store;
mod database;
pub mod permissions;
pub mod lines;
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
pub use record::{Ended, Removed, Status};
pub use salvage::quarantines;
pub use session::SessionRef;
pub use stored::{Stored, StoredTime};
pub use tracker::{Closing, NewSession, Tracker};
