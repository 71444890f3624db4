//! Parses the cells of a page: where they are, and the records in them. (The format:
//! sqlite.org/fileformat2.html, "B-tree Pages" and "Record Format".) No offset and no length is trusted: a
//! record that contradicts itself is unreadable.

use std::collections::HashSet;

use crate::bytes::{read_be16, read_be32, read_varint};
use crate::database::Database;
use crate::header::FILE_HEADER;
use crate::value::Value;

const TABLE_LEAF: u8 = 0x0d;
const TABLE_INTERIOR: u8 = 0x05;
const INDEX_LEAF: u8 = 0x0a;
const INDEX_INTERIOR: u8 = 0x02;

/// SQLite's highest possible limit for columns.
const MAX_COLUMNS: usize = 32_767;

/// The layout of a page of a b-tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    kind: u8,
    /// The place of the page's header.
    start: usize,
    /// The number of cells.
    pub(crate) cells: usize,
}

impl Layout {
    /// Returns the layout of a page, or `None` if it is no page of a b-tree.
    pub(crate) fn new(number: u32, page: &[u8]) -> Option<Self> {
        let start = if number == 1 { FILE_HEADER } else { 0 };
        let kind = *page.get(start)?;
        let layout = Self { kind, start, cells: read_be16(page, start + 3) };
        let room = page.len().saturating_sub(layout.pointers()) / 2;
        let is_known = matches!(kind, TABLE_LEAF | TABLE_INTERIOR | INDEX_LEAF | INDEX_INTERIOR);
        is_known.then(|| Self { cells: layout.cells.min(room), ..layout })
    }

    /// True if the cells of the page contain records.
    pub(crate) fn has_records(&self) -> bool {
        self.kind != TABLE_INTERIOR
    }

    /// True if the records of the page are rows of a table that has rowids.
    pub(crate) fn has_rowids(&self) -> bool {
        self.kind == TABLE_LEAF
    }

    fn is_interior(&self) -> bool {
        matches!(self.kind, TABLE_INTERIOR | INDEX_INTERIOR)
    }

    /// Returns the place of the cell pointers.
    fn pointers(&self) -> usize {
        self.start + if self.is_interior() { 12 } else { 8 }
    }

    /// Returns the bytes from the beginning of a cell on.
    fn cell<'p>(&self, page: &'p [u8], index: usize) -> Option<&'p [u8]> {
        page.get(read_be16(page, self.pointers() + 2 * index)..)
    }

    /// Returns the numbers of the pages below this one.
    pub(crate) fn children(&self, page: &[u8]) -> Vec<u32> {
        if !self.is_interior() {
            return Vec::new();
        }
        let left = (0..self.cells).filter_map(|index| Some(read_be32(self.cell(page, index)?, 0)));
        left.chain([read_be32(page, self.start + 8)]).collect()
    }

    /// Returns the rowid and the values of the record in a cell, or `None` if it is unreadable.
    pub(crate) fn record(
        &self,
        database: &Database,
        page: &[u8],
        index: usize,
    ) -> Option<(Option<i64>, Vec<Value>)> {
        parse_cell(database, self.kind, self.cell(page, index)?)
    }
}

fn parse_cell(pages: &Database, kind: u8, cell: &[u8]) -> Option<(Option<i64>, Vec<Value>)> {
    let cell = cell.get(if kind == INDEX_INTERIOR { 4 } else { 0 }..)?;
    let (length, mut read) = read_varint(cell)?;
    let length = usize::try_from(length).ok()?;
    let mut rowid = None;
    if kind == TABLE_LEAF {
        let (number, more) = read_varint(cell.get(read..)?)?;
        rowid = Some(number.cast_signed());
        read += more;
    }
    let payload = read_payload(pages, kind == TABLE_LEAF, length, cell.get(read..)?)?;
    Some((rowid, parse_values(&payload)?))
}

/// Returns the bytes of a record. A long record continues on overflow pages.
fn read_payload(pages: &Database, in_table: bool, length: usize, cell: &[u8]) -> Option<Vec<u8>> {
    let usable = pages.usable;
    let most = if in_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    if length <= most {
        return cell.get(..length).map(<[u8]>::to_vec);
    }
    if length > pages.max_record_bytes {
        return None;
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let fitting = least + (length - least) % (usable - 4);
    let local = if fitting <= most { fitting } else { least };
    let mut payload = cell.get(..local)?.to_vec();
    let mut next = read_be32(cell.get(local..local + 4)?, 0);
    let mut read = HashSet::new();
    while payload.len() < length {
        // A damaged chain may lead in a circle, and a damaged length may never be reached.
        if !read.insert(next) {
            return None;
        }
        let page = pages.read(next)?;
        let more = (length - payload.len()).min(usable - 4);
        payload.extend_from_slice(&page[4..4 + more]);
        next = read_be32(&page, 0);
    }
    // The last overflow page has no successor. A chain that continues is not trusted.
    (next == 0).then_some(payload)
}

fn parse_values(payload: &[u8]) -> Option<Vec<Value>> {
    let (header, mut place) = read_varint(payload)?;
    let header = usize::try_from(header).ok()?;
    let mut body = header;
    let mut values = Vec::new();
    while place < header {
        if values.len() == MAX_COLUMNS {
            return None;
        }
        let (kind, read) = read_varint(payload.get(place..header)?)?;
        let (value, length) = parse_value(kind, payload.get(body..)?)?;
        values.push(value);
        place += read;
        body += length;
    }
    (place == header && body == payload.len()).then_some(values)
}

/// Reads a value of this serial type, and returns it with its length in bytes.
fn parse_value(kind: u64, bytes: &[u8]) -> Option<(Value, usize)> {
    let length = match kind {
        0 | 8 | 9 => 0,
        1..=4 => usize::try_from(kind).ok()?,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return None,
        _ => usize::try_from((kind - 12) / 2).ok()?,
    };
    let bytes = bytes.get(..length)?;
    let value = match kind {
        0 => Value::Null,
        8 | 9 => Value::Integer(i64::from(kind == 9)),
        7 => Value::Real(f64::from_bits(parse_signed(bytes).cast_unsigned())),
        1..=6 => Value::Integer(parse_signed(bytes)),
        _ if kind.is_multiple_of(2) => Value::Blob(bytes.to_vec()),
        _ => Value::Text(bytes.to_vec()),
    };
    Some((value, length))
}

/// Reads a signed big-endian number of up to 8 bytes.
fn parse_signed(bytes: &[u8]) -> i64 {
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    bytes.iter().fold(if negative { -1 } else { 0 }, |number, byte| number << 8 | i64::from(*byte))
}
