//! The PostgreSQL schema: migrating a database to it (`talktrack migrate`), and reporting how a database
//! differs from it (`talktrack doctor`).
//!
//! The schema is described once, as data (`schema/tables.rs`). From it come the script that establishes it
//! from any starting point, and the comparison with an existing database. There are no numbered steps from
//! one version to the next: the databases that drift here were created and changed by their owners, and a
//! version number in a table would not know of those changes. So the migration looks at what exists, and
//! running it again changes nothing.
//!
//! In one transaction, the migration repairs every difference that it can repair without changing what
//! belongs to the user. The rest (a column of another type, for example) remains, and is reported with the
//! SQL that repairs it.

mod catalog;
mod checks;
mod compare;
mod repair;
mod script;
mod rights;
mod policies;
mod users;
mod tables;
mod triggers;
mod quoting;

use std::error::Error;

use catalog::Catalog;
use serde::Serialize;
use tables::{STORE, USER_ACCESS};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Row};

pub use users::UserAccess;

use crate::connect::Connection;

/// A difference between a database and the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The table, if the difference concerns one.
    pub table: Option<&'static str>,
    /// The column, if the difference concerns one.
    pub column: Option<String>,
    /// The problem, as a clause for people to read.
    pub problem: String,
    /// The SQL that repairs it.
    pub fix: String,
    /// True if everything works despite the difference, but less safely than it could.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// True if `migrate` does not repair it, because that would change what belongs to the user.
    #[serde(skip)]
    pub(super) is_left_to_owner: bool,
    /// True if the difference keeps every row from being written.
    #[serde(skip)]
    pub(super) stops_every_row: bool,
}

impl Difference {
    /// True if the difference concerns the tables themselves, not access rights or speed.
    pub(super) fn is_structural(&self) -> bool {
        self.column.is_some() || self.fix.contains("CREATE TABLE")
    }

    fn left_to_owner(self) -> Self {
        Self { is_left_to_owner: true, ..self }
    }

    fn into_warning(self) -> Self {
        Self { warning: true, ..self.left_to_owner() }
    }

    fn stops_every_row(self) -> Self {
        Self { stops_every_row: true, ..self }
    }

    fn of_database(problem: String, fix: String) -> Self {
        Self {
            table: None,
            column: None,
            problem,
            fix,
            warning: false,
            is_left_to_owner: false,
            stops_every_row: false,
        }
    }

    fn of_table(table: &'static str, problem: String, fix: String) -> Self {
        Self { table: Some(table), ..Self::of_database(problem, fix) }
    }

    fn of_column(table: &'static str, column: &str, problem: String, fix: String) -> Self {
        Self { column: Some(column.to_owned()), ..Self::of_table(table, problem, fix) }
    }
}

/// A column as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ColumnInfo {
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Its type.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// True if it may be null.
    pub nullable: bool,
    /// The expression of its default.
    pub default: Option<String>,
    /// A remark: that the column belongs to the user, or how it differs from the schema.
    pub remark: Option<String>,
}

/// How often a script or a query is tried if it ends in a deadlock.
const TRIES: u32 = 5;

/// A migration that failed. It changed nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The role lacks privileges.
    #[error(
        "{0}; run it as the owner of the tables, or hand the output of `talktrack migrate --print` to an administrator"
    )]
    Rights(String),
    /// Other transactions use the tables, or another migration is running.
    #[error("the tables are in use ({0}); try again when the database is less busy")]
    Busy(String),
    /// All other errors, with the database's own message.
    #[error("{0}")]
    Postgres(String),
}

impl MigrateError {
    fn from_driver(error: &tokio_postgres::Error) -> Self {
        let words = error_text(error);
        match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Rights(words),
            Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED) => Self::Busy(words),
            _ => Self::Postgres(words),
        }
    }
}

/// A failed query of the schema: the database refused it, or the connection broke. The error is the driver's.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct QueryError(Box<dyn Error + Send + Sync>);

impl QueryError {
    fn from_driver(error: tokio_postgres::Error) -> Self {
        Self(error.into())
    }
}

/// Returns the database's message in one line.
fn error_text(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}"));
        return format!("{error}{}", cause.unwrap_or_default());
    };
    let detail = said.detail().map(|detail| format!(" ({detail})"));
    format!("{}{}", said.message(), detail.unwrap_or_default())
}

/// Returns the migration as a script for an SQL editor: one transaction, and a query of the resulting
/// schema. Users keep the access that the database notes; after the first migration they may write.
pub fn script() -> String {
    script::full_script(None)
}

/// Returns the same script, but it gives users this access.
pub fn script_for(access: UserAccess) -> String {
    script::full_script(Some(access))
}

/// Migrates the database to the schema, in one transaction, and returns the remaining differences. Users
/// keep the access that the database notes; a first migration lets them write.
///
/// # Errors
/// If the migration failed, which changes nothing, or if the differences cannot be read after it.
pub async fn migrate(connection: &Connection) -> Result<Vec<Difference>, MigrateError> {
    run(connection.client(), &script::migration_script(None)).await
}

/// Migrates as [`migrate`] does, and gives users this access.
///
/// # Errors
/// If the migration failed, which changes nothing, or if the differences cannot be read after it.
pub async fn migrate_for(
    connection: &Connection,
    access: UserAccess,
) -> Result<Vec<Difference>, MigrateError> {
    run(connection.client(), &script::migration_script(Some(access))).await
}

async fn run(client: &Client, script: &str) -> Result<Vec<Difference>, MigrateError> {
    let mut tries = 1;
    while let Err(error) = client.batch_execute(script).await {
        // If the connection is lost, so is the transaction.
        let _ = client.batch_execute("ROLLBACK").await;
        if !is_deadlock(&error) || tries == TRIES {
            return Err(MigrateError::from_driver(&error));
        }
        tries += 1;
    }
    let mut left = compare_database(client, true).await.map_err(|error| MigrateError::from_driver(&error))?;
    left.retain(|difference| !difference.warning);
    Ok(left)
}

/// Returns all differences between the database and the schema. Also tests the user's own checks and
/// policies.
///
/// # Errors
/// If the database cannot answer.
pub async fn differences(connection: &Connection) -> Result<Vec<Difference>, QueryError> {
    compare_database(connection.client(), true).await.map_err(QueryError::from_driver)
}

/// Returns the differences that concern the writer. Policies for users do not apply to it, so they are not
/// tested.
pub(super) async fn differences_for_writer(
    client: &Client,
) -> Result<Vec<Difference>, tokio_postgres::Error> {
    compare_database(client, false).await
}

async fn compare_database(
    client: &Client,
    with_policies: bool,
) -> Result<Vec<Difference>, tokio_postgres::Error> {
    let mut tries = 1;
    loop {
        match Catalog::read(client).await {
            Err(error) if is_deadlock(&error) && tries < TRIES => tries += 1,
            read => {
                let mut catalog = read?;
                checks::try_checks(client, &mut catalog).await?;
                if with_policies {
                    checks::try_policies(client, &mut catalog).await?;
                }
                let noted = StoreRow::read(client, &catalog).await?;
                let mut found = compare::compare_catalog(&catalog, noted.access());
                if matches!(noted, StoreRow::Missing) {
                    let problem = format!("The table '{STORE}' shows no row, which names this store");
                    found.push(
                        Difference::of_table(STORE, problem, repair::insert_store_id()).stops_every_row(),
                    );
                }
                return Ok(found);
            }
        }
    }
}

/// The one row that is part of the schema.
enum StoreRow {
    /// The table does not exist.
    NoTable,
    /// This role may not read the table. It gets an error when it writes.
    Unreadable,
    Missing,
    Found(Option<UserAccess>),
}

impl StoreRow {
    async fn read(client: &Client, catalog: &Catalog) -> Result<Self, tokio_postgres::Error> {
        if catalog.table(STORE).is_none() {
            return Ok(Self::NoTable);
        }
        let may_look = format!("SELECT has_table_privilege('public.{STORE}', 'SELECT')");
        if !client.query_typed_one(&may_look, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(Self::Unreadable);
        }
        // A database with an earlier schema notes no access: users get the access of a first migration.
        let noted = match catalog.column(STORE, USER_ACCESS) {
            Some(_) => format!("{USER_ACCESS}::text"),
            None => format!("'{}'", UserAccess::default()),
        };
        let rows = client.query_typed(&format!("SELECT {noted} FROM public.{STORE}"), &[]).await?;
        let Some(row) = rows.first() else { return Ok(Self::Missing) };
        let noted: Option<&str> = row.try_get(0)?;
        Ok(Self::Found(noted.and_then(|noted| noted.parse().ok())))
    }

    /// Returns the access of users, if it is known.
    fn access(&self) -> Option<UserAccess> {
        match self {
            Self::Found(access) => *access,
            Self::Unreadable => None,
            Self::NoTable | Self::Missing => Some(UserAccess::default()),
        }
    }
}

/// True for a deadlock: another transaction used the same tables in a different order, and this one was
/// chosen to fail. It may be retried.
fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// Returns the columns of all tables of the schema as they are, each compared with what it should be.
///
/// # Errors
/// If the database cannot answer.
pub async fn describe(connection: &Connection) -> Result<Vec<ColumnInfo>, QueryError> {
    read_columns(connection.client()).await.map_err(QueryError::from_driver)
}

async fn read_columns(client: &Client) -> Result<Vec<ColumnInfo>, tokio_postgres::Error> {
    let rows = client.query_typed(&script::describe_query(), &[]).await?;
    let column = |row: &Row| {
        Ok(ColumnInfo {
            table: row.try_get("table")?,
            column: row.try_get("column")?,
            sql_type: row.try_get("type")?,
            nullable: row.try_get("nullable")?,
            default: row.try_get("default")?,
            remark: row.try_get("remark")?,
        })
    };
    rows.iter().map(column).collect()
}
