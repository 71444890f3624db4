//! Stores: the databases that conversations are written to and read from.

pub(crate) mod absent;
pub mod sqlite;

pub use talktrack_core::store::*;
#[cfg(feature = "postgres")]
pub use talktrack_postgres as postgres;
