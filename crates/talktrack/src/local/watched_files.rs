//! Checks that the files that the process has open are still the files at their paths. A commit goes to an open file
//! even if its path is gone or leads to another file, and the next start would not find what was acknowledged.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::error::OpenError;
use crate::local::database;

/// The identity of a file, which does not depend on its paths: its device and its inode.
type Identity = (u64, u64);

/// The paths of the files that the journal depends on, and the identity of each at the start.
#[derive(Debug)]
pub(crate) struct WatchedFiles {
    files: Vec<WatchedFile>,
}

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    what: &'static str,
    identity: Identity,
}

impl WatchedFiles {
    /// Records the current identities while the files are open. `locks` are the lock files that this process holds.
    ///
    /// # Errors
    /// If one of the files is already gone.
    pub(crate) fn record(data_dir: &Path, file: &Path, locks: Vec<(PathBuf, Identity)>) -> io::Result<Self> {
        let here = Path::new(".");
        let data_dir = if data_dir.as_os_str().is_empty() { here } else { data_dir };
        let mut files = vec![
            WatchedFile::new(data_dir.to_owned(), "the data directory")?,
            WatchedFile::new(file.to_owned(), "the database file")?,
        ];
        // SQLite keeps both files for as long as a connection is open.
        for (suffix, what) in [("-wal", "the write-ahead log"), ("-shm", "the index of the write-ahead log")]
        {
            match WatchedFile::new(database::sibling_path(file, suffix), what) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                place => files.push(place?),
            }
        }
        let locks = locks.into_iter();
        files.extend(locks.map(|(path, identity)| WatchedFile { path, what: "the lock file", identity }));
        Ok(Self { files })
    }

    /// Compares every path with its identity at the start. This takes about a microsecond per path.
    ///
    /// # Errors
    /// The first path that leads to another file, as a sentence that says what to do.
    pub(crate) fn check(&self) -> Result<(), String> {
        self.files.iter().try_for_each(WatchedFile::check)
    }
}

impl WatchedFile {
    fn new(path: PathBuf, what: &'static str) -> io::Result<Self> {
        let identity = identity_of(&path)?;
        Ok(Self { path, what, identity })
    }

    fn check(&self) -> Result<(), String> {
        let became = match identity_of(&self.path) {
            Ok(identity) if identity == self.identity => return Ok(()),
            Ok(_) => "was replaced".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is gone".to_owned(),
            Err(error) => format!("cannot be found ({error})"),
        };
        let Self { path, what, .. } = self;
        Err(format!(
            "{what} {} {became} while talktrack runs: nothing is acknowledged any more; put it back, or restart talktrack, \
             which then uses the files that it finds",
            path.display()
        ))
    }
}

/// Returns the identity of the file at a path.
pub(crate) fn identity_of(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Refuses what is not a file, and a database file that is also in another directory. The lock of one directory does not keep out the server of
/// the other, and each would use a WAL of its own for the same file.
///
/// # Errors
/// Names the file and says what to do.
pub(crate) fn refuse_unusable_file(file: &Path) -> Result<(), OpenError> {
    let refused = |problem: String| Err(OpenError::UnusableFile { path: file.to_owned(), problem });
    let Ok(found) = fs::metadata(file) else { return Ok(()) };
    if !found.is_file() {
        return refused("is not a file; remove it, or choose another data_dir".to_owned());
    }
    if found.nlink() > 1 {
        return refused(format!(
            "has {} names (hard links), so that another directory may use the same file with its own write-ahead log; remove the \
             others, or make it a file of its own with cp and mv",
            found.nlink()
        ));
    }
    if is_mount_point(file) {
        return refused(
            "is mounted by itself, so that its write-ahead log stays behind in the container and is lost with it; mount the \
             whole data directory instead"
                .to_owned(),
        );
    }
    Ok(())
}

/// True if exactly this path is a mount point. Always false on systems without `/proc`.
fn is_mount_point(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().filter_map(mount_point).any(|mounted| Path::new(&mounted) == path)
}

/// Returns the fifth field of a line of mountinfo, in which blanks and backslashes are octal escapes.
fn mount_point(line: &str) -> Option<String> {
    let field = line.split(' ').nth(4)?;
    let mut parts = field.split('\\');
    let mut path = parts.next()?.to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(char::from(code?));
        path.push_str(&part[3..]);
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_that_leads_elsewhere_is_noticed() {
        for replaced in ["x.db", "x.db-wal", "x.db-shm", "LOCK"] {
            for by_another in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let at = |name: &str| dir.path().join(name);
                ["x.db", "x.db-wal", "x.db-shm", "LOCK"]
                    .iter()
                    .for_each(|name| fs::write(at(name), "").unwrap());
                let lock = (at("LOCK"), identity_of(&at("LOCK")).unwrap());
                let files = WatchedFiles::record(dir.path(), &at("x.db"), vec![lock]).unwrap();
                assert_eq!(files.check(), Ok(()));
                fs::rename(at(replaced), at("elsewhere")).unwrap();
                if by_another {
                    fs::write(at(replaced), "").unwrap();
                }
                let problem = files.check().unwrap_err();
                let became = if by_another { "was replaced" } else { "is gone" };
                assert!(problem.contains(replaced) && problem.contains(became), "{problem}");
                fs::rename(at("elsewhere"), at(replaced)).unwrap();
                assert_eq!(files.check(), Ok(()), "it was put back");
            }
        }
    }

    #[test]
    fn a_file_with_two_names_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let one = dir.path().join("one.db");
        let other = dir.path().join("other.db");
        fs::write(&one, "").unwrap();
        assert!(refuse_unusable_file(&one).is_ok());
        fs::hard_link(&one, &other).unwrap();
        let refused = refuse_unusable_file(&one).unwrap_err().to_string();
        assert!(refused.contains("has 2 names"), "{refused}");
    }

    #[test]
    fn the_path_of_a_mount_is_read_with_its_blanks() {
        let line = "36 35 98:0 /mnt1 /data\\040dir/talk\\134track.db rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line).as_deref(), Some("/data dir/talk\\track.db"));
        assert_eq!(mount_point("nonsense"), None);
    }
}
