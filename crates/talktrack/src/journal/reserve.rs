//! The disk reserve. Deleting rows from a SQLite file first needs space for the WAL, so that on a full disk nothing
//! could free space. Therefore a preallocated file next to the database holds some disk space. The journal removes this
//! file when no other space is left.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::database;
use crate::journal::Journal;
use crate::permissions::private_file;

/// As much as the longest WAL may need, plus one batch.
const WANTED: u64 = 20 << 20;
/// On a small disk, the reserve takes one part in this many of the free space.
const SHARE: u64 = 4;

/// The file that holds the space.
#[derive(Debug)]
pub(super) struct DiskReserve {
    path: PathBuf,
    /// The size of the file in bytes.
    held: u64,
}

impl DiskReserve {
    /// Returns the reserve of this database, as it exists on disk.
    pub(super) fn for_database(file: &Path) -> Self {
        let path = database::sibling_path(file, "-reserve");
        let held = fs::metadata(&path).map_or(0, |found| found.len());
        Self { path, held }
    }

    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Grows the reserve to its proper size, if the disk has that much space to spare.
    pub(super) fn grow(&mut self) {
        let fair = WANTED.min((self.free_bytes() + self.held) / SHARE);
        if fair > self.held {
            self.resize(fair);
        }
    }

    /// Releases the reserve and returns its size in bytes.
    pub(super) fn release(&mut self) -> u64 {
        let lent = self.held;
        self.resize(0);
        lent
    }

    /// Takes the released space back, or as much of it as is left.
    pub(super) fn reclaim(&mut self, lent: u64) {
        let mut wanted = lent;
        while self.held < wanted {
            self.resize(wanted);
            wanted /= 2;
        }
    }

    /// Reserves this many bytes, or none if the file system cannot guarantee them.
    fn resize(&mut self, bytes: u64) {
        self.held = 0;
        let kept = bytes > 0 && self.allocate(bytes).is_ok();
        if kept {
            self.held = bytes;
        } else {
            // The file may not exist. If it cannot be removed, that is no worse than a full disk.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        let file = private_file().create(true).truncate(false).write(true).open(&self.path)?;
        Ok(fallocate(&file, FallocateFlags::empty(), 0, bytes)?)
    }

    fn free_bytes(&self) -> u64 {
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        statvfs(dir.unwrap_or(Path::new("."))).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

impl Journal {
    /// Checkpoints the WAL and truncates it. A failure is ignored: the next write then needs more space, and may fail.
    pub(super) fn checkpoint_wal(&self) {
        if let Err(error) = database::checkpoint_truncate(&self.connection) {
            tracing::debug!(%error, "the log of the journal's file stays as long as it is");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_way_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("x.db");
        let mut reserve = DiskReserve::for_database(&database);
        assert_eq!(reserve.held(), 0);
        reserve.grow();
        let (file, held) = (dir.path().join("x.db-reserve"), reserve.held());
        let size = || fs::metadata(&file).map(|found| found.len()).ok();
        assert_eq!((held > 0, size()), (true, Some(held)));
        assert_eq!((reserve.release(), size()), (held, None));
        reserve.reclaim(held);
        assert_eq!(size(), Some(held));
        assert_eq!(DiskReserve::for_database(&database).held(), held);
    }
}
