//! The script of the migration, made from the schema.

use super::mend;
use super::spelling;
use super::tables::{Column, INDEXES, MESSAGES, POLICIES, SESSIONS, TABLES, Table};
use super::triggers::{self, TRIGGERS};

const BEGIN: &str = include_str!("../../../../migrations/postgres/begin.sql");
const ROLES: &str = include_str!("../../../../migrations/postgres/roles.sql");
const REPLACEABLE: &str = include_str!("../../../../migrations/postgres/replaceable.sql");
const END: &str = include_str!("../../../../migrations/postgres/end.sql");

const DESCRIBE: &str = include_str!("../../../../migrations/postgres/describe.sql");

/// The migration, up to its commit.
pub(super) fn migration() -> String {
    let mut script = Script(BEGIN.to_owned());
    script.section("2. Roles and auth.uid()", [ROLES.trim_end().replace("{uid}", mend::UID)]);
    script.section("3. Tables and columns that are missing", renames().chain(TABLES.iter().flat_map(tables)));
    script.section("4. Columns that may be null", TABLES.iter().filter_map(nullable));
    script.section("5. Checks that list words", words());
    script.section("6. Indexes", INDEXES.iter().map(|index| attempt(&mend::create_index(index))));
    script.section("7. Defaults, and values for rows that have none", TABLES.iter().flat_map(values));
    script.section("8. Keys, and what refers to them", keys());
    script.section("9. Row-level security", security());
    let function = [REPLACEABLE.trim_end().to_owned(), mend::create_function(), mend::grant_function()];
    script.section("10. insert_conversation_message, for PostgREST", function);
    script.section("11. What notes that something is to be counted", counted());
    script.section("12. The end", [END.to_owned()]);
    script.0
}

/// The migration, and the final schema.
pub(super) fn whole() -> String {
    let mut script = Script(migration());
    script.section("The final schema", [format!("{};", description())]);
    script.0
}

/// The query that lists the tables as they are now, and holds every column against the schema.
pub(super) fn description() -> String {
    let wanted = TABLES.iter().flat_map(|table| {
        let row = |column: &Column| {
            format!("  ('{}', '{}', '{}', {})", table.name, column.name, column.sql_type, column.nullable)
        };
        table.columns.iter().map(row)
    });
    let wanted = wanted.collect::<Vec<_>>().join(",\n");
    DESCRIBE.trim_end().trim_end_matches(';').replace("{wanted}", &wanted)
}

struct Script(String);

impl Script {
    fn section(&mut self, title: &str, statements: impl IntoIterator<Item = String>) {
        self.0.push_str(&format!("\n\n-- {title:-<117}\n\n", title = format!("{title} ")));
        for statement in statements {
            self.0.push_str(&statement);
            self.0.push('\n');
        }
    }
}

/// A statement that may fail on what is there, and is then left out.
fn attempt(statement: &str) -> String {
    format!("SELECT pg_temp.talktrack_try($sql$\n{}\n$sql$);", statement.trim_end_matches(';'))
}

/// A call of one of the helpers.
fn call(helper: &str, table: &str, rest: &str) -> String {
    format!("SELECT pg_temp.talktrack_{helper}('public.{table}', {rest});")
}

fn renames() -> impl Iterator<Item = String> {
    let columns = TABLES.iter().flat_map(|table| table.columns);
    columns.filter_map(|column| {
        let former = column.former?;
        Some(format!("SELECT pg_temp.talktrack_renamed('{former}', '{}');", column.name))
    })
}

fn tables(table: &Table) -> [String; 2] {
    let added =
        table.columns.iter().map(|column| format!("  ADD COLUMN IF NOT EXISTS {}", mend::added(column)));
    let added = added.collect::<Vec<_>>().join(",\n");
    [format!("\n{}", mend::create_table(table)), format!("ALTER TABLE public.{}\n{added};", table.name)]
}

fn nullable(table: &Table) -> Option<String> {
    let columns = table.columns.iter().filter(|column| column.nullable);
    let lines: Vec<_> =
        columns.map(|column| format!("  ALTER COLUMN {} DROP NOT NULL", column.name)).collect();
    (!lines.is_empty()).then(|| format!("ALTER TABLE public.{}\n{};", table.name, lines.join(",\n")))
}

fn words() -> impl Iterator<Item = String> {
    TABLES.iter().flat_map(|table| {
        let columns = table.columns.iter().filter(|column| !column.words.is_empty());
        columns.map(|column| {
            let words = spelling::literals(column.words);
            call("words", table.name, &format!("'{}', ARRAY[{words}]", column.name))
        })
    })
}

fn keys() -> impl Iterator<Item = String> {
    let keys = TABLES.iter().flat_map(|table| {
        let columns = table.columns.iter().filter(|column| column.key);
        columns.map(|column| call("key", table.name, &format!("'{}'", column.name)))
    });
    let exists = format!(
        "WHERE NOT EXISTS (SELECT FROM pg_constraint c\n  \
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]\n  \
         JOIN pg_attribute b ON b.attrelid = c.confrelid AND c.confkey = ARRAY[b.attnum]\n  \
         WHERE c.contype = 'f' AND c.conrelid = 'public.{MESSAGES}'::regclass AND a.attname = 'session_id'\n    \
         AND c.confrelid = 'public.{SESSIONS}'::regclass AND b.attname = 'session_id');"
    );
    let reference = attempt(&mend::add_reference());
    keys.chain([format!("{}\n{exists}", reference.trim_end_matches(';'))])
}

fn values(table: &Table) -> Vec<String> {
    let mut calls = Vec::new();
    for column in table.columns {
        let name = column.name;
        if let Some(value) = column.default {
            calls.push(call("default", table.name, &format!("'{name}', $sql${value}$sql$")));
        }
        if !column.nullable {
            let value = column.filling().map_or("NULL".to_owned(), |value| format!("$sql${value}$sql$"));
            calls.push(call("require", table.name, &format!("'{name}', {value}")));
        }
    }
    calls
}

fn counted() -> impl Iterator<Item = String> {
    let trigger = |trigger: &triggers::Trigger| {
        let create = format!("'{}', $sql$\n{}\n$sql$", trigger.name, triggers::create_trigger(trigger));
        call("trigger", trigger.table, &create)
    };
    [triggers::forget_what_another_noted(), triggers::create_marker()]
        .into_iter()
        .chain(TRIGGERS.iter().map(trigger))
}

fn security() -> impl Iterator<Item = String> {
    let enabled = TABLES.iter().map(|table| mend::enable_row_security(table.name));
    let policies =
        POLICIES.iter().flat_map(|policy| [mend::drop_policy(policy), attempt(&mend::create_policy(policy))]);
    enabled.chain(policies).chain(TABLES.iter().map(|table| mend::grant(table.name)))
}
