//! Database files that this process keeps open next to SQLite until it ends. Closing one of them would release every
//! lock that SQLite holds on that file for this process (POSIX requires this).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use parking_lot::Mutex;

static OPEN: Mutex<Vec<&'static File>> = Mutex::new(Vec::new());

/// Returns the file at this path, opened for reading and writing.
///
/// # Errors
/// If the file cannot be opened.
pub(crate) fn open_file(path: &Path) -> io::Result<&'static File> {
    let found = std::fs::metadata(path)?;
    let is_it = |file: &File| {
        file.metadata().is_ok_and(|known| (known.dev(), known.ino()) == (found.dev(), found.ino()))
    };
    let mut open = OPEN.lock();
    if let Some(file) = open.iter().copied().find(|file| is_it(file)) {
        return Ok(file);
    }
    let file: &'static File = Box::leak(Box::new(OpenOptions::new().read(true).write(true).open(path)?));
    open.push(file);
    Ok(file)
}

/// True if this file descriptor number from `/proc/self/fd` is one of them.
pub(crate) fn contains(number: &str) -> bool {
    OPEN.lock().iter().any(|file| file.as_raw_fd().to_string() == number)
}
