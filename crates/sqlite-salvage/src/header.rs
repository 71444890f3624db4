//! The header of a database file. Each field is judged by itself, because the others may be damaged.

use crate::bytes::{read_be16, read_be32};
use crate::value::Encoding;

/// The bytes before the first page's own header.
pub(crate) const FILE_HEADER: usize = 100;

/// SQLite refuses a database whose pages have fewer usable bytes.
const MIN_USABLE: usize = 480;

/// The fields of a header that are plausible.
#[derive(Debug)]
pub(crate) struct Header {
    /// The size of a page in bytes.
    pub(crate) page_size: Option<usize>,
    /// The bytes at the end of each page that SQLite does not use.
    pub(crate) reserved_bytes: Option<u8>,
    pub(crate) encoding: Option<Encoding>,
}

impl Header {
    /// Parses the first 100 bytes of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        if !bytes.starts_with(b"SQLite format 3\0") {
            return Self { page_size: None, reserved_bytes: None, encoding: None };
        }
        let page_size = match read_be16(bytes, 16) {
            1 => 65_536,
            size => size,
        };
        let page_size = is_page_size(page_size).then_some(page_size);
        let reserved_bytes = bytes.get(20).copied().filter(|reserved| {
            page_size.is_none_or(|page_size| page_size - usize::from(*reserved) >= MIN_USABLE)
        });
        let encoding = match read_be32(bytes, 56) {
            // A database without tables has no encoding yet.
            0 | 1 => Some(Encoding::Utf8),
            2 => Some(Encoding::Utf16Le),
            3 => Some(Encoding::Utf16Be),
            _ => None,
        };
        Self { page_size, reserved_bytes, encoding }
    }

    /// True if every field is plausible.
    pub(crate) fn is_valid(&self) -> bool {
        self.page_size.is_some() && self.reserved_bytes.is_some() && self.encoding.is_some()
    }
}

/// True if SQLite supports pages of this size.
pub(crate) fn is_page_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && (512..=65_536).contains(&bytes)
}
