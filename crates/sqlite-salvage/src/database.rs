//! Reads the pages of a database file that SQLite may no longer be able to read, each in its last committed
//! state.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::bytes::{read_available, read_be32};
use crate::error::OpenError;
use crate::header::{FILE_HEADER, Header, is_page_size};
use crate::value::Encoding;
use crate::wal::{Wal, sibling_path};

/// SQLite's default page size, which is assumed if neither the file nor its log says another one.
const DEFAULT_PAGE_SIZE: usize = 4096;

/// SQLite's default limit for a row.
const DEFAULT_MAX_RECORD_BYTES: usize = 1_000_000_000;

/// How a damaged database is read. The defaults are right unless the header is damaged.
#[derive(Debug, Clone)]
pub struct Options {
    page_size: Option<usize>,
    reserved_bytes: Option<u8>,
    max_record_bytes: usize,
    reads_free_pages: bool,
}

impl Options {
    /// Returns the defaults.
    pub fn new() -> Self {
        let max_record_bytes = DEFAULT_MAX_RECORD_BYTES;
        Self { page_size: None, reserved_bytes: None, max_record_bytes, reads_free_pages: false }
    }

    /// Sets the size of a page in bytes, instead of the one that the files say. Without this, it comes from the write-ahead
    /// log if that has an intact header, else from the file's header, else it is 4,096.
    #[must_use]
    pub fn page_size(self, bytes: usize) -> Self {
        Self { page_size: Some(bytes), ..self }
    }

    /// Sets the number of bytes at the end of each page that SQLite did not use, instead of the one in the header. It is
    /// 0 unless the database was written with an extension that needs room on each page.
    #[must_use]
    pub fn reserved_bytes(self, bytes: u8) -> Self {
        Self { reserved_bytes: Some(bytes), ..self }
    }

    /// Sets the size in bytes from which a record counts as unreadable. The default is SQLite's, 1,000,000,000. A record
    /// is never larger than the files, but the length in a damaged one may claim that it is as large.
    #[must_use]
    pub fn max_record_bytes(self, bytes: usize) -> Self {
        Self { max_record_bytes: bytes, ..self }
    }

    /// Sets whether the pages on the freelist are read, too. They have rows that were deleted, if SQLite did not overwrite
    /// them. A damaged freelist may also list pages that are in use. The default is false.
    #[must_use]
    pub fn read_free_pages(self, read: bool) -> Self {
        Self { reads_free_pages: read, ..self }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

/// A database that is read without SQLite: the file, and the newer pages of its write-ahead log.
///
/// The value only holds files open for reading. It may be shared between threads.
#[derive(Debug)]
pub struct Database {
    /// `None` if only the write-ahead log exists.
    file: Option<File>,
    log: Wal,
    pub(crate) size: usize,
    /// The bytes of a page without the reserved ones at its end.
    pub(crate) usable: usize,
    pub(crate) max_record_bytes: usize,
    pub(crate) reads_free_pages: bool,
    encoding: Encoding,
    has_valid_header: bool,
    /// Number of pages in the file.
    in_file: u32,
}

impl Database {
    /// Opens the database at `path` with its write-ahead log. The file may be missing if the log exists.
    ///
    /// # Errors
    /// If no file exists, or the system cannot read one of them. Damage is no error.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Self::open_with(path, &Options::new())
    }

    /// Opens the database as [`Database::open`] does, with other options.
    ///
    /// # Errors
    /// As [`Database::open`], and if the page size of the options is impossible.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, OpenError> {
        let path = path.as_ref();
        if let Some(bytes) = options.page_size.filter(|bytes| !is_page_size(*bytes)) {
            return Err(OpenError::InvalidPageSize(bytes));
        }
        let file = open_file(path)?;
        let beside = ["-wal", "-shm"].map(|suffix| sibling_path(path, suffix));
        if file.is_none() && !beside.iter().any(|file| file.exists()) {
            return Err(OpenError::NotFound(path.to_owned()));
        }
        let failed = |path: PathBuf| |source| OpenError::Io { path, source };
        let mut header = [0; FILE_HEADER];
        let bytes = match &file {
            None => 0,
            Some(file) => read_available(file, 0, &mut header)
                .and_then(|_| file.metadata())
                .map_err(failed(path.to_owned()))?
                .len(),
        };
        let in_header = options.page_size.or(Header::parse(&header).page_size);
        let log = Wal::read(path, in_header.unwrap_or(DEFAULT_PAGE_SIZE))
            .map_err(failed(sibling_path(path, "-wal")))?;
        let size = options.page_size.or(log.page_size()).or(in_header).unwrap_or(DEFAULT_PAGE_SIZE);
        let in_file = u32::try_from(bytes.div_ceil(size as u64)).unwrap_or(u32::MAX);
        let mut database = Self {
            file,
            log,
            size,
            usable: size,
            max_record_bytes: options.max_record_bytes,
            reads_free_pages: options.reads_free_pages,
            encoding: Encoding::default(),
            has_valid_header: false,
            in_file,
        };
        // The log may have a newer first page, which also has the header.
        let header = Header::parse(&database.read(1).unwrap_or_default());
        let reserved = options.reserved_bytes.or(header.reserved_bytes).unwrap_or(0);
        database.usable = size - usize::from(reserved);
        database.encoding = header.encoding.unwrap_or_default();
        database.has_valid_header = header.is_valid();
        Ok(database)
    }

    /// Returns the size of a page in bytes.
    pub fn page_size(&self) -> usize {
        self.size
    }

    /// Returns the encoding of all text. If the header does not say it, this is UTF-8.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// True if the file's header is plausible. Otherwise the page size, the encoding and the reserved bytes may have been
    /// guessed: set them in [`Options`] if you know better.
    pub fn has_valid_header(&self) -> bool {
        self.has_valid_header
    }

    /// Returns the write-ahead log.
    pub fn wal(&self) -> &Wal {
        &self.log
    }

    /// Returns the numbers of all existing pages: those in the file, and those after its end that only the
    /// log has. A broken frame may claim more, up to four thousand million, which would all be looked for
    /// in vain.
    pub(crate) fn page_numbers(&self) -> impl Iterator<Item = u32> + use<> {
        (1..=self.in_file).chain(self.log.pages_after(self.in_file))
    }

    /// True if the file or the log has this page.
    pub(crate) fn has_page(&self, number: u32) -> bool {
        (1..=self.in_file).contains(&number) || self.log.has_page(number)
    }

    /// Reads a page; missing bytes are zero. `None` if the page does not exist, or cannot be read from
    /// disk.
    pub(crate) fn read(&self, number: u32) -> Option<Vec<u8>> {
        self.try_read(number).ok().flatten()
    }

    /// Reads a page; missing bytes are zero. `None` if the page does not exist.
    ///
    /// # Errors
    /// If the page cannot be read from disk.
    pub(crate) fn try_read(&self, number: u32) -> io::Result<Option<Vec<u8>>> {
        let mut page = vec![0; self.size];
        if self.log.read_page(number, &mut page).unwrap_or(false) {
            return Ok(Some(page));
        }
        let (Some(file), Some(before)) = (&self.file, number.checked_sub(1)) else { return Ok(None) };
        // An attempt to read the log may have filled a part.
        page.fill(0);
        let read = read_available(file, u64::from(before) * self.size as u64, &mut page)?;
        Ok((read > 0).then_some(page))
    }

    /// Returns the free pages, whose content was deleted.
    pub(crate) fn free_pages(&self) -> HashSet<u32> {
        let mut free = HashSet::new();
        let mut trunk = self.read(1).map_or(0, |page| read_be32(&page, 32));
        while trunk != 0 && free.insert(trunk) {
            let Some(page) = self.read(trunk) else { break };
            let listed = (read_be32(&page, 4) as usize).min(self.usable / 4 - 2);
            let listed = (0..listed).map(|index| read_be32(&page, 8 + 4 * index));
            free.extend(listed.filter(|number| self.has_page(*number)));
            trunk = read_be32(&page, 0);
        }
        free
    }
}

fn open_file(path: &Path) -> Result<Option<File>, OpenError> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}
