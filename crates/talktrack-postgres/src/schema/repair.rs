//! The statements that create and repair parts of the schema. The migration script and the doctor both use
//! them.

use super::catalog::{CheckFound, Generated};
use super::policies::{POLICIES, Policy};
use super::quoting::quote_identifier;
use super::rights;
use super::tables::{Column, INDEXES, Index, MESSAGES, SESSIONS, STORE, Table};
use super::users::UserAccess;

/// Creates the table, with each column and its meaning on a line of its own.
pub(super) fn create_table(table: &Table) -> String {
    let last = table.columns.len() - 1;
    let line = |(place, column): (usize, &Column)| {
        let comma = if place == last { "" } else { "," };
        let definition = define_column(column);
        let constraint = if column.constraint.is_empty() { "" } else { " " };
        let note = if column.note.is_empty() { String::new() } else { format!("  -- {}", column.note) };
        format!("  {} {definition}{constraint}{}{comma}{note}\n", column.name, column.constraint)
    };
    let lines: String = table.columns.iter().enumerate().map(line).collect();
    format!("CREATE TABLE IF NOT EXISTS public.{} (\n{lines});", table.name)
}

/// Creates a missing table, with its indexes, policies and grants.
pub(super) fn make_table(table: &Table, access: UserAccess) -> String {
    let indexes = INDEXES.iter().filter(|index| index.table == table.name).map(create_index);
    let is_its = |policy: &&Policy| policy.table == table.name && policy.access <= access;
    let policies = POLICIES.iter().filter(is_its).map(rights::create_policy);
    let grants = rights::grant_table(table.name, access, &[]);
    let security = [rights::enable_row_security(table.name)].into_iter().chain(policies).chain([grants]);
    let id = (table.name == STORE).then(insert_store_id);
    let all = [create_table(table)].into_iter().chain(id).chain(indexes).chain(security);
    all.collect::<Vec<_>>().join("\n")
}

/// Gives the store its id, unless it has one.
pub(super) fn insert_store_id() -> String {
    format!("INSERT INTO public.{STORE} DEFAULT VALUES ON CONFLICT DO NOTHING;")
}

fn define_column(column: &Column) -> String {
    let required = if column.nullable || column.constraint == "PRIMARY KEY" { "" } else { " NOT NULL" };
    let default = column.default.map(|value| format!(" DEFAULT {value}")).unwrap_or_default();
    format!("{}{required}{default}", column.sql_type)
}

/// Returns what follows `ADD COLUMN`. If the default does not give existing rows their value, the column is
/// added as nullable.
pub(super) fn added_column(column: &Column) -> String {
    let name = column.name;
    let sql_type = column.sql_type;
    match column.default {
        Some(value) if column.nullable => format!("{name} {sql_type} DEFAULT {value}"),
        Some(value) if !column.is_filled_by_row() => format!("{name} {sql_type} NOT NULL DEFAULT {value}"),
        _ => format!("{name} {sql_type}"),
    }
}

/// Adds a missing column, and fills it.
pub(super) fn add_column(table: &str, column: &Column) -> String {
    let mut fix = format!("ALTER TABLE public.{table} ADD COLUMN {};", added_column(column));
    if !column.nullable && (column.is_filled_by_row() || column.default.is_none()) {
        if let Some(value) = column.default {
            fix.push_str(&format!("\n{}", set_default(table, column.name, value)));
        }
        fix.push_str(&format!("\n{}", require_value(table, column)));
    }
    fix
}

/// Renames a column to its present name.
pub(super) fn rename_column(table: &str, former: &str, name: &str) -> String {
    format!("ALTER TABLE public.{table} RENAME COLUMN {former} TO {name};")
}

/// Sets the default of a column.
pub(super) fn set_default(table: &str, column: &str, value: &str) -> String {
    format!("ALTER TABLE public.{table} ALTER COLUMN {column} SET DEFAULT {value};")
}

/// Makes a column nullable.
pub(super) fn allow_null(table: &str, column: &str) -> String {
    format!("ALTER TABLE public.{table} ALTER COLUMN {} DROP NOT NULL;", quote_identifier(column))
}

/// Makes a column required, after existing rows have received a value.
pub(super) fn require_value(table: &str, column: &Column) -> String {
    let name = column.name;
    let first = match column.fill_value() {
        Some(value) => format!("UPDATE public.{table} AS this SET {name} = {value} WHERE {name} IS NULL;"),
        None => {
            format!(
                "-- rows without it need a value first: SELECT * FROM public.{table} WHERE {name} IS NULL;"
            )
        }
    };
    format!("{first}\nALTER TABLE public.{table} ALTER COLUMN {name} SET NOT NULL;")
}

/// Changes the type of a column to that of the schema.
pub(super) fn change_type(table: &str, column: &Column, from: &str) -> String {
    let name = column.name;
    let to = column.sql_type;
    let (remark, value) = match (from, to) {
        ("timestamp without time zone", "timestamptz") => {
            ("-- taken as UTC; put your own time zone there\n", format!("{name} AT TIME ZONE 'UTC'"))
        }
        ("integer" | "bigint" | "smallint", "uuid") => (
            "-- every row gets a new value; change the columns that refer to it as well\n",
            "gen_random_uuid()".to_owned(),
        ),
        _ => ("", format!("{name}::text::{to}")),
    };
    let default = column.default.map(|value| format!(",\n  ALTER COLUMN {name} SET DEFAULT {value}"));
    format!(
        "{remark}ALTER TABLE public.{table} ALTER COLUMN {name} DROP DEFAULT,\n  ALTER COLUMN {name} TYPE {to} USING {value}{};",
        default.unwrap_or_default()
    )
}

/// Makes a column the primary key, or unique if there is a primary key already.
pub(super) fn add_key(table: &str, column: &str, has_primary_key: bool) -> String {
    let kind = if column == "id" && !has_primary_key { "PRIMARY KEY" } else { "UNIQUE" };
    format!("ALTER TABLE public.{table} ADD {kind} ({column});")
}

/// Gives the marks of users their key.
pub(super) const MARKS_KEY: &str = include_str!("../../migrations/marks_key.sql");

/// Adds the foreign key from messages to sessions. Existing rows are not validated: messages without a
/// session stay.
pub(super) fn add_reference() -> String {
    format!(
        "ALTER TABLE public.{MESSAGES} ADD FOREIGN KEY (session_id) REFERENCES public.{SESSIONS} (session_id) NOT VALID;"
    )
}

/// Drops a constraint that refuses rows.
pub(super) fn drop_constraint(table: &str, constraint: &str) -> String {
    format!("ALTER TABLE public.{table} DROP CONSTRAINT {};", quote_identifier(constraint))
}

/// Replaces a check by another one of the same name.
pub(super) fn replace_check(table: &str, check: &CheckFound, condition: &str) -> String {
    let name = quote_identifier(&check.name);
    let validity = if check.validated { "" } else { " NOT VALID" };
    format!(
        "ALTER TABLE public.{table} DROP CONSTRAINT {name},\n  ADD CONSTRAINT {name} CHECK ({condition}){validity};"
    )
}

/// Makes a generated column writable. Its values stay.
pub(super) fn stop_generating(table: &str, column: &str, generated: Generated) -> String {
    let what = match generated {
        Generated::Expression => "EXPRESSION",
        Generated::Identity => "IDENTITY",
    };
    format!("ALTER TABLE public.{table} ALTER COLUMN {column} DROP {what};")
}

/// Creates an index.
pub(super) fn create_index(index: &Index) -> String {
    format!("CREATE INDEX IF NOT EXISTS {} ON public.{} {};", index.name, index.table, index.definition)
}
