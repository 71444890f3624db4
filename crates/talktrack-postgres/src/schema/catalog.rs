//! The catalog: what a database has of the schema, read in one query.

use serde::Deserialize;
use tokio_postgres::{Client, Error};

const CATALOG: &str = include_str!("../../migrations/catalog.sql");

/// The result of the query.
#[derive(Debug, Deserialize)]
pub(super) struct Catalog {
    /// The name of the database.
    pub(super) database: String,
    /// The name of its encoding.
    pub(super) encoding: String,
    /// Settings of the server that are off and should be on.
    pub(super) switched_off: Vec<String>,
    /// Defaults of roles or of the database that set `synchronous_commit` to off.
    pub(super) asynchronous: Vec<DefaultFound>,
    pub(super) tables: Vec<TableFound>,
    pub(super) columns: Vec<ColumnFound>,
    /// Columns with a unique constraint of their own.
    pub(super) keys: Vec<ColumnName>,
    /// Foreign keys from a message's `session_id` to its session.
    pub(super) references: Vec<ReferenceFound>,
    /// Check constraints on a single column.
    pub(super) checks: Vec<CheckFound>,
    pub(super) indexes: Vec<String>,
    pub(super) policies: Vec<PolicyFound>,
    /// Functions with the name of talktrack's function.
    pub(super) functions: Vec<FunctionFound>,
    /// Those of [`DATABASE_ROLES`](super::tables::DATABASE_ROLES) that exist.
    pub(super) roles: Vec<String>,
    /// True if `auth.uid()` exists.
    pub(super) has_uid: bool,
    /// True if `auth.jwt()` exists.
    pub(super) has_jwt: bool,
    pub(super) privileges: Vec<PrivilegeFound>,
    /// The roles that may call talktrack's function.
    pub(super) callers: Vec<String>,
    /// Functions with the names of talktrack's trigger functions.
    pub(super) trigger_functions: Vec<TriggerFunctionFound>,
    /// Triggers with the names of talktrack's triggers.
    pub(super) triggers: Vec<TriggerFound>,
    /// Views over talktrack's tables that users may use and that do not use the privileges of the invoker.
    pub(super) views: Vec<ViewFound>,
    /// True if the marks of users have the key that tells all users apart.
    pub(super) has_marks_key: bool,
    /// True if this server supports views that use the privileges of the invoker.
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
    /// True if the column has a default, an identity or a generating expression.
    pub(super) has_default: bool,
    /// Set if no statement can write the column.
    pub(super) generated: Option<Generated>,
}

/// How the database fills a generated column.
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
    /// `None` for all roles.
    pub(super) role: Option<String>,
    /// True if the default applies to this database only.
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
    /// The column of the sessions table.
    pub(super) column: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct CheckFound {
    pub(super) table: String,
    pub(super) column: String,
    pub(super) name: String,
    /// The condition.
    pub(super) expression: String,
    pub(super) validated: bool,
    /// The words that talktrack writes and this check refuses, [tested](super::checks).
    #[serde(skip)]
    pub(super) refused: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PolicyFound {
    pub(super) table: String,
    pub(super) name: String,
    /// `*` for all commands.
    pub(super) command: String,
    pub(super) permissive: bool,
    /// `None` for all roles.
    pub(super) roles: Option<Vec<String>>,
    pub(super) using: Option<String>,
    pub(super) check: Option<String>,
    /// True if the policy opens rows of one user to another, [tested](super::checks) if it is the user's
    /// own.
    #[serde(skip)]
    pub(super) opens: bool,
}

impl PolicyFound {
    /// True if the policy is permissive and applies to users. Permissive policies are combined with OR, so
    /// a policy of the user's own may open what talktrack's policies keep apart. A policy without roles
    /// applies to all.
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
    /// True if the function returns a uuid, runs with its owner's rights and an empty search path, and its
    /// last three parameters are optional.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct PrivilegeFound {
    pub(super) table: String,
    pub(super) role: String,
    pub(super) privilege: String,
    /// True for a privilege on the whole table.
    pub(super) whole: bool,
    /// The columns with the privilege; empty if it is on the whole table.
    pub(super) columns: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TriggerFunctionFound {
    pub(super) name: String,
    pub(super) body: String,
    /// The settings that apply while it runs.
    pub(super) settings: Vec<String>,
    /// True if it is a trigger function that runs with its owner's rights.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct TriggerFound {
    pub(super) table: String,
    pub(super) name: String,
    /// The talktrack function that it calls, if any.
    pub(super) function: Option<String>,
    /// True if it is enabled and runs once for each statement.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct ViewFound {
    pub(super) schema: String,
    pub(super) name: String,
    /// True for a materialized view, which stores rows of its own.
    pub(super) materialized: bool,
    /// The roles that may use it.
    pub(super) roles: Vec<String>,
    /// Those of talktrack's tables that it reads, directly or through another view.
    pub(super) tables: Vec<String>,
}

impl Catalog {
    /// Reads the catalog of the database.
    pub(super) async fn read(client: &Client) -> Result<Self, Error> {
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

    /// Returns a role's privilege on a table, on the whole of it or on some columns.
    pub(super) fn privilege(&self, role: &str, privilege: &str, table: &str) -> Option<&PrivilegeFound> {
        let is_it = |found: &&PrivilegeFound| {
            found.role == role && found.privilege == privilege && found.table == table
        };
        self.privileges.iter().find(is_it)
    }
}

/// A value that the database returns as the text of JSON.
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
