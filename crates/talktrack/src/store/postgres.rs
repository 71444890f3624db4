//! PostgreSQL and Supabase as the store: fed by the writer, from any number of nodes at once.

mod connect;
mod tls;

pub use connect::{Address, ConnectError, InvalidAddress};
