//! Where broken files are kept, whole: a directory beside the database, named after the moment. The new file is made in it
//! too, and put in place by renaming; a start that finds that cut short goes on with it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::clock::{Clock as _, SystemClock};
use crate::database::{beside, sync_dir};
use crate::permissions::{make_private_directory, private_file};

/// The directory beside the database that holds one of these for each salvage.
const DIRECTORY: &str = "quarantine";
/// A new file that is not whole yet. What is broken still lies where it was.
const DRAFT: &str = "draft.db";
/// A new file that is whole and on the disk. From now on it counts.
const SALVAGED: &str = "salvaged.db";
/// What was saved and what is missing; its first line is the log's.
const REPORT: &str = "report.txt";

/// The files that belong to a database, in the order in which they leave their place: a new database must never meet an old
/// write-ahead log.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// One salvage's place.
#[derive(Debug)]
pub(super) struct Quarantine {
    pub(super) dir: PathBuf,
    database: PathBuf,
}

/// The quarantines beside a database, oldest first.
pub(crate) fn list(database: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(all(database)).into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    dirs
}

fn all(database: &Path) -> PathBuf {
    database.with_file_name(DIRECTORY)
}

/// Goes on with what a kill or a power cut interrupted: a whole new file is put in place, a draft is thrown away. Tells the
/// reports of what was put in place.
pub(super) fn resume(database: &Path) -> io::Result<Vec<String>> {
    let mut reports = Vec::new();
    for dir in list(database) {
        let quarantine = Quarantine { dir, database: database.to_owned() };
        if quarantine.dir.join(SALVAGED).exists() {
            reports.push(quarantine.put_in_place()?);
        } else if quarantine.dir.join(DRAFT).exists() {
            quarantine.give_up()?;
        }
    }
    Ok(reports)
}

impl Quarantine {
    pub(super) fn new(database: &Path) -> io::Result<Self> {
        let when = SystemClock.now().to_string().replace(':', "-");
        let dir = all(database).join(when);
        make_private_directory(&dir)?;
        Ok(Self { dir, database: database.to_owned() })
    }

    pub(super) fn draft(&self) -> PathBuf {
        self.dir.join(DRAFT)
    }

    /// Nothing comes of it: what is broken stays where it is.
    pub(super) fn give_up(&self) -> io::Result<()> {
        let _ = fs::remove_file(self.dir.join(REPORT));
        let _ = fs::remove_file(beside(&self.draft(), "-journal"));
        let _ = fs::remove_file(self.draft());
        fs::remove_dir(&self.dir)
    }

    /// The draft is whole. Once this returns, it is what counts.
    pub(super) fn seal(&self, report: &str) -> io::Result<()> {
        let mut file = private_file().write(true).create(true).truncate(true).open(self.dir.join(REPORT))?;
        file.write_all(report.as_bytes())?;
        file.sync_all()?;
        File::open(self.draft())?.sync_all()?;
        fs::rename(self.draft(), self.dir.join(SALVAGED))?;
        [self.dir.as_path(), &all(&self.database)].into_iter().try_for_each(sync_dir)?;
        self.database.parent().map_or(Ok(()), sync_dir)
    }

    /// The broken files move in, the new one takes their place. Tells the report's first line.
    pub(super) fn put_in_place(&self) -> io::Result<String> {
        for suffix in SUFFIXES {
            let broken = beside(&self.database, suffix);
            let kept = self.dir.join(broken.file_name().unwrap_or_default());
            // One that is kept already was broken; what lies in its place has come since.
            if broken.exists() && !kept.exists() {
                fs::rename(&broken, kept)?;
            }
        }
        let home = self.database.parent().unwrap_or(Path::new("."));
        sync_dir(&self.dir)?;
        sync_dir(home)?;
        let report = fs::read_to_string(self.dir.join(REPORT)).unwrap_or_default();
        fs::rename(self.dir.join(SALVAGED), &self.database)?;
        sync_dir(&self.dir)?;
        sync_dir(home)?;
        Ok(report.lines().next().unwrap_or_default().to_owned())
    }
}
