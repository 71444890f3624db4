//! Names what a database has otherwise than the schema, and how each is mended.

mod access;
mod columns;
mod counted;

use super::Difference;
use super::catalog::Catalog;
use super::mend;
use super::tables::{INDEXES, Index, SEARCH, STALE, STATS, TABLES};

/// Every difference: first what others need.
pub(super) fn compare(catalog: &Catalog) -> Vec<Difference> {
    let mut found = access::roles(catalog);
    for table in TABLES.iter().filter(|table| catalog.table(table.name).is_none()) {
        let problem = format!("Could not find the table 'public.{}'", table.name);
        found.push(stopping(Difference::of_table(table.name, problem, mend::make_table(table))));
    }
    for table in &TABLES {
        found.extend(columns::compare(catalog, table));
    }
    found.extend(columns::references(catalog));
    let missing = |index: &&Index| {
        catalog.table(index.table).is_some() && !catalog.indexes.iter().any(|name| name == index.name)
    };
    for index in INDEXES.iter().filter(missing) {
        let problem = format!("Could not find the index '{}' of '{}'", index.name, index.table);
        found.push(Difference::of_table(index.table, problem, mend::create_index(index)));
    }
    found.extend(access::compare(catalog));
    found.extend(counted::compare(catalog));
    found
}

/// Without its words a message is not found, without the tallies it is not counted; it is stored all the same.
fn stopping(difference: Difference) -> Difference {
    let is_derived = difference.table.is_some_and(|table| [SEARCH, STATS, STALE].contains(&table));
    if is_derived { difference } else { difference.stops_every_row() }
}
