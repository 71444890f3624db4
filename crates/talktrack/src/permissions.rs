//! File permissions: only the owner may read what talktrack writes, because nearly every file holds transcripts.

use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// The mode of a new file, even if the umask allows more.
const FILE_MODE: u32 = 0o600;
/// The mode of a new directory.
const DIRECTORY_MODE: u32 = 0o700;
/// The permission bits of the group and of all other users.
const OTHERS: u32 = 0o077;
/// The sticky bit, which is set on directories that many users share, such as `/tmp`.
const STICKY: u32 = 0o1000;

/// The directories that talktrack creates in a data directory, and the one that file systems put there. If there is any
/// other directory, another program uses the data directory too, and its users may need access.
const KNOWN_DIRECTORIES: [&str; 8] =
    ["audio", "quarantine", "salvage", "backups", "audit", "deleted-users", "control.new", "lost+found"];

/// Returns options that create a file that only its owner can access.
pub fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE_MODE);
    options
}

/// Creates a directory that only its owner can access, and its missing parents.
///
/// # Errors
/// The error of the operating system.
pub fn make_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)
}

/// Creates an empty file that only its owner can access, if there is none. SQLite opens a database with the permissions
/// that it finds, and gives its WAL the same.
pub(crate) fn make_private_file(path: &Path) -> io::Result<()> {
    private_file().write(true).create(true).truncate(false).open(path).map(drop)
}

/// Removes the permissions of the group and of all other users from a file or a directory.
///
/// # Errors
/// If the file belongs to another user or does not exist.
pub fn tighten(path: &Path) -> io::Result<()> {
    tighten_found(path, &fs::metadata(path)?)
}

fn tighten_found(path: &Path, found: &Metadata) -> io::Result<()> {
    let mode = found.mode() & 0o7777;
    if mode & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS))
}

/// Removes the permissions of all other users from a data directory and its content. Returns a sentence for each path
/// that stays accessible to others. Such a path does not make a start fail.
pub fn tighten_data_directory(dir: &Path) -> Vec<String> {
    let mut open = Vec::new();
    let mut is_shared = fs::metadata(dir).is_ok_and(|found| found.mode() & STICKY != 0);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_known = KNOWN_DIRECTORIES.iter().any(|known| name == *known);
        // Symbolic links are followed for the known directories only: the recordings may be on another disk.
        let found = if is_known { fs::metadata(entry.path()) } else { entry.metadata() };
        match found {
            Ok(found) if found.is_dir() && is_known => tighten_tree(&entry.path(), &found, &mut open),
            Ok(found) if found.is_dir() => is_shared = true,
            Ok(found) if !found.is_symlink() => tighten_or_tell(&entry.path(), &found, &mut open),
            _ => {}
        }
    }
    match fs::metadata(dir) {
        Ok(found) if is_shared && found.mode() & OTHERS != 0 => {
            let what = "holds the files of other programs too, so other users may still enter it";
            open.push(format!("{} {what}; give talktrack a directory of its own", dir.display()));
        }
        Ok(found) => tighten_or_tell(dir, &found, &mut open),
        Err(_) => {}
    }
    open
}

fn tighten_tree(dir: &Path, found: &Metadata, open: &mut Vec<String>) {
    tighten_or_tell(dir, found, open);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => tighten_tree(&entry.path(), &found, open),
            Ok(found) if !found.is_symlink() => tighten_or_tell(&entry.path(), &found, open),
            _ => {}
        }
    }
}

fn tighten_or_tell(path: &Path, found: &Metadata, open: &mut Vec<String>) {
    if let Err(error) = tighten_found(path, found) {
        // Files may be removed during the scan.
        if error.kind() != io::ErrorKind::NotFound {
            let path = path.display();
            let mode = found.mode() & 0o777;
            open.push(format!(
                "other users may read {path} (mode {mode:o}), and its mode cannot be changed: {error}; run: chmod go= {path}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn open_to_all(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_could_read_is_its_owners_alone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir_all(dir.join("audio/session")).unwrap();
        for file in ["talktrack.db", "talktrack.db-wal", "audio/session/one.wav"] {
            fs::write(dir.join(file), "words").unwrap();
            open_to_all(&dir.join(file), 0o666);
        }
        for directory in ["audio/session", "audio", "."] {
            open_to_all(&dir.join(directory), 0o755);
        }
        assert_eq!(tighten_data_directory(dir), Vec::<String>::new());
        for (path, expected) in [
            (".", 0o700),
            ("talktrack.db", 0o600),
            ("talktrack.db-wal", 0o600),
            ("audio", 0o700),
            ("audio/session", 0o700),
            ("audio/session/one.wav", 0o600),
        ] {
            assert_eq!(mode(&dir.join(path)), expected, "{path}");
        }
    }

    #[test]
    fn a_directory_of_other_programs_stays_as_it_is_and_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        fs::create_dir(dir.join("www")).unwrap();
        fs::write(dir.join("talktrack.db"), "words").unwrap();
        open_to_all(&dir.join("talktrack.db"), 0o644);
        open_to_all(&dir.join("www"), 0o755);
        open_to_all(dir, 0o755);
        let told = tighten_data_directory(dir);
        assert!(told.len() == 1 && told[0].contains("a directory of its own"), "{told:?}");
        assert_eq!((mode(dir), mode(&dir.join("www"))), (0o755, 0o755));
        assert_eq!(mode(&dir.join("talktrack.db")), 0o600);
    }
}
