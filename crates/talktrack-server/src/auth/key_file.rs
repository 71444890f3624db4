//! The file of API keys (`api_keys_file`), with one entry a line in the format of the settings. The server reloads a
//! changed file within seconds, so that keys are added, limited or revoked without a restart. `talktrack keys` edits
//! the file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use crate::config::ApiKey;
use crate::error::Failure;

/// How often the server checks whether the file has changed.
const LOOK: Duration = Duration::from_secs(2);

/// A larger file is not read. An entry takes a few hundred bytes.
const MAX_BYTES: u64 = 8 << 20;

const HEADER: &str = "# API keys of talktrack, one NAME:SCOPES:HASH a line; `talktrack keys new|list|revoke` edits this file.\n\
                      # A running server applies changes within seconds.\n";

/// The file of API keys.
pub(crate) struct KeyFile {
    path: PathBuf,
    /// The state of the file when it was last read.
    seen: Mutex<Option<Stamp>>,
}

/// The attributes that show whether the file has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

impl KeyFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, seen: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all keys of the file; none if the file does not exist.
    ///
    /// # Errors
    /// Names the first invalid line without repeating it, because the line may be a key itself, put there by mistake.
    pub(crate) fn read(&self) -> Result<Vec<ApiKey>, Failure> {
        let mut keys: Vec<ApiKey> = Vec::new();
        for (number, line) in key_lines(&self.read_text()?) {
            let wrong = |why: String| {
                Failure::usage(format!("api_keys_file: {}: line {number}: {why}", self.path.display()))
            };
            let key: ApiKey = line.parse().map_err(wrong)?;
            if keys.iter().any(|other| names_clash(other, &key)) {
                return Err(wrong(format!("two keys are called {}", key.name)));
            }
            keys.push(key);
        }
        Ok(keys)
    }

    /// Returns the keys of all valid lines. An invalid line is named in the log, and its key is not accepted. Returns
    /// `None` if the file cannot be read at all: the previous keys then stay valid.
    pub(super) fn read_leniently(&self) -> Option<Vec<ApiKey>> {
        *self.seen.lock() = self.read_stamp();
        let shown = self.path.display();
        let text = self
            .read_text()
            .inspect_err(|failure| tracing::error!("{failure}; the previous keys stay valid"));
        let mut keys = Vec::new();
        for (number, line) in key_lines(&text.ok()?) {
            match line.parse::<ApiKey>() {
                Ok(key) => keys.push(key),
                Err(why) => tracing::error!("api_keys_file: {shown}: line {number} is ignored: {why}"),
            }
        }
        Some(keys)
    }

    /// Waits until the file differs from what was last read.
    pub(super) async fn wait_for_change(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.read_stamp() != *self.seen.lock() {
                return;
            }
        }
    }

    /// Adds a key.
    ///
    /// # Errors
    /// Fails if a valid key has the same name, or if the file cannot be written.
    pub(crate) fn add_key(&self, key: &ApiKey) -> Result<(), Failure> {
        self.edit_file(|text, keys| {
            if keys.iter().any(|other| names_clash(other, key)) {
                return Err(Failure::usage(format!("--name: a key called {} already exists", key.name)));
            }
            Ok(format!("{text}{key}\n"))
        })
    }

    /// Replaces the entry with the same hash, or adds the entry if there is none.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn put_key(&self, key: &ApiKey) -> Result<(), Failure> {
        self.edit_file(|text, keys| {
            if !keys.iter().any(|other| other.digest == key.digest) {
                return Ok(format!("{text}{key}\n"));
            }
            let is_it = |line: &str| line.trim().parse::<ApiKey>().is_ok_and(|old| old.digest == key.digest);
            let lines = text.lines().map(|line| if is_it(line) { key.to_string() } else { line.to_owned() });
            Ok(lines.map(|line| line + "\n").collect())
        })
    }

    /// Replaces the whole file atomically, so that a reader finds either the old or the new one. A lock on the
    /// directory admits one editor at a time.
    fn edit_file(
        &self,
        change: impl FnOnce(&str, &[ApiKey]) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        let failed =
            |error: io::Error| Failure::new(format!("cannot write {}: {error}", self.path.display()));
        let name = self.path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let dir = match self.path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let held = File::open(dir).map_err(failed)?;
        held.lock().map_err(failed)?;
        let mut text = self.read_text()?;
        match text.is_empty() {
            true => HEADER.clone_into(&mut text),
            false if !text.ends_with('\n') => text.push('\n'),
            false => {}
        }
        let text = change(&text, &self.read()?)?;
        let draft = dir.join(format!(".{}.tmp", name.display()));
        let mode = fs::metadata(&self.path).map_or(0o600, |metadata| metadata.permissions().mode() & 0o777);
        let write = || {
            let _ = fs::remove_file(&draft);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &self.path)?;
            held.sync_all()
        };
        write().map_err(failed)
    }

    fn read_text(&self) -> Result<String, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(format!("cannot read {}: {error}", self.path.display()))
        };
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
            Ok(metadata) if metadata.len() > MAX_BYTES => return Err(failed(&"larger than 8 MiB")),
            _ => {}
        }
        fs::read_to_string(&self.path).map_err(|error| failed(&error))
    }

    fn read_stamp(&self) -> Option<Stamp> {
        let metadata = fs::metadata(&self.path).ok()?;
        Some(Stamp { inode: metadata.ino(), bytes: metadata.len(), modified: metadata.modified().ok() })
    }
}

/// Merges the keys of the settings with those of the file. An entry of the file replaces a key of the settings that has
/// the same hash, so that a key of the settings can be revoked too. If two keys have the same name, the first is kept.
pub(crate) fn merge_keys(configured: &[ApiKey], file: Vec<ApiKey>) -> Vec<ApiKey> {
    let is_replaced = |key: &&ApiKey| file.iter().any(|other| other.digest == key.digest);
    let mut keys: Vec<ApiKey> = configured.iter().filter(|key| !is_replaced(key)).cloned().collect();
    for key in file {
        match keys.iter().any(|other| names_clash(other, &key)) {
            true => {
                tracing::error!("api_keys_file: two keys are called {}; the second is ignored", key.name)
            }
            false => keys.push(key),
        }
    }
    keys
}

/// True if both keys have the same name and neither is revoked. A name in a log line must identify one key, but a new
/// key may take the name of a revoked one.
fn names_clash(one: &ApiKey, other: &ApiKey) -> bool {
    one.name == other.name && one.revoked.is_none() && other.revoked.is_none()
}

/// Returns the lines that contain entries, with their line numbers.
fn key_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::NewKey;

    fn key(name: &str) -> ApiKey {
        NewKey::generate(name.into(), "read".parse().unwrap()).unwrap().entry
    }

    #[test]
    fn a_key_is_added_and_changed_and_comments_stay() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("keys"));
        assert_eq!(file.read().unwrap(), []);
        let one = key("one");
        let other = key("other");
        file.add_key(&one).unwrap();
        let noted = format!("{}# ours\n", fs::read_to_string(file.path()).unwrap());
        fs::write(file.path(), noted).unwrap();
        file.add_key(&other).unwrap();
        assert!(file.add_key(&key("one")).is_err(), "the name is taken");
        let revoked = ApiKey { revoked: "2026-12-01T00:00:00Z".parse().ok(), ..one.clone() };
        file.put_key(&revoked).unwrap();
        assert_eq!(file.read().unwrap(), [revoked.clone(), other.clone()]);
        file.add_key(&key("one")).unwrap();
        assert!(fs::read_to_string(file.path()).unwrap().contains("# ours\n"));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        // An entry with the hash of a key of the settings revokes that key.
        assert_eq!(merge_keys(&[one, other.clone()], vec![revoked.clone()]), [other, revoked]);
    }

    #[test]
    fn a_line_that_cannot_be_read_takes_no_other_key_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("keys"));
        let good = key("good");
        fs::write(file.path(), format!("tt_hunter2\n\n# x\n{good}")).unwrap();
        assert_eq!(file.read_leniently(), Some(vec![good]));
        let why = file.read().unwrap_err().to_string();
        assert!(why.contains("line 1: ") && !why.contains("hunter2"), "{why}");
        fs::remove_file(file.path()).unwrap();
        assert_eq!(file.read_leniently(), Some(vec![]), "a file that is gone has no keys");
        fs::create_dir(file.path()).unwrap();
        assert_eq!(file.read_leniently(), None, "a file that cannot be read says nothing");
    }
}
