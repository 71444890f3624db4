//! The list of losses: a text file next to the database, with one line for each damage that cost something. It stays when
//! people delete the broken files, so that an audit of the books can say what they no longer count.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::permissions::private_file;
use crate::salvage::report::NOTHING_MISSING;

/// The name of the file.
const FILE_NAME: &str = "losses.txt";

fn path(database: &Path) -> PathBuf {
    database.with_file_name(FILE_NAME)
}

/// Adds the damage with this report, unless nothing is known to be missing. `when` is the time of the salvage. Adding it
/// again changes nothing.
pub(super) fn note(database: &Path, when: &str, report: &str) -> io::Result<()> {
    let summary = report.lines().next().unwrap_or_default();
    let line = format!("{when}: {summary}");
    if summary.contains(NOTHING_MISSING) || read(database).contains(&line) {
        return Ok(());
    }
    let mut file = private_file().append(true).create(true).open(path(database))?;
    writeln!(file, "{line}")?;
    file.sync_all()
}

/// Returns the lines, oldest first.
pub(super) fn read(database: &Path) -> Vec<String> {
    fs::read_to_string(path(database)).unwrap_or_default().lines().map(str::to_owned).collect()
}
