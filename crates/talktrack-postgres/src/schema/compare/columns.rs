//! Compares columns, keys and checks.

use super::super::Difference;
use super::super::catalog::{Catalog, CheckFound, ColumnFound, ReferenceFound};
use super::super::checks;
use super::super::quoting::quote_literals;
use super::super::repair;
use super::super::rights;
use super::super::tables::{Column, MESSAGES, SESSIONS, TABLES, Table, USER_DELETIONS};
use super::super::users::UserAccess;

/// Compares the columns of an existing table.
pub(super) fn compare_columns(catalog: &Catalog, table: &Table, access: UserAccess) -> Vec<Difference> {
    let Some(there) = catalog.table(table.name) else { return Vec::new() };
    let mut found = Vec::new();
    // The value for existing rows may come from other columns, so those come first.
    let by_row = table.columns.iter().filter(|column| column.is_filled_by_row());
    for column in table.columns.iter().filter(|column| !column.is_filled_by_row()).chain(by_row) {
        match catalog.column(table.name, column.name) {
            None => found.push(missing_column(catalog, table.name, column, access)),
            Some(is) => found.extend(compare_column(table.name, column, is)),
        }
        if column.key && !catalog.is_key(table.name, column.name) {
            let problem = format!("The '{}' column of '{}' is not unique", column.name, table.name);
            let fix = repair::add_key(table.name, column.name, there.has_primary_key);
            found.push(super::mark_stopping(Difference::of_column(table.name, column.name, problem, fix)));
        }
        let checks =
            catalog.checks.iter().filter(|check| check.table == table.name && check.column == column.name);
        found.extend(checks.filter_map(|check| narrow_check(table.name, column, check)));
    }
    let ours = |name: &str| table.columns.iter().any(|column| column.name == name);
    let own = catalog.columns_of(table.name).filter(|column| !ours(&column.name));
    found.extend(own.filter(|column| column.not_null && !column.has_default).map(unfillable_column));
    found
}

fn missing_column(catalog: &Catalog, table: &'static str, column: &Column, access: UserAccess) -> Difference {
    let problem = format!("Could not find the '{}' column of '{table}'", column.name);
    let fix = match column.former.and_then(|former| catalog.column(table, former)) {
        None => repair::add_column(table, column),
        Some(former) => {
            let rest = compare_column(table, column, former).into_iter().map(|difference| difference.fix);
            let first = repair::rename_column(table, &former.name, column.name);
            [first].into_iter().chain(rest).collect::<Vec<_>>().join("\n")
        }
    };
    let grants = rights::grant_column(table, column.name, access);
    let fix = [fix].into_iter().chain(grants).collect::<Vec<_>>().join("\n");
    super::mark_stopping(Difference::of_column(table, column.name, problem, fix))
}

fn compare_column(table: &'static str, column: &Column, is: &ColumnFound) -> Vec<Difference> {
    let name = column.name;
    let difference = |problem: String, fix| Difference::of_column(table, name, problem, fix);
    if !same_type(column.sql_type, &is.sql_type) {
        let problem = format!("The '{name}' column of '{table}' is {}, not {}", is.sql_type, column.sql_type);
        return vec![difference(problem, repair::change_type(table, column, &is.sql_type)).left_to_owner()];
    }
    if let Some(generated) = generated_column(table, column, is) {
        return vec![generated];
    }
    let mut found = Vec::new();
    if let Some(value) = column.default.filter(|_| !is.has_default) {
        let problem = format!("The '{name}' column of '{table}' has no default");
        found.push(difference(problem, repair::set_default(table, name, value)));
    }
    if column.nullable && is.not_null {
        let problem = format!("The '{name}' column of '{table}' does not allow null");
        found.push(difference(problem, repair::allow_null(table, name)));
    }
    if !column.nullable && !is.not_null {
        let problem = format!("The '{name}' column of '{table}' allows null");
        found.push(difference(problem, repair::require_value(table, column)));
    }
    found
}

/// True if the types are the same. Text without a limit has two names.
fn same_type(wanted: &str, is: &str) -> bool {
    wanted == is || (wanted == "text" && is == "character varying")
}

/// Finds a check that refuses words that talktrack writes. A check that lists allowed words gets the
/// missing ones added; any other check belongs to the user.
fn narrow_check(table: &'static str, column: &Column, check: &CheckFound) -> Option<Difference> {
    if check.refused.is_empty() {
        return None;
    }
    let refused = quote_literals(&check.refused);
    let problem = format!("The check '{}' of '{table}' does not allow {refused}", check.name);
    let name = column.name;
    let difference = |condition: &str| {
        Difference::of_column(table, name, problem.clone(), repair::replace_check(table, check, condition))
    };
    Some(match checks::parse_word_list(name, &check.expression) {
        Some(listed) => {
            let mut words: Vec<String> = column.words.iter().map(|word| (*word).to_owned()).collect();
            words.extend(listed.into_iter().filter(|word| !column.words.contains(&word.as_str())));
            difference(&format!("{name} IN ({})", quote_literals(&words)))
        }
        None => difference(&format!("({}) OR {name} IN ({refused})", check.expression)).left_to_owner(),
    })
}

/// Finds a column that cannot be written because it is generated. The repair includes all that the column
/// needs afterwards.
fn generated_column(table: &'static str, column: &Column, is: &ColumnFound) -> Option<Difference> {
    let generated = is.generated?;
    let name = column.name;
    let problem = format!("The '{name}' column of '{table}' is generated, so that talktrack cannot write it");
    let default = column.default.map(|value| repair::set_default(table, name, value));
    let null = (column.nullable && is.not_null).then(|| repair::allow_null(table, name));
    let required = (!column.nullable && !is.not_null).then(|| repair::require_value(table, column));
    let first = repair::stop_generating(table, name, generated);
    let all = [Some(first), default, null, required].into_iter().flatten().collect::<Vec<_>>();
    Some(super::mark_stopping(Difference::of_column(table, name, problem, all.join("\n"))).left_to_owner())
}

/// A column of the user's own that every row must fill and that talktrack cannot fill.
fn unfillable_column(column: &ColumnFound) -> Difference {
    let table =
        TABLES.iter().map(|table| table.name).find(|table| *table == column.table).unwrap_or(MESSAGES);
    let name = &column.name;
    let problem = format!(
        "The '{name}' column of '{table}' is your own, allows no null and has no default, so that talktrack cannot write a row"
    );
    super::mark_stopping(
        Difference::of_column(table, name, problem, repair::allow_null(table, name)).left_to_owner(),
    )
}

/// Compares the key of the marks of users. A text in the key tells apart users who have the same UUID.
pub(super) fn compare_marks_key(catalog: &Catalog) -> Option<Difference> {
    catalog.table(USER_DELETIONS).filter(|_| !catalog.has_marks_key)?;
    let problem =
        format!("The primary key of '{USER_DELETIONS}' is not (user_id, session_id, user_external_id)");
    let fix = repair::MARKS_KEY.trim_end().to_owned();
    Some(super::mark_stopping(Difference::of_table(USER_DELETIONS, problem, fix)))
}

/// Compares the foreign keys: messages must refer to sessions through `session_id` on both sides, and
/// through nothing else.
pub(super) fn compare_references(catalog: &Catalog) -> Vec<Difference> {
    let difference = |problem, fix| Difference::of_column(MESSAGES, "session_id", problem, fix);
    let (right, wrong): (Vec<_>, Vec<_>) =
        catalog.references.iter().partition(|reference| reference.column == "session_id");
    let mut found = Vec::new();
    let both = catalog.column(MESSAGES, "session_id").and(catalog.column(SESSIONS, "session_id"));
    if right.is_empty() && both.is_some() {
        let problem = format!("The 'session_id' column of '{MESSAGES}' does not refer to '{SESSIONS}'");
        found.push(difference(problem, repair::add_reference()));
    }
    for ReferenceFound { name, column } in wrong {
        let problem = format!(
            "The foreign key '{name}' of '{MESSAGES}' refers to the '{column}' column of '{SESSIONS}', not to 'session_id'"
        );
        found.push(difference(problem, repair::drop_constraint(MESSAGES, name)));
    }
    found
}
