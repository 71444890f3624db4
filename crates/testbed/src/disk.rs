//! A small disk for tests that fill it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A file system in memory. It is unmounted when dropped.
pub struct SmallDisk(TempDir);

impl SmallDisk {
    /// Mounts a disk of this many MiB, for the account that owns these files. `None` if this process may
    /// not mount anything.
    pub fn for_owner_of(files: &Path, mebibytes: u32) -> Option<Self> {
        let place = tempfile::tempdir().expect("a temporary directory can be made");
        let owner = fs::metadata(files).expect("the files are there");
        let options = format!("size={mebibytes}m,mode=700,uid={},gid={}", owner.uid(), owner.gid());
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place.path()).output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self(place))
    }

    /// Returns the mount point.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()), "{:?} is still mounted", self.0);
    }
}
