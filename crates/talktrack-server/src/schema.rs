//! Compares a live PostgreSQL database with the schema.

use std::error::Error;

use talktrack::store::postgres::schema::{self, Difference};
use talktrack::store::postgres::{Address, Connection};

use crate::error::Failure;

/// Connects to the database.
///
/// # Errors
/// Fails if the database cannot be reached. The error names the database but not the password.
pub(crate) async fn connect_to_database(address: &Address) -> Result<Connection, Failure> {
    let connection = address.connect().await;
    connection.map_err(|error| Failure::new(format_args!("{address}: {}", in_full(&error))))
}

/// Returns how the database differs from the schema.
///
/// # Errors
/// Fails if the database cannot be queried.
pub(crate) async fn differences(connection: &Connection) -> Result<Vec<Difference>, Failure> {
    schema::differences(connection).await.map_err(|error| Failure::new(in_full(&error)))
}

/// Formats an error with its causes.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}
