//! What a database holds of the schema, asked in one question.

use serde::Deserialize;
use tokio_postgres::{Error, GenericClient};

const CATALOG: &str = include_str!("../../../../migrations/postgres/catalog.sql");

/// The answer.
#[derive(Debug, Deserialize)]
pub(super) struct Catalog {
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
    pub(super) privileges: Vec<PrivilegeFound>,
    /// The roles that may call our function.
    pub(super) callers: Vec<String>,
    /// The function that notes what is to be counted.
    pub(super) marker: Option<MarkerFound>,
    /// Triggers with names of ours.
    pub(super) triggers: Vec<TriggerFound>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TableFound {
    pub(super) name: String,
    pub(super) row_security: bool,
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
    pub(super) definition: String,
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
}

#[derive(Debug, Deserialize)]
pub(super) struct FunctionFound {
    pub(super) arguments: String,
    pub(super) names: Vec<String>,
    pub(super) body: String,
    /// It returns a uuid, runs with the caller's rights, with an empty search path, and its last three parameters may be
    /// left out.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct PrivilegeFound {
    pub(super) table: String,
    pub(super) role: String,
    pub(super) privilege: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct MarkerFound {
    pub(super) body: String,
    /// It is a trigger's, runs with its owner's rights and an empty search path.
    pub(super) sound: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct TriggerFound {
    pub(super) table: String,
    pub(super) name: String,
    /// It is switched on, and calls our function once for each statement.
    pub(super) sound: bool,
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

    pub(super) fn may(&self, role: &str, privilege: &str, table: &str) -> bool {
        let is_it = |found: &PrivilegeFound| {
            found.role == role && found.privilege == privilege && found.table == table
        };
        self.privileges.iter().any(is_it)
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
