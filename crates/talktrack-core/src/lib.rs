//! The types that every part of talktrack shares: messages and sessions, the records that are written to a store, the
//! rows that are read from it, and the traits [`Store`](store::Store) and [`Read`](store::Read).
//!
//! Programs that record conversations use the crate `talktrack`, which exports all of this. Use this crate alone to
//! write a store of your own: it builds neither SQLite nor a PostgreSQL client. A store implements
//! [`Store`](store::Store) and passes the conformance suite of the crate `talktrack-testkit`.
//!
//! # What may grow
//!
//! Programs fill in messages and filters with `new` and methods that begin with `with_`; these types are
//! `#[non_exhaustive]`, as are the errors and the words that may get more values. What a store writes and returns is not:
//! rows, records, [`Books`], [`Verdict`] and [`ErrorClass`]. A store must handle each column and each record, so the
//! compiler names what a store lacks when there is more.
//!
//! Items that this documentation does not show are for talktrack's own crates, and may change in every version.
//!
//! [`Verdict`]: record::Verdict
//! [`ErrorClass`]: store::ErrorClass
//!
//! The modules are listed in reading order. Each imports only modules that are listed after it.

pub mod store;
pub mod books;
pub mod search;
pub mod stats;
pub mod record;
pub mod dimensions;
pub mod message;
pub mod ids;
mod words;
pub mod stored;
pub mod json;
pub mod error;
pub mod error_code;
pub mod clock;
#[doc(hidden)]
pub mod counted;

pub use books::Books;
pub use clock::Timestamp;
pub use dimensions::{Dimensions, Tags};
pub use error::{Invalid, NotDurable, ReadError, ReadErrorKind, Reason, Refused};
pub use error_code::ErrorCode;
pub use ids::{InvalidUserId, MessageId, SessionId, UserId};
pub use json::{JsonArray, JsonObject};
pub use message::{Author, Kind, Message, MessageStatus, Role, TurnMetrics};
pub use record::{DeletionCounts, Ended, Status};
pub use stored::{Stored, StoredTime};
