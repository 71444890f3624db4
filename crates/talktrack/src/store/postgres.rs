//! PostgreSQL and Supabase as the store: fed by the writer, from any number of nodes at once.

mod connect;
pub mod schema;
mod tls;

pub use connect::{Address, ConnectError, InvalidAddress};
