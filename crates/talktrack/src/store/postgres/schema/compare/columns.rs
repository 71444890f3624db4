//! Columns, keys and checks.

use super::super::Difference;
use super::super::catalog::{Catalog, CheckFound, ColumnFound, ReferenceFound};
use super::super::mend;
use super::super::tables::{Column, MESSAGES, SESSIONS, TABLES, Table};

/// What is different about the columns of a table that is there.
pub(super) fn compare(catalog: &Catalog, table: &Table) -> Vec<Difference> {
    let Some(there) = catalog.table(table.name) else { return Vec::new() };
    let mut found = Vec::new();
    // What a row gets may come from other columns of it: these first.
    let by_row = table.columns.iter().filter(|column| column.is_filled_by_row());
    for column in table.columns.iter().filter(|column| !column.is_filled_by_row()).chain(by_row) {
        match catalog.column(table.name, column.name) {
            None => found.push(missing(catalog, table.name, column)),
            Some(is) => found.extend(different(table.name, column, is)),
        }
        if column.key && !catalog.is_key(table.name, column.name) {
            let problem = format!("The '{}' column of '{}' is not unique", column.name, table.name);
            let mend = mend::add_key(table.name, column.name, there.has_primary_key);
            found.push(super::stopping(Difference::of_column(table.name, column.name, problem, mend)));
        }
        let checks =
            catalog.checks.iter().filter(|check| check.table == table.name && check.column == column.name);
        found.extend(checks.filter_map(|check| narrow(table.name, column, check)));
    }
    let ours = |name: &str| table.columns.iter().any(|column| column.name == name);
    let own = catalog.columns_of(table.name).filter(|column| !ours(&column.name));
    found.extend(own.filter(|column| column.not_null && !column.has_default).map(unfillable));
    found
}

fn missing(catalog: &Catalog, table: &'static str, column: &Column) -> Difference {
    let problem = format!("Could not find the '{}' column of '{table}'", column.name);
    let mend = match column.former.and_then(|former| catalog.column(table, former)) {
        None => mend::add_column(table, column),
        Some(former) => {
            let rest = different(table, column, former).into_iter().map(|difference| difference.mend);
            let first = mend::rename(table, &former.name, column.name);
            [first].into_iter().chain(rest).collect::<Vec<_>>().join("\n")
        }
    };
    super::stopping(Difference::of_column(table, column.name, problem, mend))
}

fn different(table: &'static str, column: &Column, is: &ColumnFound) -> Vec<Difference> {
    let name = column.name;
    let difference = |problem: String, mend| Difference::of_column(table, name, problem, mend);
    if !same_type(column.sql_type, &is.sql_type) {
        let problem = format!("The '{name}' column of '{table}' is {}, not {}", is.sql_type, column.sql_type);
        return vec![difference(problem, mend::retype(table, column, &is.sql_type)).yours_to_mend()];
    }
    let mut found = Vec::new();
    if let Some(value) = column.default.filter(|_| !is.has_default) {
        let problem = format!("The '{name}' column of '{table}' has no default");
        found.push(difference(problem, mend::set_default(table, name, value)));
    }
    if column.nullable && is.not_null {
        let problem = format!("The '{name}' column of '{table}' does not allow null");
        found.push(difference(problem, mend::allow_null(table, name)));
    }
    if !column.nullable && !is.not_null {
        let problem = format!("The '{name}' column of '{table}' allows null");
        found.push(difference(problem, mend::require(table, column)));
    }
    found
}

/// Text without a limit goes by two names.
fn same_type(wanted: &str, is: &str) -> bool {
    wanted == is || (wanted == "text" && is == "character varying")
}

/// A check that lists words, and not all that are written.
fn narrow(table: &'static str, column: &Column, check: &CheckFound) -> Option<Difference> {
    let listed = quoted(&check.definition);
    let lacks: Vec<_> =
        column.words.iter().filter(|word| !listed.iter().any(|listed| listed == *word)).collect();
    let lists_words = lacks.len() < column.words.len() || check.definition.contains(" = ANY (");
    if lacks.is_empty() || !lists_words {
        return None;
    }
    let mut words: Vec<String> = column.words.iter().map(|word| (*word).to_owned()).collect();
    words.extend(listed.into_iter().filter(|word| !column.words.contains(&word.as_str())));
    let lacks = lacks.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ");
    let problem = format!("The check '{}' of '{table}' does not allow {lacks}", check.name);
    let mend = mend::allow_words(table, column.name, &check.name, &words);
    Some(Difference::of_column(table, column.name, problem, mend))
}

/// The string literals in an expression.
fn quoted(expression: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find('\'') {
        let mut literal = String::new();
        rest = &rest[start + 1..];
        while let Some(end) = rest.find('\'') {
            literal.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            // A doubled quote stands for one.
            match rest.strip_prefix('\'') {
                Some(after) => rest = after,
                None => break,
            }
            literal.push('\'');
        }
        found.push(literal);
    }
    found
}

/// A column of the user's own that every row must fill, and talktrack cannot.
fn unfillable(column: &ColumnFound) -> Difference {
    let table =
        TABLES.iter().map(|table| table.name).find(|table| *table == column.table).unwrap_or(MESSAGES);
    let name = &column.name;
    let problem = format!(
        "The '{name}' column of '{table}' is your own, allows no null and has no default, so that talktrack cannot write a row"
    );
    super::stopping(
        Difference::of_column(table, name, problem, mend::allow_null(table, name)).yours_to_mend(),
    )
}

/// Messages refer to sessions by what both of them call `session_id`, and by nothing else.
pub(super) fn references(catalog: &Catalog) -> Vec<Difference> {
    let difference = |problem, mend| Difference::of_column(MESSAGES, "session_id", problem, mend);
    let (right, wrong): (Vec<_>, Vec<_>) =
        catalog.references.iter().partition(|reference| reference.column == "session_id");
    let mut found = Vec::new();
    let both = catalog.column(MESSAGES, "session_id").and(catalog.column(SESSIONS, "session_id"));
    if right.is_empty() && both.is_some() {
        let problem = format!("The 'session_id' column of '{MESSAGES}' does not refer to '{SESSIONS}'");
        found.push(difference(problem, mend::add_reference()));
    }
    for ReferenceFound { name, column } in wrong {
        let problem = format!(
            "The foreign key '{name}' of '{MESSAGES}' refers to the '{column}' column of '{SESSIONS}', not to 'session_id'"
        );
        found.push(difference(problem, mend::drop_constraint(MESSAGES, name)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn literals_are_found_with_the_quotes_in_them() {
        assert_eq!(quoted("CHECK ((role = ANY (ARRAY['user'::text, 'it''s'::text])))"), ["user", "it's"]);
        assert_eq!(quoted("CHECK (role <> '')"), [""]);
        assert!(quoted("CHECK (length(role) < 20)").is_empty());
    }
}
