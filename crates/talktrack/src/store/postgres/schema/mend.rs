//! The statements that make and mend things, each in one place for the script and for the doctor.

use super::spelling::{identifier, literals};
use super::tables::{
    Column, FUNCTION, FUNCTION_ARGUMENTS, FUNCTION_PARAMETERS, INDEXES, Index, MESSAGES, POLICIES,
    PRIVILEGES, Policy, SESSIONS, Table, function_body,
};

/// `auth.uid()` for a database that has none.
pub(super) const UID: &str = include_str!("../../../../migrations/postgres/uid.sql");

/// Makes the table, every column on a line with what it means.
pub(super) fn create_table(table: &Table) -> String {
    let last = table.columns.len() - 1;
    let line = |(place, column): (usize, &Column)| {
        let comma = if place == last { "" } else { "," };
        let definition = definition(column);
        let constraint = if column.constraint.is_empty() { "" } else { " " };
        let note = if column.note.is_empty() { String::new() } else { format!("  -- {}", column.note) };
        format!("  {} {definition}{constraint}{}{comma}{note}\n", column.name, column.constraint)
    };
    let lines: String = table.columns.iter().enumerate().map(line).collect();
    format!("CREATE TABLE IF NOT EXISTS public.{} (\n{lines});", table.name)
}

/// Makes a table that is missing, with all that belongs to it.
pub(super) fn make_table(table: &Table) -> String {
    let indexes = INDEXES.iter().filter(|index| index.table == table.name).map(create_index);
    let policies = POLICIES.iter().filter(|policy| policy.table == table.name).map(create_policy);
    let security = [enable_row_security(table.name)].into_iter().chain(policies).chain([grant(table.name)]);
    let all = [create_table(table)].into_iter().chain(indexes).chain(security);
    all.collect::<Vec<_>>().join("\n")
}

fn definition(column: &Column) -> String {
    let required = if column.nullable || column.constraint == "PRIMARY KEY" { "" } else { " NOT NULL" };
    let default = column.default.map(|value| format!(" DEFAULT {value}")).unwrap_or_default();
    format!("{}{required}{default}", column.sql_type)
}

/// What follows `ADD COLUMN`. Rows that are there make a difference: where the default does not say what they get, the
/// column begins as one that may be null.
pub(super) fn added(column: &Column) -> String {
    let (name, sql_type) = (column.name, column.sql_type);
    match column.default {
        Some(value) if column.nullable => format!("{name} {sql_type} DEFAULT {value}"),
        Some(value) if !column.is_filled_by_row() => format!("{name} {sql_type} NOT NULL DEFAULT {value}"),
        _ => format!("{name} {sql_type}"),
    }
}

/// Adds a column that is missing, and fills it.
pub(super) fn add_column(table: &str, column: &Column) -> String {
    let mut mend = format!("ALTER TABLE public.{table} ADD COLUMN {};", added(column));
    if !column.nullable && (column.is_filled_by_row() || column.default.is_none()) {
        if let Some(value) = column.default {
            mend.push_str(&format!("\n{}", set_default(table, column.name, value)));
        }
        mend.push_str(&format!("\n{}", require(table, column)));
    }
    mend
}

/// Gives a column the name it has today.
pub(super) fn rename(table: &str, former: &str, name: &str) -> String {
    format!("ALTER TABLE public.{table} RENAME COLUMN {former} TO {name};")
}

/// Gives a column its default.
pub(super) fn set_default(table: &str, column: &str, value: &str) -> String {
    format!("ALTER TABLE public.{table} ALTER COLUMN {column} SET DEFAULT {value};")
}

/// Lets a column be null.
pub(super) fn allow_null(table: &str, column: &str) -> String {
    format!("ALTER TABLE public.{table} ALTER COLUMN {} DROP NOT NULL;", identifier(column))
}

/// Lets a column no longer be null, after the rows that are have got a value.
pub(super) fn require(table: &str, column: &Column) -> String {
    let name = column.name;
    let first = match column.filling() {
        Some(value) => format!("UPDATE public.{table} AS this SET {name} = {value} WHERE {name} IS NULL;"),
        None => {
            format!(
                "-- rows without it need a value first: SELECT * FROM public.{table} WHERE {name} IS NULL;"
            )
        }
    };
    format!("{first}\nALTER TABLE public.{table} ALTER COLUMN {name} SET NOT NULL;")
}

/// Turns a column into the type it should have.
pub(super) fn retype(table: &str, column: &Column, from: &str) -> String {
    let (name, to) = (column.name, column.sql_type);
    let (remark, value) = match (from, to) {
        ("timestamp without time zone", "timestamptz") => {
            ("-- taken as UTC; put your own time zone there\n", format!("{name} AT TIME ZONE 'UTC'"))
        }
        ("integer" | "bigint" | "smallint", "uuid") => (
            "-- every row gets a new one; columns that refer to it have to follow\n",
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

/// Makes a column the primary key, or unique where there is one.
pub(super) fn add_key(table: &str, column: &str, has_primary_key: bool) -> String {
    let kind = if column == "id" && !has_primary_key { "PRIMARY KEY" } else { "UNIQUE" };
    format!("ALTER TABLE public.{table} ADD {kind} ({column});")
}

/// Lets messages refer to their sessions. Rows that are there are not asked: what has lost its session stays.
pub(super) fn add_reference() -> String {
    format!(
        "ALTER TABLE public.{MESSAGES} ADD FOREIGN KEY (session_id) REFERENCES public.{SESSIONS} (session_id) NOT VALID;"
    )
}

/// Takes away what keeps rows out.
pub(super) fn drop_constraint(table: &str, constraint: &str) -> String {
    format!("ALTER TABLE public.{table} DROP CONSTRAINT {};", identifier(constraint))
}

/// Puts a check that allows these words in the place of another one.
pub(super) fn allow_words(table: &str, column: &str, check: &str, words: &[String]) -> String {
    let (check, words) = (identifier(check), literals(words));
    format!(
        "ALTER TABLE public.{table} DROP CONSTRAINT {check},\n  ADD CONSTRAINT {check} CHECK ({column} IN ({words}));"
    )
}

/// Makes an index.
pub(super) fn create_index(index: &Index) -> String {
    format!("CREATE INDEX IF NOT EXISTS {} ON public.{} {};", index.name, index.table, index.definition)
}

/// Switches row-level security on.
pub(super) fn enable_row_security(table: &str) -> String {
    format!("ALTER TABLE public.{table} ENABLE ROW LEVEL SECURITY;")
}

/// Removes the policy, where it is there.
pub(super) fn drop_policy(policy: &Policy) -> String {
    format!("DROP POLICY IF EXISTS {} ON public.{};", policy.name, policy.table)
}

/// Makes the policy.
pub(super) fn create_policy(policy: &Policy) -> String {
    let Policy { name, table, role, using, check } = policy;
    format!("CREATE POLICY {name} ON public.{table} TO {role}\n  USING ({using})\n  WITH CHECK ({check});")
}

/// Who may do what with a table.
pub(super) fn grant(table: &str) -> String {
    let privileges = PRIVILEGES.join(", ");
    format!(
        "REVOKE ALL ON public.{table} FROM PUBLIC, anon;\n\
         REVOKE TRUNCATE, REFERENCES, TRIGGER ON public.{table} FROM authenticated;\n\
         GRANT {privileges} ON public.{table} TO authenticated, service_role;"
    )
}

/// Makes the function, or puts it in the place of an earlier one.
pub(super) fn create_function() -> String {
    let types = FUNCTION_ARGUMENTS.split(", ");
    let parameters = FUNCTION_PARAMETERS.iter().zip(types).enumerate().map(|(place, (name, sql_type))| {
        let default = if place < 3 { "" } else { " DEFAULT NULL" };
        format!("{name} {sql_type}{default}")
    });
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let body = function_body();
    format!(
        "CREATE OR REPLACE FUNCTION {FUNCTION}({parameters})\nRETURNS uuid LANGUAGE plpgsql SECURITY INVOKER SET search_path = ''\nAS $talktrack$\n{body}$talktrack$;"
    )
}

/// Who may call the function.
pub(super) fn grant_function() -> String {
    format!(
        "REVOKE ALL ON FUNCTION {FUNCTION}({FUNCTION_ARGUMENTS}) FROM PUBLIC, anon;\n\
         GRANT EXECUTE ON FUNCTION {FUNCTION}({FUNCTION_ARGUMENTS}) TO authenticated, service_role;"
    )
}

/// Removes a function that would make calls by name ambiguous, or that cannot be replaced.
pub(super) fn drop_function(arguments: &str) -> String {
    format!("DROP FUNCTION {FUNCTION}({arguments});")
}

/// Makes `auth.uid()`, as Supabase has it.
pub(super) fn make_uid() -> String {
    let create = UID.trim_end();
    format!(
        "CREATE SCHEMA IF NOT EXISTS auth;\nGRANT USAGE ON SCHEMA auth TO anon, authenticated, service_role;\n{create}"
    )
}
