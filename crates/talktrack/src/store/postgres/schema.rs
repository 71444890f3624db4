//! The schema in PostgreSQL: bringing a database to it (`talktrack migrate`), and saying what is different about one
//! (`talktrack doctor`).
//!
//! The schema is described once, as data (`schema/tables.rs`). From it come the script that makes it so, whatever was there
//! before, and the comparison with what is there. There are no numbered steps from one version to the next: what drifts
//! apart here are databases that people have made and changed by themselves, and a number in a table would not know of
//! that. So the migration looks at what there is, and running it again changes nothing.
//!
//! Everything it knows how to mend without touching what is the user's own it mends, in one transaction. The rest
//! (a column of another type, say) is left over, and named with the SQL that would mend it.

mod catalog;
mod checks;
mod compare;
mod mend;
mod script;
mod rights;
mod policies;
mod users;
mod tables;
mod triggers;
mod spelling;

use serde::Serialize;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient, Row};

use catalog::Catalog;
use tables::{STORE, USER_ACCESS};

pub use users::UserAccess;

/// Something that a database has otherwise than the schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The table, where it is about one.
    pub table: Option<&'static str>,
    /// The column, where it is about one.
    pub column: Option<String>,
    /// What is different, as a clause for people.
    pub problem: String,
    /// The SQL that mends it.
    pub mend: String,
    /// Everything works all the same, with less safety than it could have.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// Migrating does not: it would change what is the user's own.
    #[serde(skip)]
    pub(super) is_yours_to_mend: bool,
    /// As long as it is so, no row can be written.
    #[serde(skip)]
    pub(super) stops_every_row: bool,
}

impl Difference {
    /// Whether it is about the tables themselves, not about who may use them or how fast.
    pub(super) fn is_structural(&self) -> bool {
        self.column.is_some() || self.mend.contains("CREATE TABLE")
    }

    fn yours_to_mend(self) -> Self {
        Self { is_yours_to_mend: true, ..self }
    }

    fn warning(self) -> Self {
        Self { warning: true, ..self.yours_to_mend() }
    }

    fn stops_every_row(self) -> Self {
        Self { stops_every_row: true, ..self }
    }

    fn of_database(problem: String, mend: String) -> Self {
        Self {
            table: None,
            column: None,
            problem,
            mend,
            warning: false,
            is_yours_to_mend: false,
            stops_every_row: false,
        }
    }

    fn of_table(table: &'static str, problem: String, mend: String) -> Self {
        Self { table: Some(table), ..Self::of_database(problem, mend) }
    }

    fn of_column(table: &'static str, column: &str, problem: String, mend: String) -> Self {
        Self { column: Some(column.to_owned()), ..Self::of_table(table, problem, mend) }
    }
}

/// A column as it is in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnInfo {
    /// Its table.
    pub table: String,
    /// Its name.
    pub column: String,
    /// Its type.
    #[serde(rename = "type")]
    pub sql_type: String,
    /// It may be null.
    pub nullable: bool,
    /// The expression of its default.
    pub default: Option<String>,
    /// What is to be said of it: that it is the user's own, or how it differs from the schema.
    pub remark: Option<String>,
}

/// How often what ended in a deadlock is begun.
const TRIES: u32 = 5;

/// Why a migration came to nothing. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The role that asks lacks the rights.
    #[error(
        "{0}; run it as the owner of the tables, or hand the output of `talktrack migrate --print` to an administrator"
    )]
    Rights(String),
    /// Somebody else uses the tables, or migrates them.
    #[error("the tables were in use all the while ({0}); try again in a quieter moment")]
    Busy(String),
    /// Everything else, in the database's words.
    #[error("{0}")]
    Postgres(String),
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        let words = words(&error);
        match error.code() {
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::Rights(words),
            Some(&SqlState::LOCK_NOT_AVAILABLE | &SqlState::T_R_DEADLOCK_DETECTED) => Self::Busy(words),
            _ => Self::Postgres(words),
        }
    }
}

/// What the database said, in one line.
fn words(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        return format!("{error}{}", cause.unwrap_or_default());
    };
    let detail = said.detail().map(|detail| format!(" ({detail})"));
    format!("{}{}", said.message(), detail.unwrap_or_default())
}

/// The migration as a script for an SQL editor: one transaction, and a query of the final schema. Users keep the access that the
/// database notes; the first time they may write.
pub fn script() -> String {
    script::whole(None)
}

/// The same, which gives users this access.
pub fn script_for(access: UserAccess) -> String {
    script::whole(Some(access))
}

/// Brings the database to the schema, in one transaction, and says what is left over. Users keep the access that the database
/// notes; the first time they may write.
///
/// # Errors
/// Where nothing could be done.
pub async fn migrate(client: &Client) -> Result<Vec<Difference>, MigrateError> {
    run(client, &script::migration(None)).await
}

/// The same, and gives users this access.
///
/// # Errors
/// Where nothing could be done.
pub async fn migrate_for(client: &Client, access: UserAccess) -> Result<Vec<Difference>, MigrateError> {
    run(client, &script::migration(Some(access))).await
}

async fn run(client: &Client, script: &str) -> Result<Vec<Difference>, MigrateError> {
    let mut tries = 1;
    while let Err(error) = client.batch_execute(script).await {
        // Where the connection is gone, so is the transaction.
        let _ = client.batch_execute("ROLLBACK").await;
        if !is_deadlock(&error) || tries == TRIES {
            return Err(error.into());
        }
        tries += 1;
    }
    let mut left = differences(client).await?;
    left.retain(|difference| !difference.warning);
    Ok(left)
}

/// Everything that the database has otherwise than the schema. Tries checks and policies of the user's own.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn differences(client: &impl GenericClient) -> Result<Vec<Difference>, tokio_postgres::Error> {
    compare(client, true).await
}

/// The same for the writer, whom policies for users do not concern: these are not tried.
pub(super) async fn differences_for_writer(
    client: &impl GenericClient,
) -> Result<Vec<Difference>, tokio_postgres::Error> {
    compare(client, false).await
}

async fn compare(
    client: &impl GenericClient,
    with_policies: bool,
) -> Result<Vec<Difference>, tokio_postgres::Error> {
    let mut tries = 1;
    loop {
        match Catalog::read(client).await {
            Err(error) if is_deadlock(&error) && tries < TRIES => tries += 1,
            read => {
                let mut catalog = read?;
                checks::try_words(client, &mut catalog).await?;
                if with_policies {
                    checks::try_policies(client, &mut catalog).await?;
                }
                let noted = StoreRow::read(client, &catalog).await?;
                let mut found = compare::compare(&catalog, noted.access());
                if matches!(noted, StoreRow::Missing) {
                    let problem = format!("The table '{STORE}' shows no row, which names this store");
                    found.push(Difference::of_table(STORE, problem, mend::give_id()).stops_every_row());
                }
                return Ok(found);
            }
        }
    }
}

/// The one row that is part of the schema.
enum StoreRow {
    /// There is no such table.
    NoTable,
    /// This role may not read it: it is told so when it writes.
    Unreadable,
    Missing,
    Found(Option<UserAccess>),
}

impl StoreRow {
    async fn read(client: &impl GenericClient, catalog: &Catalog) -> Result<Self, tokio_postgres::Error> {
        if catalog.table(STORE).is_none() {
            return Ok(Self::NoTable);
        }
        let may_look = format!("SELECT has_table_privilege('public.{STORE}', 'SELECT')");
        if !client.query_typed_one(&may_look, &[]).await?.try_get::<_, bool>(0)? {
            return Ok(Self::Unreadable);
        }
        // A database of an earlier schema notes nothing: users are to have what a first migration gives them.
        let noted = match catalog.column(STORE, USER_ACCESS) {
            Some(_) => format!("{USER_ACCESS}::text"),
            None => format!("'{}'", UserAccess::default()),
        };
        let rows = client.query_typed(&format!("SELECT {noted} FROM public.{STORE}"), &[]).await?;
        let Some(row) = rows.first() else { return Ok(Self::Missing) };
        let noted: Option<&str> = row.try_get(0)?;
        Ok(Self::Found(noted.and_then(|noted| noted.parse().ok())))
    }

    /// What users may do, as far as that is known.
    fn access(&self) -> Option<UserAccess> {
        match self {
            Self::Found(access) => *access,
            Self::Unreadable => None,
            Self::NoTable | Self::Missing => Some(UserAccess::default()),
        }
    }
}

/// Somebody else uses the same tables in another order. One of the two had to give way, and may begin again.
fn is_deadlock(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::T_R_DEADLOCK_DETECTED)
}

/// The columns of both tables as they are, each held against the schema.
///
/// # Errors
/// Where the database cannot be asked.
pub async fn describe(client: &impl GenericClient) -> Result<Vec<ColumnInfo>, tokio_postgres::Error> {
    let rows = client.query_typed(&script::description(), &[]).await?;
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
