//! Reads the records on one page of a database file, if they are complete. (The format:
//! sqlite.org/fileformat2.html, "B-tree Pages" and "Record Format".) No offset and no length is trusted: a
//! record that contradicts itself is skipped.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::salvage::bytes::{read_be16, read_be32, read_varint};
use crate::salvage::pages::{FILE_HEADER, Pages};

const TABLE_LEAF: u8 = 0x0d;
const INDEX_LEAF: u8 = 0x0a;
const INDEX_INTERIOR: u8 = 0x02;

/// The value of a column, as its bytes are.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// Text that is no longer valid UTF-8 is passed on unchanged.
impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Integer(number) => ValueRef::Integer(*number),
            Self::Real(number) => ValueRef::Real(*number),
            Self::Text(text) => ValueRef::Text(text),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// A row of a table, or an entry of an index, which has no rowid of its own.
#[derive(Debug)]
pub(super) struct FoundRecord {
    pub(super) rowid: Option<i64>,
    pub(super) values: Vec<Value>,
}

/// The content of a page.
#[derive(Debug, Default)]
pub(super) struct PageRecords {
    pub(super) records: Vec<FoundRecord>,
    /// Number of unreadable rows of tables. Index entries and pages of another kind do not count.
    pub(super) broken: u64,
}

/// Reads all records on a page, if it is of a kind that holds records.
pub(super) fn read_records(pages: &Pages, number: u32, page: &[u8]) -> PageRecords {
    let start = if number == 1 { FILE_HEADER } else { 0 };
    let kind = page[start];
    let pointers = match kind {
        TABLE_LEAF | INDEX_LEAF => start + 8,
        INDEX_INTERIOR => start + 12,
        _ => return PageRecords::default(),
    };
    let room = (page.len() - pointers) / 2;
    let cells = read_be16(page, start + 3).min(room);
    let mut on_page = PageRecords::default();
    for index in 0..cells {
        let cell = read_be16(page, pointers + 2 * index);
        match page.get(cell..).and_then(|cell| parse_cell(pages, kind, cell)) {
            Some(record) => on_page.records.push(record),
            None => on_page.broken += u64::from(kind == TABLE_LEAF),
        }
    }
    on_page
}

fn parse_cell(pages: &Pages, kind: u8, cell: &[u8]) -> Option<FoundRecord> {
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
    Some(FoundRecord { rowid, values: parse_values(&payload)? })
}

/// Returns the bytes of a record. A long record continues on overflow pages.
fn read_payload(pages: &Pages, in_table: bool, length: usize, cell: &[u8]) -> Option<Vec<u8>> {
    let usable = pages.size;
    let most = if in_table { usable - 35 } else { (usable - 12) * 64 / 255 - 23 };
    if length <= most {
        return cell.get(..length).map(<[u8]>::to_vec);
    }
    let least = (usable - 12) * 32 / 255 - 23;
    let fitting = least + (length - least) % (usable - 4);
    let local = if fitting <= most { fitting } else { least };
    let mut payload = cell.get(..local)?.to_vec();
    let mut next = read_be32(cell.get(local..local + 4)?, 0);
    while payload.len() < length {
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
