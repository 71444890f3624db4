//! The files of the audit log: `audit.jsonl` is the current one; rotated files have a number appended, higher for older
//! files.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Entry;
use crate::config::AuditFiles;

/// The name of the current file in the data directory.
const FILE_NAME: &str = "audit.jsonl";

/// The audit file, opened on first use.
pub(super) struct AuditFile {
    path: PathBuf,
    /// When to rotate; `None` for a command, which leaves rotation to the server.
    kept: Option<AuditFiles>,
    open: Option<Opened>,
    /// True if the last entry could not be written. The failure was logged once.
    is_failing: bool,
}

struct Opened {
    file: File,
    inode: u64,
    bytes: u64,
}

impl Opened {
    /// Ends an incomplete line, which a full disk may have left, so that the next entry starts on its own line.
    fn end_torn_line(&mut self) -> io::Result<()> {
        let Some(last) = self.bytes.checked_sub(1) else { return Ok(()) };
        let mut byte = [0];
        self.file.read_exact_at(&mut byte, last)?;
        if byte != *b"\n" {
            self.file.write_all(b"\n")?;
            self.bytes += 1;
        }
        Ok(())
    }
}

impl AuditFile {
    pub(super) fn new(data_dir: &Path, kept: AuditFiles) -> Self {
        Self { path: data_dir.join(FILE_NAME), kept: Some(kept), open: None, is_failing: false }
    }

    /// Makes an audit file for a command: it appends, but never rotates.
    pub(super) fn beside_a_server(data_dir: &Path) -> Self {
        Self { path: data_dir.join(FILE_NAME), kept: None, open: None, is_failing: false }
    }

    /// Appends a line. Returns false if the disk does not accept it; the first failure is logged.
    pub(super) fn append(&mut self, entry: &Entry) -> bool {
        let mut line = serde_json::to_vec(entry).unwrap_or_default();
        line.push(b'\n');
        match self.try_append(&line) {
            Ok(()) if self.is_failing => {
                self.is_failing = false;
                tracing::info!("the audit log can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.open = None;
                if !self.is_failing {
                    let shown = self.path.display();
                    tracing::error!(
                        "the audit log {shown} cannot be written: {error}; the server continues without it, and counts the lost entries"
                    );
                }
                self.is_failing = true;
                return false;
            }
        }
        true
    }

    pub(super) fn sync(&mut self) {
        let synced = self.open.as_ref().map_or(Ok(()), |open| open.file.sync_data());
        if let Err(error) = synced {
            tracing::error!("the audit log cannot be synced: {error}");
            self.open = None;
        }
    }

    fn try_append(&mut self, line: &[u8]) -> io::Result<()> {
        let length = line.len() as u64;
        if self.kept.is_some_and(|kept| self.bytes() > 0 && self.bytes() + length > kept.file_bytes) {
            self.rotate()?;
        }
        let open = self.opened()?;
        // One write call for each line, so that lines of a server and of commands are not interleaved.
        open.file.write_all(line)?;
        open.bytes += length;
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.bytes)
    }

    /// Returns the open file. Opens it again if it was moved away or removed.
    fn opened(&mut self) -> io::Result<&mut Opened> {
        let there = fs::metadata(&self.path).ok().map(|metadata| metadata.ino());
        let open = match self.open.take().filter(|open| there == Some(open.inode)) {
            Some(open) => open,
            None => {
                // A command of another user, such as root, must not create the file: the server could not open it.
                let may_create = self.kept.is_some() || self.path.parent().is_some_and(is_ours);
                let mut options = OpenOptions::new();
                let file = options.read(true).append(true).create(may_create).mode(0o600).open(&self.path)?;
                let metadata = file.metadata()?;
                let mut open = Opened { file, inode: metadata.ino(), bytes: metadata.len() };
                open.end_torn_line()?;
                open
            }
        };
        Ok(self.open.insert(open))
    }

    /// Renames each file to the next higher number, and removes the oldest.
    fn rotate(&mut self) -> io::Result<()> {
        self.sync();
        self.open = None;
        let Some(kept) = self.kept else { return Ok(()) };
        let named = |number: usize| numbered(&self.path, number);
        let oldest = kept.files.saturating_sub(1);
        for number in (0..=oldest).rev() {
            let moved = match number == oldest {
                true => fs::remove_file(named(number)),
                false => fs::rename(named(number), named(number + 1)),
            };
            match moved {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_ours(dir: &Path) -> bool {
    fs::metadata(dir).is_ok_and(|metadata| metadata.uid() == rustix::process::getuid().as_raw())
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => PathBuf::from(format!("{}.{number}", path.display())),
    }
}

/// Returns the existing audit files of a data directory, oldest first.
pub(crate) fn audit_files(data_dir: &Path) -> Vec<PathBuf> {
    let path = data_dir.join(FILE_NAME);
    let mut files: Vec<PathBuf> =
        (0..).map(|number| numbered(&path, number)).take_while(|path| path.exists()).collect();
    files.reverse();
    files
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::audit::Actor;

    fn entry(number: u64) -> Entry {
        Entry::new(Actor::Server, "test", None).count(number)
    }

    #[test]
    fn files_are_rotated_by_size_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AuditFile::new(dir.path(), AuditFiles { file_bytes: 300, files: 3 });
        for number in 0..20 {
            assert!(file.append(&entry(number)));
        }
        let files = audit_files(dir.path());
        assert_eq!(files.len(), 3);
        let text: String = files.iter().map(|path| fs::read_to_string(path).unwrap()).collect();
        let counts: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["count"].as_u64().unwrap())
            .collect();
        let first = counts[0];
        assert!(first > 0 && counts == (first..20).collect::<Vec<_>>(), "{counts:?}");
        for path in files {
            let metadata = fs::metadata(path).unwrap();
            assert!(metadata.len() <= 300 && metadata.permissions().mode() & 0o777 == 0o600);
        }
    }

    #[test]
    fn a_line_that_a_full_disk_took_half_of_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "{\"at\":\"2026-").unwrap();
        let mut file = AuditFile::new(dir.path(), AuditFiles { file_bytes: 1 << 20, files: 3 });
        assert!(file.append(&entry(1)) && file.append(&entry(2)));
        let text = fs::read_to_string(dir.path().join(FILE_NAME)).unwrap();
        let whole = text.lines().filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok());
        assert_eq!((text.lines().count(), whole.count()), (3, 2), "{text}");
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AuditFile::new(dir.path(), AuditFiles { file_bytes: 1 << 20, files: 3 });
        assert!(file.append(&entry(1)));
        fs::rename(dir.path().join(FILE_NAME), dir.path().join("elsewhere")).unwrap();
        assert!(file.append(&entry(2)));
        assert!(fs::read_to_string(dir.path().join(FILE_NAME)).unwrap().contains(r#""count":2"#));
    }
}
