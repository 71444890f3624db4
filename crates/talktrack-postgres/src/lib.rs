//! PostgreSQL and Supabase as the store. The writers of any number of nodes may deliver to one database at
//! the same time.
//!
//! [`write`] is the entry point for a batch: `plan` puts its records in order, `sessions` and `messages` turn
//! them into statements, and `transaction` sends these in one round trip. `duplicate_ids` compares messages
//! whose id already exists. `failure` describes errors, and `sqlstate` classifies them.

mod read;
mod search;
mod stats;
mod store;
mod write;
mod edits;
mod duplicate_ids;
mod deletions;
mod user_marks;
mod messages;
mod sessions;
mod plan;
mod hidden_rows;
mod stats_rollup;
mod search_indexer;
mod index_queue;
mod explain;
mod connections;
mod identity;
mod transaction;
mod deliveries;
mod merged_session;
mod moved_start;
mod closed_messages;
mod rows;
mod owners;
mod statement;
mod queries;
mod failure;
mod sqlstate;
pub mod schema;
mod connect;
mod parameters;
mod hosts;
mod security;
mod connection_string;
mod parameter_names;
mod tls;
mod prefer;
mod cleartext;

pub use connect::{Address, ConnectError, Connection};
pub use connection_string::InvalidAddress;
pub use store::PostgresStore;
