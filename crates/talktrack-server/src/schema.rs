//! A live PostgreSQL, held against the schema.

use std::error::Error;

use talktrack::store::postgres::Address;
use talktrack::store::postgres::schema::{self, Difference};
use tokio_postgres::Client;

use crate::error::Failure;

/// A connection to the database.
///
/// # Errors
/// Where there is none to be had. Names the database, and no password.
pub(crate) async fn connect(address: &Address) -> Result<Client, Failure> {
    let client = address.connect().await;
    client.map_err(|error| Failure::new(format_args!("{address}: {}", in_full(&error))))
}

/// What the database has otherwise than the schema.
///
/// # Errors
/// Where it cannot be asked.
pub(crate) async fn differences(client: &Client) -> Result<Vec<Difference>, Failure> {
    schema::differences(client).await.map_err(|error| Failure::new(in_full(&error)))
}

/// An error with what caused it.
pub(crate) fn in_full(error: &dyn Error) -> String {
    let (mut line, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        line.push_str(&format!(": {error}"));
        cause = error.source();
    }
    line
}
