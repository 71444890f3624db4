//! The disk reserve. Deleting rows from a SQLite file first needs space for the WAL, so that on a full disk nothing
//! could free space. Therefore a preallocated file next to the database holds some disk space. The journal removes this
//! file when no other space is left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::local::database;
use crate::permissions::private_file;

/// As much as the longest WAL may need, plus one batch.
const WANTED: u64 = 20 << 20;
/// On a small disk, the reserve takes one part in this many of the free space.
const SHARE: u64 = 4;
/// How often the reserve is compared with the free space.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The file that holds the space.
#[derive(Debug)]
pub(crate) struct DiskReserve {
    path: PathBuf,
    /// The size of the file in bytes.
    held: u64,
    /// When the size was last compared with the free space.
    checked: Instant,
}

impl DiskReserve {
    /// Returns the reserve of this database, as it exists on disk.
    pub(crate) fn for_database(file: &Path) -> Self {
        let path = database::sibling_path(file, "-reserve");
        let held = fs::metadata(&path).map_or(0, |found| found.len());
        Self { path, held, checked: Instant::now() }
    }

    /// Grows the reserve to its proper size, if the disk has that much space to spare.
    pub(crate) fn grow(&mut self) {
        let fair = self.fair_size();
        let before = self.held;
        if fair > before {
            self.resize(fair);
        }
        if self.held < before {
            // Another process took the free space in the meantime.
            self.resize(before);
        }
    }

    /// Releases the reserve and returns its size in bytes.
    pub(crate) fn release(&mut self) -> u64 {
        let lent = self.held;
        self.resize(0);
        lent
    }

    /// Takes the released space back, or as much of it as is left.
    pub(crate) fn reclaim(&mut self, lent: u64) {
        let mut wanted = lent;
        while self.held < wanted {
            self.resize(wanted);
            wanted /= 2;
        }
    }

    /// Grows a reserve that is too small, because the disk was full earlier and has room again. Compares the sizes at most
    /// once in [`CHECK_INTERVAL`]. Returns true if the reserve grew.
    pub(crate) fn grow_if_due(&mut self) -> bool {
        if self.checked.elapsed() < CHECK_INTERVAL {
            return false;
        }
        self.checked = Instant::now();
        let before = self.held;
        if self.fair_size() >= before + database::BATCH_BYTES {
            self.grow();
        }
        self.held > before
    }

    /// Limits the WAL so that the reserve is enough to checkpoint all of it. Without a reserve, or if the limit cannot be
    /// set, the former limit stays: records that are committed already do not depend on it.
    pub(crate) fn limit_wal(&self, connection: &Connection) {
        if self.held > 0
            && let Err(error) = database::limit_wal(connection, self.held)
        {
            tracing::debug!(%error, "cannot limit the journal's write-ahead log");
        }
    }

    fn fair_size(&self) -> u64 {
        WANTED.min((self.free_bytes() + self.held) / SHARE)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_way_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("x.db");
        let mut reserve = DiskReserve::for_database(&database);
        assert_eq!(reserve.held, 0);
        reserve.grow();
        let file = dir.path().join("x.db-reserve");
        let held = reserve.held;
        let size = || fs::metadata(&file).map(|found| found.len()).ok();
        assert_eq!((held > 0, size()), (true, Some(held)));
        assert_eq!((reserve.release(), size()), (held, None));
        reserve.reclaim(held);
        assert_eq!(size(), Some(held));
        assert_eq!(DiskReserve::for_database(&database).held, held);
    }

    #[test]
    fn a_reserve_that_lost_its_space_grows_when_the_disk_has_room() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = DiskReserve::for_database(&dir.path().join("x.db"));
        reserve.grow();
        let held = reserve.held;
        reserve.release();
        assert!(!reserve.grow_if_due(), "it was checked just now");
        reserve.checked -= CHECK_INTERVAL;
        assert!(reserve.grow_if_due());
        assert_eq!(reserve.held, held);
        reserve.checked -= CHECK_INTERVAL;
        assert!(!reserve.grow_if_due(), "it has its full size");
    }
}
