//! Recovery of a damaged database file. Damage is noticed when the file is opened; the broken files are
//! kept unchanged in a quarantine, and a new file replaces them with every row that can still be read.
//! Nothing is deleted, and every known loss is reported.
//!
//! The broken file is read page by page, without SQLite, so that rows are found even if the tree above them
//! is broken: the crate `sqlite_salvage` does that. These modules know what the rows mean.

mod check;
mod quarantine;
mod rebuild;
mod totals;
mod losses;
mod report;
mod tables;

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sqlite_salvage::{Database, Options};

use crate::error::OpenError;
use crate::event_log;
use crate::local::database;
use crate::local::tables::directory;
use crate::salvage::check::Finding;
use crate::salvage::quarantine::Quarantine;

/// Opens the file for the one connection that writes. A damaged file is repaired first.
pub(crate) fn open(path: &Path) -> Result<Connection, OpenError> {
    let unusable = |source| OpenError::Io { path: path.to_owned(), source };
    database::rewrite_wal(path)?;
    let resumed = quarantine::finish_interrupted(path).map_err(unusable)?;
    resumed.iter().for_each(|report| event_log::log_salvage(report));
    match check::find_damage(path).map_err(unusable)? {
        Finding::Sound if path.exists() => {}
        Finding::Sound => database::create_file(path)?,
        Finding::Damaged(damage) => replace_damaged(path, &damage)?,
        Finding::Unusable(source) => return Err(OpenError::database(path, source)),
    }
    database::clear_suspicion(path);
    let connection = database::open_to_write(path)?;
    directory::renew_node_id_of_copy(&connection, path)
        .map_err(|source| OpenError::database(path, source))?;
    Ok(connection)
}

/// Returns what was lost with damaged databases that this one has replaced, oldest first: for each of them the time and the
/// first line of its report. They stay known when people delete the broken files.
pub fn known_losses(database_file: &Path) -> Vec<String> {
    losses::read(database_file)
}

/// Returns the directories with broken files, oldest first. People may inspect and delete them.
pub fn quarantines(database_file: &Path) -> Vec<PathBuf> {
    quarantine::list_dirs(database_file)
}

fn replace_damaged(path: &Path, damage: &str) -> Result<(), OpenError> {
    let failed = |source| OpenError::Salvage { path: path.to_owned(), damage: damage.to_owned(), source };
    let quarantine = Quarantine::new(path).map_err(failed)?;
    event_log::log_damage(path, damage);
    if let Err(error) = build_file(path, damage, &quarantine) {
        let _ = quarantine.abandon();
        return Err(failed(error));
    }
    let summary = quarantine.put_in_place().map_err(failed)?;
    event_log::log_salvage(&summary);
    Ok(())
}

/// Builds the new file, complete and synced to disk.
fn build_file(path: &Path, damage: &str, quarantine: &Quarantine) -> io::Result<()> {
    let damaged = read_damaged(path)?;
    let mut saved = rebuild::rebuild(&damaged, &quarantine.draft_path()).map_err(io::Error::other)?;
    saved.missing.log_is_incomplete = damaged.wal().damage().is_some();
    if !saved.is_ours() && path.file_name().is_none_or(|name| name != database::FILE_NAME) {
        return Err(io::Error::other("it holds no rows of talktrack; is it the right file?"));
    }
    if let Ok(broken) = std::fs::metadata(path) {
        std::fs::set_permissions(quarantine.draft_path(), broken.permissions())?;
    }
    quarantine.seal(&saved.write_report(damage, &quarantine.dir))
}

/// Opens a file that may be damaged. talktrack reserves no bytes on a page, so a header that says so is damaged.
fn read_damaged(path: &Path) -> io::Result<Database> {
    Ok(Database::open_with(path, &Options::new().reserved_bytes(0))?)
}
