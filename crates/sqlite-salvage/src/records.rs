//! The records of a database, in the order of its pages.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::io;

use crate::cells::Layout;
use crate::database::Database;
use crate::value::Value;

/// A row of a table, or an entry of an index.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Record {
    /// The number of the page that has the record. The first page is 1. [`Database::tree`] says which pages belong to a
    /// table.
    pub page: u32,
    /// The rowid. Entries of indexes and rows of `WITHOUT ROWID` tables have none.
    pub rowid: Option<i64>,
    /// The values, in the order in which they are stored. A row has fewer values than its table has columns if it was
    /// written before a column was added. The values of an index entry are the indexed columns and the rowid. The row of
    /// a `WITHOUT ROWID` table begins with the columns of its primary key.
    pub values: Vec<Value>,
}

/// What cannot be read, although there is something.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unreadable {
    /// A row of a table, or an entry of an index, contradicts itself, or a part of it is missing.
    Record {
        /// The number of the page. The first page is 1.
        page: u32,
        /// The number of the cell on the page. The first cell is 0.
        cell: usize,
        /// True if the record is a row of a table that has rowids.
        is_row: bool,
    },
    /// The system cannot read a page from the disk.
    Page {
        /// The number of the page. The first page is 1.
        page: u32,
        /// The answer of the system.
        source: io::Error,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record { page, cell, is_row: true } => write!(f, "row {cell} on page {page} is damaged"),
            Self::Record { page, cell, is_row: false } => {
                write!(f, "index entry {cell} on page {page} is damaged")
            }
            Self::Page { page, source } => write!(f, "page {page} cannot be read from disk: {source}"),
        }
    }
}

impl Error for Unreadable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Page { source, .. } => Some(source),
            Self::Record { .. } => None,
        }
    }
}

/// The records of pages, page by page, and in the order of the b-tree on each page.
///
/// Returned by [`Database::records`] and [`Database::records_on`].
pub struct Records<'d> {
    database: &'d Database,
    numbers: Box<dyn Iterator<Item = u32> + Send>,
    current: Option<CurrentPage>,
}

struct CurrentPage {
    number: u32,
    layout: Layout,
    bytes: Vec<u8>,
    /// The next cell.
    next: usize,
}

impl Database {
    /// Iterates over every record that can still be read, in ascending order of pages: rows of all tables, entries of all
    /// indexes, and the schema (whose rows are on page 1 and below it). An error stands for one record or one page; the
    /// iterator continues after it.
    pub fn records(&self) -> Records<'_> {
        let free = if self.reads_free_pages { HashSet::new() } else { self.free_pages() };
        self.records_on(self.page_numbers().filter(move |number| !free.contains(number)))
    }

    /// Iterates over the records on these pages, in this order. With the pages of a [`Database::tree`], these are the rows
    /// of one table. Pages that do not exist are skipped.
    pub fn records_on<P>(&self, pages: P) -> Records<'_>
    where
        P: IntoIterator<Item = u32>,
        P::IntoIter: Send + 'static,
    {
        Records { database: self, numbers: Box::new(pages.into_iter()), current: None }
    }
}

impl Records<'_> {
    /// Reads the next page that has records. `None` at the end.
    fn next_page(&mut self) -> Option<Result<CurrentPage, Unreadable>> {
        loop {
            let number = self.numbers.next()?;
            let bytes = match self.database.try_read(number) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(source) => return Some(Err(Unreadable::Page { page: number, source })),
            };
            if let Some(layout) = Layout::new(number, &bytes).filter(Layout::has_records) {
                return Some(Ok(CurrentPage { number, layout, bytes, next: 0 }));
            }
        }
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(page) = &mut self.current
                && page.next < page.layout.cells
            {
                let cell = page.next;
                page.next += 1;
                return Some(match page.layout.record(self.database, &page.bytes, cell) {
                    Some((rowid, values)) => Ok(Record { page: page.number, rowid, values }),
                    None => {
                        let is_row = page.layout.has_rowids();
                        Err(Unreadable::Record { page: page.number, cell, is_row })
                    }
                });
            }
            self.current = match self.next_page()? {
                Ok(page) => Some(page),
                Err(unreadable) => return Some(Err(unreadable)),
            };
        }
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("page", &self.current.as_ref().map(|page| page.number))
            .finish_non_exhaustive()
    }
}
