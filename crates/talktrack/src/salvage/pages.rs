//! The pages of a database file that SQLite may no longer be able to read, each as it was when it was last committed.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::salvage::bytes::{be16, be32, fill};
use crate::salvage::wal::{Log, USUAL_PAGE};

/// Bytes before the first page's own header.
pub(super) const FILE_HEADER: usize = 100;

pub(super) struct Pages {
    /// None where only the write-ahead log is there.
    file: Option<File>,
    log: Log,
    pub(super) size: usize,
    /// How many there are in the file.
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
        let log = Log::read(path)?;
        let bytes = file.as_ref().map_or(Ok(0), |file| file.metadata().map(|metadata| metadata.len()))?;
        let size = page_size(file.as_ref())?.or(log.page_size).unwrap_or(USUAL_PAGE);
        let in_file = u32::try_from(bytes.div_ceil(size as u64)).unwrap_or(u32::MAX);
        Ok(Self { file, log, size, in_file })
    }

    /// The pages that are there: those of the file, and those behind it that only the log has. Whatever else is said to be
    /// there, by a broken frame perhaps, would be looked for in vain, four thousand million times.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        (1..=self.in_file).chain(self.log.pages_behind(self.in_file))
    }

    /// A page; what is not there of it is zeros. None where there is nothing, or the disk does not give it.
    pub(super) fn read(&self, number: u32) -> Option<Vec<u8>> {
        let mut page = vec![0; self.size];
        if self.log.page(number, &mut page).unwrap_or(false) {
            return Some(page);
        }
        let place = u64::from(number.checked_sub(1)?) * self.size as u64;
        let read = fill(self.file.as_ref()?, place, &mut page).ok()?;
        (read > 0).then_some(page)
    }

    /// Pages that are free: what is on them was deleted.
    pub(super) fn free(&self) -> HashSet<u32> {
        let mut free = HashSet::new();
        let mut trunk = self.read(1).map_or(0, |page| be32(&page, 32));
        while trunk != 0 && free.insert(trunk) {
            let Some(page) = self.read(trunk) else { break };
            let listed = (be32(&page, 4) as usize).min(self.size / 4 - 2);
            free.extend((0..listed).map(|index| be32(&page, 8 + 4 * index)));
            trunk = be32(&page, 0);
        }
        free
    }
}

/// What the file's header says, where it can be true.
fn page_size(file: Option<&File>) -> io::Result<Option<usize>> {
    let mut header = [0; FILE_HEADER];
    let Some(file) = file else { return Ok(None) };
    fill(file, 0, &mut header)?;
    let size = be16(&header, 16);
    let plausible = header.starts_with(b"SQLite format 3\0") && size.is_power_of_two() && size >= 512;
    Ok(plausible.then_some(size))
}
