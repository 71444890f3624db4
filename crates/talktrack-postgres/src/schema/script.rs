//! Builds the migration script from the schema.

use super::policies::{FORMER_POLICIES, POLICIES};
use super::quoting;
use super::repair;
use super::rights;
use super::tables::{Column, FORMER_INDEXES, INDEXES, MESSAGES, SESSIONS, STORE, TABLES, Table};
use super::triggers::{self, FUNCTIONS, TRIGGERS};
use super::users::{USER_GRANTS, UserAccess};

const BEGIN: &str = include_str!("../../migrations/begin.sql");
const ROLES: &str = include_str!("../../migrations/roles.sql");
const REPLACEABLE: &str = include_str!("../../migrations/replaceable.sql");
const END: &str = include_str!("../../migrations/end.sql");

const DESCRIBE: &str = include_str!("../../migrations/describe.sql");

/// Returns the migration, including its commit. Without an access, users keep the one that the database
/// notes; a first migration lets them write.
pub(super) fn migration_script(access: Option<UserAccess>) -> String {
    let mut script = Script(BEGIN.to_owned());
    let roles = ROLES.trim_end().replace("{uid}", rights::UID).replace("{jwt}", rights::JWT);
    script.add_section("2. Roles, auth.uid() and auth.jwt()", [roles]);
    script.add_section(
        "3. Tables and columns that are missing",
        rename_statements().chain(TABLES.iter().flat_map(table_statements)),
    );
    script.add_section("4. Columns that may be null", TABLES.iter().flat_map(nullable_statements));
    script.add_section("5. Checks that list words", word_check_statements());
    script.add_section("6. Indexes", index_statements());
    script.add_section(
        "7. Defaults, and values for rows that have none",
        TABLES.iter().flat_map(value_statements),
    );
    script.add_section("8. Keys and the foreign key", key_statements());
    script.add_section("9. The id of this store, and the access of users", store_statements(access));
    script.add_section("10. Row-level security", policy_statements());
    script.add_section("11. Rights", TABLES.iter().flat_map(grant_statements));
    script.add_section("12. insert_conversation_message, for PostgREST", function_statements());
    script.add_section("13. Triggers that mark buckets to count and record deletions", trigger_statements());
    script.add_section("14. The end", [END.to_owned()]);
    script.0
}

/// Returns the migration, followed by the query of the final schema.
pub(super) fn full_script(access: Option<UserAccess>) -> String {
    let mut script = Script(migration_script(access));
    script.add_section("The final schema", [format!("{};", describe_query())]);
    script.0
}

/// Returns the query that lists the tables as they are, and compares every column with the schema.
pub(super) fn describe_query() -> String {
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
    fn add_section(&mut self, title: &str, statements: impl IntoIterator<Item = String>) {
        self.0.push_str(&format!("\n\n-- {title:-<117}\n\n", title = format!("{title} ")));
        for statement in statements {
            self.0.push_str(&statement);
            self.0.push('\n');
        }
    }
}

/// A comment for the reader of the script, with an empty line before it.
fn comment(text: &str) -> String {
    format!("\n-- {text}")
}

/// A statement that may fail on existing data, and is then skipped.
fn try_statement(statement: &str) -> String {
    format!("SELECT pg_temp.talktrack_try($sql$\n{}\n$sql$);", statement.trim_end_matches(';'))
}

/// A call of one of the helper functions.
fn call_helper(helper: &str, table: &str, rest: &str) -> String {
    format!("SELECT pg_temp.talktrack_{helper}('public.{table}', {rest});")
}

fn rename_statements() -> impl Iterator<Item = String> {
    let columns = TABLES.iter().flat_map(|table| table.columns);
    columns.filter_map(|column| {
        let former = column.former?;
        Some(format!("SELECT pg_temp.talktrack_renamed('{former}', '{}');", column.name))
    })
}

fn table_statements(table: &Table) -> [String; 2] {
    let added = table
        .columns
        .iter()
        .map(|column| format!("  ADD COLUMN IF NOT EXISTS {}", repair::added_column(column)));
    let added = added.collect::<Vec<_>>().join(",\n");
    [format!("\n{}", repair::create_table(table)), format!("ALTER TABLE public.{}\n{added};", table.name)]
}

fn index_statements() -> impl Iterator<Item = String> {
    let former = FORMER_INDEXES.iter().map(|name| format!("DROP INDEX IF EXISTS public.{name};"));
    former.chain(INDEXES.iter().map(|index| try_statement(&repair::create_index(index))))
}

fn nullable_statements(table: &Table) -> impl Iterator<Item = String> {
    let columns = table.columns.iter().filter(|column| column.nullable);
    columns.map(|column| call_helper("nullable", table.name, &format!("'{}'", column.name)))
}

fn word_check_statements() -> impl Iterator<Item = String> {
    TABLES.iter().flat_map(|table| {
        let columns = table.columns.iter().filter(|column| !column.words.is_empty());
        columns.map(|column| {
            let words = quoting::quote_literals(column.words);
            call_helper("words", table.name, &format!("'{}', ARRAY[{words}]", column.name))
        })
    })
}

fn key_statements() -> impl Iterator<Item = String> {
    let keys = TABLES.iter().flat_map(|table| {
        let columns = table.columns.iter().filter(|column| column.key);
        columns.map(|column| call_helper("key", table.name, &format!("'{}'", column.name)))
    });
    let exists = format!(
        "WHERE NOT EXISTS (SELECT FROM pg_constraint c\n  \
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND c.conkey = ARRAY[a.attnum]\n  \
         JOIN pg_attribute b ON b.attrelid = c.confrelid AND c.confkey = ARRAY[b.attnum]\n  \
         WHERE c.contype = 'f' AND c.conrelid = 'public.{MESSAGES}'::regclass AND a.attname = 'session_id'\n    \
         AND c.confrelid = 'public.{SESSIONS}'::regclass AND b.attname = 'session_id');"
    );
    let reference = try_statement(&repair::add_reference());
    let of_marks = repair::MARKS_KEY.trim_end().to_owned();
    keys.chain([of_marks, format!("{}\n{exists}", reference.trim_end_matches(';'))])
}

fn value_statements(table: &Table) -> Vec<String> {
    let mut calls = Vec::new();
    for column in table.columns {
        let name = column.name;
        if let Some(value) = column.default {
            calls.push(call_helper("default", table.name, &format!("'{name}', $sql${value}$sql$")));
        }
        if !column.nullable {
            let value = column.fill_value().map_or("NULL".to_owned(), |value| format!("$sql${value}$sql$"));
            calls.push(call_helper("require", table.name, &format!("'{name}', {value}")));
        }
    }
    calls
}

fn trigger_statements() -> impl Iterator<Item = String> {
    let trigger = |trigger: &triggers::Trigger| {
        let name = trigger.name;
        let function = trigger.function.name;
        let create = triggers::create_trigger(trigger);
        call_helper("trigger", trigger.table, &format!("'{name}', '{function}', $sql$\n{create}\n$sql$"))
    };
    std::iter::once(triggers::restart_rollup_if_changed())
        .chain(FUNCTIONS.iter().map(|function| {
            format!("{}\n{}", comment(function.purpose), triggers::create_function(function))
        }))
        .chain([comment("Each trigger calls one of the two functions once for each statement.")])
        .chain(TRIGGERS.iter().map(trigger))
}

fn store_statements(access: Option<UserAccess>) -> Vec<String> {
    let note = access.map(|access| {
        format!("UPDATE public.{STORE} SET user_access = '{access}' WHERE user_access <> '{access}';")
    });
    [repair::insert_store_id()].into_iter().chain(note).collect()
}

/// A statement for databases in which users have at least this access.
fn for_users(access: UserAccess, statement: &str) -> String {
    let statement = statement.trim_end_matches(';');
    format!("SELECT pg_temp.talktrack_users('{access}', $sql$\n{statement}\n$sql$);")
}

fn policy_statements() -> impl Iterator<Item = String> {
    let enabled = TABLES.iter().map(|table| rights::enable_row_security(table.name));
    let former = FORMER_POLICIES.iter().map(|(policy, table)| rights::drop_policy(policy, table));
    let policies = POLICIES.iter().flat_map(|policy| {
        let create = rights::create_policy(policy);
        let purpose = comment(policy.purpose);
        [purpose, rights::drop_policy(policy.name, policy.table), for_users(policy.access, &create)]
    });
    enabled.chain(former).chain(policies)
}

fn grant_statements(table: &Table) -> Vec<String> {
    let ours = table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(",");
    let revoke = rights::revoke_table(table.name);
    let revoke = call_helper("revoke", table.name, &format!("'{{{ours}}}', $sql$\n{revoke}\n$sql$"));
    let of_users = USER_GRANTS.iter().filter(|grant| grant.table == table.name);
    let of_users = of_users.map(|grant| for_users(grant.access, &rights::grant_to_users(grant)));
    [revoke].into_iter().chain(of_users).collect()
}

fn function_statements() -> [String; 5] {
    let users = for_users(rights::FUNCTION_ACCESS, &rights::grant_function_to_users());
    let purpose = comment(
        "Adds a message to a session, if the caller may write to that session, and returns the message's id.",
    );
    [REPLACEABLE.trim_end().to_owned(), purpose, rights::create_function(), rights::revoke_function(), users]
}
