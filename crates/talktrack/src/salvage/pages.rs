//! Reads the pages of a database file that SQLite may no longer be able to read, each in its last committed
//! state.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::salvage::bytes::{read_available, read_be16, read_be32};
use crate::salvage::wal::{DEFAULT_PAGE_SIZE, Wal};

/// The bytes before the first page's own header.
pub(super) const FILE_HEADER: usize = 100;

pub(super) struct Pages {
    /// `None` if only the write-ahead log exists.
    file: Option<File>,
    log: Wal,
    pub(super) size: usize,
    /// Number of pages in the file.
    in_file: u32,
}

impl Pages {
    /// Opens the database at `path` with its write-ahead log.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = match File::open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let log = Wal::read(path)?;
        let bytes = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
        let size = read_page_size(file.as_ref())?.or(log.page_size).unwrap_or(DEFAULT_PAGE_SIZE);
        let in_file = u32::try_from(bytes.div_ceil(size as u64)).unwrap_or(u32::MAX);
        Ok(Self { file, log, size, in_file })
    }

    /// Returns the numbers of all existing pages: those in the file, and those after its end that only the
    /// log has. A broken frame may claim more, up to four thousand million, which would all be looked for
    /// in vain.
    pub(super) fn page_numbers(&self) -> impl Iterator<Item = u32> {
        (1..=self.in_file).chain(self.log.pages_after(self.in_file))
    }

    /// Reads a page; missing bytes are zero. `None` if the page does not exist, or cannot be read from
    /// disk.
    pub(super) fn read(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; self.size];
        if self.log.read_page(number, &mut page).unwrap_or(false) {
            return Some(page);
        }
        let place = u64::from(number.checked_sub(1)?) * self.size as u64;
        let read = read_available(self.file.as_ref()?, place, &mut page).ok()?;
        (read > 0).then_some(page)
    }

    /// Returns the free pages, whose content was deleted.
    pub(super) fn free_pages(&self) -> HashSet<u32> {
        let mut free = HashSet::new();
        let mut trunk = self.read(1).map_or(0, |page| read_be32(&page, 32));
        while trunk != 0 && free.insert(trunk) {
            let Some(page) = self.read(trunk) else { break };
            let listed = (read_be32(&page, 4) as usize).min(self.size / 4 - 2);
            free.extend((0..listed).map(|index| read_be32(&page, 8 + 4 * index)));
            trunk = read_be32(&page, 0);
        }
        free
    }
}

/// Returns the page size from the file's header, if it is plausible.
fn read_page_size(file: Option<&File>) -> io::Result<Option<usize>> {
    let mut header = [0; FILE_HEADER];
    let Some(file) = file else { return Ok(None) };
    read_available(file, 0, &mut header)?;
    let size = read_be16(&header, 16);
    let plausible = header.starts_with(b"SQLite format 3\0") && size.is_power_of_two() && size >= 512;
    Ok(plausible.then_some(size))
}
