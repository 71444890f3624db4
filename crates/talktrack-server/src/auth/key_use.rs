//! Records when and from which address each API key was last used. The records are kept in a small file of the data
//! directory, which is written at most once a minute: a crash loses at most one minute of them.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use talktrack::Timestamp;
use talktrack::clock::{Clock as _, SystemClock};

use super::keys::id_of;

/// The name of the file in the data directory.
const FILE: &str = "key-use.json";

/// The last use of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastUse {
    pub(crate) name: String,
    pub(crate) at: Timestamp,
    pub(crate) from: Option<IpAddr>,
}

/// The last use of each key, by the id in the key.
pub(crate) struct KeyUses {
    path: PathBuf,
    uses: Mutex<BTreeMap<String, LastUse>>,
    has_changed: AtomicBool,
}

impl KeyUses {
    /// Reads the file of this data directory. Starts empty if the file cannot be read.
    pub(crate) fn open(data_dir: &Path) -> Self {
        let path = data_dir.join(FILE);
        let uses = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        Self { path, uses: Mutex::new(uses.unwrap_or_default()), has_changed: AtomicBool::new(false) }
    }

    /// Returns the last use of the key with this hash.
    pub(crate) fn last_use(&self, digest: &[u8; 32]) -> Option<LastUse> {
        self.uses.lock().get(&id_of(digest)).cloned()
    }

    /// Records that a key is used now.
    pub(super) fn note_use(&self, digest: [u8; 32], name: &str, from: Option<IpAddr>) {
        let used = LastUse { name: name.to_owned(), at: SystemClock.now(), from };
        self.uses.lock().insert(id_of(&digest), used);
        self.has_changed.store(true, Ordering::Relaxed);
    }

    /// Writes the file if there is something new. A failed write is logged and tried again the next time.
    pub(super) fn save(&self) {
        if !self.has_changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let text = serde_json::to_vec_pretty(&*self.uses.lock()).unwrap_or_default();
        let draft = self.path.with_extension("tmp");
        let write = || {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?.write_all(&text)?;
            fs::rename(&draft, &self.path)
        };
        if let Err(error) = write() {
            self.has_changed.store(true, Ordering::Relaxed);
            tracing::warn!("cannot write {}: {error}", self.path.display());
        }
    }
}
