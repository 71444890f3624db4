//! Reads the totals of the file, and notes damage.

use std::path::Path;

use rusqlite::Connection;

use crate::local::database;

/// What an operator can do about damage.
pub(super) const REMEDY: &str = "restart the server, which saves what can be read";

/// Notes damage for the next start of the process that writes the file.
pub(super) fn note_damage(connection: &Connection, damage: &str) {
    connection.path().iter().for_each(|path| database::mark_suspect(Path::new(path), damage));
}
