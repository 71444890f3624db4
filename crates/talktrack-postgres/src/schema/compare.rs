//! Lists the differences between a database and the schema, and the SQL that repairs each.

mod access;
mod columns;
mod durability;
mod grants;
mod triggers;
mod views;

use super::Difference;
use super::catalog::Catalog;
use super::repair;
use super::tables::{INDEXES, Index, SEARCH, STALE, STATS, TABLES, USER_ACCESS};
use super::users::UserAccess;

/// Returns every difference, prerequisites first. If the access of users is not known, the database is
/// compared with the access that gives the fewest differences.
pub(super) fn compare_catalog(catalog: &Catalog, access: Option<UserAccess>) -> Vec<Difference> {
    let differences = |access| list_differences(catalog, access);
    match access {
        Some(access) => differences(access),
        None => UserAccess::ALL.map(differences).into_iter().min_by_key(Vec::len).unwrap_or_default(),
    }
}

fn list_differences(catalog: &Catalog, access: UserAccess) -> Vec<Difference> {
    let mut found = access::compare_roles(catalog);
    for table in TABLES.iter().filter(|table| catalog.table(table.name).is_none()) {
        let problem = format!("Could not find the table 'public.{}'", table.name);
        found.push(mark_stopping(Difference::of_table(
            table.name,
            problem,
            repair::make_table(table, access),
        )));
    }
    for table in &TABLES {
        found.extend(columns::compare_columns(catalog, table, access));
    }
    found.extend(columns::compare_references(catalog));
    found.extend(columns::compare_marks_key(catalog));
    let missing = |index: &&Index| {
        catalog.table(index.table).is_some() && !catalog.indexes.iter().any(|name| name == index.name)
    };
    for index in INDEXES.iter().filter(missing) {
        let problem = format!("Could not find the index '{}' of '{}'", index.name, index.table);
        found.push(Difference::of_table(index.table, problem, repair::create_index(index)));
    }
    found.extend(access::compare_access(catalog, access));
    found.extend(views::compare_views(catalog));
    found.extend(triggers::compare_triggers(catalog));
    found.extend(durability::compare_durability(catalog));
    found
}

/// Marks a difference as one that stops every row, unless messages are stored despite it: the search index
/// and the rollup are derived from the rows, and the access of users does not concern the writer.
fn mark_stopping(difference: Difference) -> Difference {
    let is_derived = difference.table.is_some_and(|table| [SEARCH, STATS, STALE].contains(&table));
    let is_of_users = difference.column.as_deref() == Some(USER_ACCESS);
    if is_derived || is_of_users { difference } else { difference.stops_every_row() }
}
