//! Shared by `migrate` and `doctor`: the connection, and the output of differences.

use talktrack::store::postgres::Connection;
use talktrack::store::postgres::schema::Difference;

use crate::config::{DataLocation, Database};
use crate::error::Failure;
use crate::output::{Output, Stop};
use crate::schema;
use crate::terminal;

/// Printed if the store is a SQLite file.
pub(super) const NOTHING_TO_DO: &str = "the store is a SQLite file, whose schema talktrack updates itself; name a PostgreSQL database with --database-url";

/// Connects to the database; `None` if the store is a file.
pub(super) async fn connect_to_postgres(location: &DataLocation) -> Result<Option<Connection>, Failure> {
    match location.load()?.database {
        Database::File(_) => Ok(None),
        Database::Postgres(address) => schema::connect_to_database(&address).await.map(Some),
    }
}

/// Writes the differences as SQL statements that correct them, each below a comment that explains it.
pub(super) fn print_differences(output: &mut Output, differences: &[Difference]) -> Result<(), Stop> {
    differences.iter().try_for_each(|difference| {
        let kind = if difference.warning { "Warning: " } else { "" };
        output.write_line(&format!("-- {kind}{}", terminal::escape_line(&difference.problem)))?;
        output.write_line(&format!("{}\n", terminal::escape_text(&difference.fix)))
    })
}
