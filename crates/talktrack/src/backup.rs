//! Copies a database file while another process writes to it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::local::database::{self, sync_dir};
use crate::local::tables::directory;
use crate::permissions::private_file;

/// The pause before the next attempt while the database is locked.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Copies the database to a new file, as it is at one moment, and checks the copy. Everything that was durable before the
/// call is in it. The copy counts as another data directory: the first server that opens it gets another node id.
///
/// # Errors
/// If the target exists, a file cannot be read or written, or the copy is damaged because the database is.
pub fn back_up(database: &Path, target: &Path) -> io::Result<()> {
    drop(private_file().write(true).create_new(true).open(target)?);
    copy_pages(database, target).map_err(io::Error::other)?;
    File::open(target)?.sync_all()?;
    target.parent().map_or(Ok(()), sync_dir)
}

fn copy_pages(database: &Path, target: &Path) -> rusqlite::Result<()> {
    let source = database::open_to_read(database)?;
    let mut copy = Connection::open(target)?;
    {
        let backup = Backup::new(&source, &mut copy)?;
        // All pages in one step, which is one transaction of the reader: a copy in several steps would begin again after each
        // commit of the other process.
        while backup.step(-1)? != StepResult::Done {
            std::thread::sleep(RETRY_PAUSE);
        }
    }
    // The copy has no log of its own until a server opens it.
    copy.pragma_update(None, "journal_mode", "DELETE")?;
    directory::give_up_node(&copy)?;
    let found: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" {
        return Ok(());
    }
    let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    Err(rusqlite::Error::SqliteFailure(damage, Some(format!("the copy is damaged: {found}"))))
}
