//! The quarantine: a directory next to the database that keeps broken files complete, with one subdirectory
//! per salvage, named after its time. The new file is built there too, and moved into place by renaming. If
//! that is interrupted, the next start finishes it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use talktrack_core::clock::{Clock as _, SystemClock};

use crate::local::database::{sibling_path, sync_dir};
use crate::permissions::{make_private_directory, private_file};
use crate::salvage::losses;

/// The directory next to the database that contains one subdirectory for each salvage.
const DIRECTORY: &str = "quarantine";
/// A new file that is incomplete. The broken files are still in their place.
const DRAFT: &str = "draft.db";
/// A new file that is complete and synced to disk. From now on it is valid.
const SALVAGED: &str = "salvaged.db";
/// The report of what was saved and what is missing. Its first line is also logged.
const REPORT: &str = "report.txt";

/// The files of a database, in the order in which they are moved away: a new database must never meet an
/// old write-ahead log.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// The directory of one salvage.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub(super) dir: PathBuf,
    database: PathBuf,
}

/// Returns the quarantine's directories, oldest first.
pub(crate) fn list_dirs(database: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(quarantine_root(database)).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

fn quarantine_root(database: &Path) -> PathBuf {
    database.with_file_name(DIRECTORY)
}

/// Finishes what a kill or a power cut interrupted: a complete new file is put into place, a draft is
/// deleted. Returns the reports of the files that were put into place.
pub(super) fn finish_interrupted(database: &Path) -> io::Result<Vec<String>> {
    let mut reports = Vec::new();
    for dir in list_dirs(database) {
        let quarantine = Quarantine { dir, database: database.to_owned() };
        if quarantine.dir.join(SALVAGED).exists() {
            reports.push(quarantine.put_in_place()?);
        } else if quarantine.dir.join(DRAFT).exists() {
            quarantine.abandon()?;
        }
    }
    Ok(reports)
}

impl Quarantine {
    pub(super) fn new(database: &Path) -> io::Result<Self> {
        let when = SystemClock.now().to_string().replace(':', "-");
        let dir = quarantine_root(database).join(when);
        make_private_directory(&dir)?;
        Ok(Self { dir, database: database.to_owned() })
    }

    pub(super) fn draft_path(&self) -> PathBuf {
        self.dir.join(DRAFT)
    }

    /// Abandons the salvage: the broken files stay in their place.
    pub(super) fn abandon(&self) -> io::Result<()> {
        let _ = fs::remove_file(self.dir.join(REPORT));
        let _ = fs::remove_file(sibling_path(&self.draft_path(), "-journal"));
        let _ = fs::remove_file(self.draft_path());
        fs::remove_dir(&self.dir)
    }

    /// Marks the draft as complete. Once this returns, the new file is valid.
    pub(super) fn seal(&self, report: &str) -> io::Result<()> {
        let mut file = private_file().write(true).create(true).truncate(true).open(self.dir.join(REPORT))?;
        file.write_all(report.as_bytes())?;
        file.sync_all()?;
        File::open(self.draft_path())?.sync_all()?;
        fs::rename(self.draft_path(), self.dir.join(SALVAGED))?;
        [self.dir.as_path(), &quarantine_root(&self.database)].into_iter().try_for_each(sync_dir)?;
        self.database.parent().map_or(Ok(()), sync_dir)
    }

    /// Moves the broken files into the quarantine and the new file into their place. Returns the first line
    /// of the report.
    pub(super) fn put_in_place(&self) -> io::Result<String> {
        for suffix in SUFFIXES {
            let broken = sibling_path(&self.database, suffix);
            let kept = self.dir.join(broken.file_name().unwrap_or_default());
            // If the quarantine already has the file, that was the broken one; the file in its place was
            // created later.
            if broken.exists() && !kept.exists() {
                fs::rename(&broken, kept)?;
            }
        }
        let home = self.database.parent().unwrap_or(Path::new("."));
        sync_dir(&self.dir)?;
        sync_dir(home)?;
        let report = fs::read_to_string(self.dir.join(REPORT)).unwrap_or_default();
        let when = self.dir.file_name().unwrap_or_default().to_string_lossy();
        losses::note(&self.database, &when, &report)?;
        fs::rename(self.dir.join(SALVAGED), &self.database)?;
        sync_dir(&self.dir)?;
        sync_dir(home)?;
        Ok(report.lines().next().unwrap_or_default().to_owned())
    }
}
