//! What a reader does if the file is damaged.

use std::path::Path;

use rusqlite::Connection;

use crate::local::database;

/// Notes damage for the next start of the process that writes the file.
pub(super) fn note_damage(connection: &Connection, damage: &str) {
    connection.path().iter().for_each(|path| database::mark_suspect(Path::new(path), damage));
}
