//! The schema of a database, and which pages belong to which table, as far as the pages that say so are readable.

use std::collections::BTreeSet;

use crate::cells::Layout;
use crate::database::Database;
use crate::records::Record;
use crate::value::Value;

/// A row of `sqlite_schema`: a table, an index, a view or a trigger.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaEntry {
    /// `table`, `index`, `view` or `trigger`.
    pub kind: String,
    /// The name.
    pub name: String,
    /// The table that an index or a trigger belongs to; for a table or a view, its own name.
    pub table: String,
    /// The page at the top of the b-tree. Views, triggers and virtual tables have none.
    pub root_page: Option<u32>,
    /// The statement that created it. Automatic indexes have none.
    pub sql: Option<String>,
}

impl Database {
    /// Returns the entries of the schema whose rows can be read from page 1 and the pages below it. Empty if page 1 is
    /// lost.
    pub fn schema(&self) -> Vec<SchemaEntry> {
        let rows = self.records_on(self.tree(1)).filter_map(Result::ok);
        rows.filter_map(|record| self.schema_entry(&record)).collect()
    }

    /// Returns the numbers of the pages that belong to the b-tree below this root page, with the root page. With the root
    /// page of a table, these are the pages of its rows. If a page of the tree is damaged, those that only it knows are
    /// missing from the result; their rows are still among [`Database::records`].
    pub fn tree(&self, root_page: u32) -> BTreeSet<u32> {
        let mut pages = BTreeSet::new();
        let mut left = vec![root_page];
        while let Some(number) = left.pop() {
            if !self.has_page(number) || !pages.insert(number) {
                continue;
            }
            let Some(page) = self.read(number) else { continue };
            let below = Layout::new(number, &page).map(|layout| layout.children(&page)).unwrap_or_default();
            left.extend(below.into_iter().filter(|number| !pages.contains(number)));
        }
        pages
    }

    fn schema_entry(&self, record: &Record) -> Option<SchemaEntry> {
        let [kind, name, table, root_page, sql] = record.values.as_slice() else { return None };
        let text = |value: &Value| match value {
            Value::Text(text) => self.encoding().decode(text),
            _ => None,
        };
        let root_page = match root_page {
            Value::Integer(number) => u32::try_from(*number).ok().filter(|number| *number > 0),
            _ => None,
        };
        Some(SchemaEntry {
            kind: text(kind)?,
            name: text(name)?,
            table: text(table)?,
            root_page,
            sql: text(sql),
        })
    }
}
