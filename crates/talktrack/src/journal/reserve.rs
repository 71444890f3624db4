//! Room kept back on the journal's disk. Whoever takes rows out of a SQLite file needs room for its log first, so that a full
//! disk would keep everybody from making room. A file full of nothing lies beside the database therefore, and makes way
//! where there is no other room left.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::database;
use crate::permissions::private_file;

/// As much as the log may need at its longest, and a batch on top.
const WANTED: u64 = 20 << 20;
/// A small disk gives up this part of what is free.
const SHARE: u64 = 4;

/// The file that keeps the room.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// Its bytes.
    held: u64,
}

impl Reserve {
    /// The one beside this database, as it is found.
    pub(super) fn beside(file: &Path) -> Self {
        let path = database::beside(file, "-reserve");
        let held = fs::metadata(&path).map_or(0, |found| found.len());
        Self { path, held }
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Takes what it should have, where the disk can spare that.
    pub(super) fn grow(&mut self) {
        let fair = WANTED.min((self.free() + self.held) / SHARE);
        if fair > self.held {
            self.keep(fair);
        }
    }

    /// Makes way, and says how much room that is.
    pub(super) fn make_way(&mut self) -> u64 {
        let lent = self.held;
        self.keep(0);
        lent
    }

    /// Takes back what it made way for, or what is left of that.
    pub(super) fn take_back(&mut self, lent: u64) {
        let mut wanted = lent;
        while self.held < wanted {
            self.keep(wanted);
            wanted /= 2;
        }
    }

    /// Keeps so many bytes, or none where the system does not promise them.
    fn keep(&mut self, bytes: u64) {
        self.held = 0;
        let kept = bytes > 0 && self.allocate(bytes).is_ok();
        if kept {
            self.held = bytes;
        } else {
            // It may not be there; what cannot be removed is no worse than a full disk.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        let file = private_file().create(true).truncate(false).write(true).open(&self.path)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
    }

    fn free(&self) -> u64 {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        statvfs(dir.unwrap_or(Path::new("."))).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_way_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("x.db");
        let mut reserve = Reserve::beside(&database);
        assert_eq!(reserve.held(), 0);
        reserve.grow();
        let (file, held) = (dir.path().join("x.db-reserve"), reserve.held());
        let size = || fs::metadata(&file).map(|found| found.len()).ok();
        assert_eq!((held > 0, size()), (true, Some(held)));
        assert_eq!((reserve.make_way(), size()), (held, None));
        reserve.take_back(held);
        assert_eq!(size(), Some(held));
        assert_eq!(Reserve::beside(&database).held(), held);
    }
}
