//! What a database holds of the schema, asked in one question.

use serde::Deserialize;
use tokio_postgres::{Error, GenericClient};

const CATALOG: &str = include_str!("../../../../migrations/postgres/catalog.sql");

/// The answer.
#[derive(Debug, Deserialize)]
pub(super) struct Catalog {
    /// The name of the database.
    pub(super) database: String,
    /// The name of its encoding.
    pub(super) encoding: String,
    /// Settings of the server that are off and should not be.
    pub(super) switched_off: Vec<String>,
    /// Defaults of roles or of the database that switch `synchronous_commit` off.
    pub(super) asynchronous: Vec<DefaultFound>,
    pub(super) tables: Vec<TableFound>,
    pub(super) columns: Vec<ColumnFound>,
    /// Columns that are unique by themselves.
    pub(super) keys: Vec<ColumnName>,
    /// Foreign keys from a message's `session_id` to its session.
    pub(super) references: Vec<ReferenceFound>,
    /// Checks of one column.
    pub(super) checks: Vec<CheckFound>,
    pub(super) indexes: Vec<String>,
    pub(super) policies: Vec<PolicyFound>,
    /// Functions with the name of ours.
    pub(super) functions: Vec<FunctionFound>,
    /// Those of [`DATABASE_ROLES`](super::tables::DATABASE_ROLES) that are there.
    pub(super) roles: Vec<String>,
    /// `auth.uid()` is there.
    pub(super) has_uid: bool,
    /// `auth.jwt()` is there.
    pub(super) has_jwt: bool,
    pub(super) privileges: Vec<PrivilegeFound>,
    /// The roles that may call our function.
    pub(super) callers: Vec<String>,
    /// Functions with the names of those that our triggers call.
    pub(super) trigger_functions: Vec<TriggerFunctionFound>,
    /// Triggers with names of ours.
    pub(super) triggers: Vec<TriggerFound>,
    /// Views over our tables that users may use and that do not ask for the users' own rights.
    pub(super) views: Vec<ViewFound>,
    /// A view of this server can ask for the rights of whoever uses it.
    pub(super) has_security_invoker: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct TableFound {
    pub(super) name: String,
    pub(super) row_security: bool,
    pub(super) unlogged: bool,
    pub(super) has_primary_key: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ColumnFound {
    pub(super) table: String,
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) sql_type: String,
    pub(super) not_null: bool,
    /// A default, an identity or an expression that generates it.
    pub(super) has_default: bool,
    /// Nothing can be written into it.
    pub(super) generated: Option<Generated>,
}

/// By what a column is filled, whatever a statement says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Generated {
    /// `GENERATED ALWAYS AS (…)`.
    Expression,
    /// `GENERATED ALWAYS AS IDENTITY`.
    Identity,
}

#[derive(Debug, Deserialize)]
pub(super) struct DefaultFound {
    /// None for all roles.
    pub(super) role: Option<String>,
    /// In this database alone.
    pub(super) in_database: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ColumnName {
    pub(super) table: String,
    pub(super) column: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReferenceFound {
    pub(super) name: String,
    /// The session's column.
    pub(super) column: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CheckFound {
    pub(super) table: String,
    pub(super) column: String,
    pub(super) name: String,
    /// What it asks.
    pub(super) expression: String,
    pub(super) validated: bool,
    /// The words that it refuses of those that are written there, [tried](super::checks).
    #[serde(skip)]
    pub(super) refused: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PolicyFound {
    pub(super) table: String,
    pub(super) name: String,
    /// `*` for all.
    pub(super) command: String,
    pub(super) permissive: bool,
    /// None for everybody.
    pub(super) roles: Option<Vec<String>>,
    pub(super) using: Option<String>,
    pub(super) check: Option<String>,
    /// It opens rows of one user to another, [tried](super::checks) if it is the user's own.
    #[serde(skip)]
    pub(super) opens: bool,
}

impl PolicyFound {
    /// Permissive policies add up: what ours keep apart, one of the user's own may open. No role named means everybody.
    pub(super) fn is_permissive_for_users(&self) -> bool {
        let is_user = |role: &String| role == "authenticated" || role == "anon";
        self.permissive && self.roles.as_ref().is_none_or(|roles| roles.iter().any(is_user))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionFound {
    pub(super) arguments: String,
    pub(super) names: Vec<String>,
    pub(super) body: String,
    /// It returns a uuid, runs with its owner's rights, with an empty search path, and its last three parameters may be
    /// left out.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct PrivilegeFound {
    pub(super) table: String,
    pub(super) role: String,
    pub(super) privilege: String,
    /// Of the whole table.
    pub(super) whole: bool,
    /// Of these columns; empty for the whole table.
    pub(super) columns: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TriggerFunctionFound {
    pub(super) name: String,
    pub(super) body: String,
    /// What is set while it runs.
    pub(super) settings: Vec<String>,
    /// It is a trigger's, and runs with its owner's rights.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct TriggerFound {
    pub(super) table: String,
    pub(super) name: String,
    /// The one of our functions that it calls.
    pub(super) function: Option<String>,
    /// It is switched on, and runs once for each statement.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ViewFound {
    pub(super) schema: String,
    pub(super) name: String,
    /// It holds rows of its own.
    pub(super) materialized: bool,
    /// Who may use it.
    pub(super) roles: Vec<String>,
    /// Those of our tables that it reads, itself or by another view.
    pub(super) tables: Vec<String>,
}

impl Catalog {
    /// Asks the database.
    pub(super) async fn read(client: &impl GenericClient) -> Result<Self, Error> {
        let row = client.query_typed_one(CATALOG, &[]).await?;
        let Json(catalog) = row.try_get(0)?;
        Ok(catalog)
    }

    pub(super) fn table(&self, name: &str) -> Option<&TableFound> {
        self.tables.iter().find(|table| table.name == name)
    }

    pub(super) fn columns_of(&self, table: &str) -> impl Iterator<Item = &ColumnFound> {
        self.columns.iter().filter(move |column| column.table == table)
    }

    pub(super) fn column(&self, table: &str, name: &str) -> Option<&ColumnFound> {
        self.columns_of(table).find(|column| column.name == name)
    }

    pub(super) fn is_key(&self, table: &str, column: &str) -> bool {
        self.keys.iter().any(|key| key.table == table && key.column == column)
    }

    /// What a role holds of a privilege on a table, whether on the whole or on some columns.
    pub(super) fn privilege(&self, role: &str, privilege: &str, table: &str) -> Option<&PrivilegeFound> {
        let is_it = |found: &&PrivilegeFound| {
            found.role == role && found.privilege == privilege && found.table == table
        };
        self.privileges.iter().find(is_it)
    }
}

/// A value that comes as the text of JSON.
struct Json<T>(T);

impl<'a, T: Deserialize<'a>> tokio_postgres::types::FromSql<'a> for Json<T> {
    fn from_sql(
        sql_type: &tokio_postgres::types::Type,
        raw: &'a [u8],
    ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let text = <&str as tokio_postgres::types::FromSql>::from_sql(sql_type, raw)?;
        Ok(Self(serde_json::from_str(text)?))
    }

    fn accepts(sql_type: &tokio_postgres::types::Type) -> bool {
        <&str as tokio_postgres::types::FromSql>::accepts(sql_type)
    }
}
