//! The place where recordings are stored: a folder of the data directory, or a bucket of an object store with the S3
//! protocol.

use std::ffi::OsString;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use talktrack::{SessionId, UserId};

use super::RecordingName;
use crate::config::{AudioStore, Config, S3};
use crate::error::Failure;

/// The name of the folder in the data directory.
const FOLDER: &str = "audio";

/// The bytes that are written at once. S3 requires at least 5 MiB for every part but the last.
const FOLDER_PART: usize = 256 << 10;
const S3_PART: usize = 5 << 20;

/// An object store that sends nothing for [`SILENCE`] has failed, because a client waits for the answer. The total time
/// of a request is practically unlimited ([`FOR_EVER`]).
const SILENCE: &str = "20s";
const FOR_EVER: &str = "1day";
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(15);

/// The folder of a recording: its session and the user it was accepted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) session_id: SessionId,
    /// The user that the recordings were accepted for. `None` if a key named a session that this node did not know: the
    /// recordings then belong to the user of the stored session.
    pub(crate) owner: Option<UserId>,
}

/// A place where recordings are stored.
pub(super) struct RecordingStore {
    pub(super) objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The folder; `None` for an object store.
    folder: Option<PathBuf>,
}

impl RecordingStore {
    /// Opens the place that the settings name. Does not check whether it can be reached.
    pub(super) fn open(config: &Config) -> Result<Self, Failure> {
        match &config.audio_store {
            AudioStore::Folder => Self::in_folder(&config.data_dir),
            AudioStore::S3(s3) => Self::in_s3(s3),
        }
    }

    pub(super) fn in_folder(data_dir: &FilePath) -> Result<Self, Failure> {
        // The folder is created with the first recording, so that a full disk does not keep the server from starting.
        let objects = LocalFileSystem::new_with_prefix(data_dir).map_err(Failure::new)?.with_fsync(true);
        let folder = Some(data_dir.join(FOLDER));
        Ok(Self { objects: Arc::new(objects), prefix: Path::from(FOLDER), folder })
    }

    fn in_s3(s3: &S3) -> Result<Self, Failure> {
        let failed = |error: object_store::Error| Failure::usage(format!("audio_store: {error}"));
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
        let mut builder =
            builder_from_environment(s3.keys.is_some()).with_bucket_name(&s3.bucket).with_retry(retry);
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
            builder = builder.with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &s3.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &s3.keys {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret.reveal());
        }
        // The library uses the crypto provider of the process. A second installation fails and changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let objects = Arc::new(builder.build().map_err(failed)?);
        Ok(Self { objects, prefix: Path::from(s3.prefix.as_str()), folder: None })
    }

    pub(super) fn is_folder(&self) -> bool {
        self.folder.is_some()
    }

    pub(super) fn part_bytes(&self) -> usize {
        if self.is_folder() { FOLDER_PART } else { S3_PART }
    }

    /// Returns the common prefix of all recordings.
    pub(super) fn root(&self) -> &Path {
        &self.prefix
    }

    /// Returns the common prefix of a session's recordings.
    pub(super) fn session_path(&self, session_id: SessionId) -> Path {
        self.prefix.clone().join(session_id.to_string())
    }

    /// Returns the path of a recording. Each claim of a user to a session has its own folder, because the store may not
    /// have decided yet whose the session is. Recordings that a key adds to a session that this node does not know are
    /// stored directly under the session.
    pub(super) fn recording_path(&self, Folder { session_id, owner }: &Folder, name: RecordingName) -> Path {
        let session = self.session_path(*session_id);
        let folder = owner.as_ref().map_or(session.clone(), |owner| session.join(owner.to_string()));
        folder.join(name.to_string())
    }

    /// Returns the user that a recording belongs to, if its path tells.
    pub(super) fn owner_of(&self, recording: &Path) -> Option<UserId> {
        let mut parts = recording.prefix_match(&self.prefix)?;
        let _session = parts.next()?;
        let owner = parts.next()?;
        parts.next()?;
        owner.as_ref().parse().ok()
    }

    /// Returns the folder of a session; `None` for an object store.
    pub(super) fn session_folder(&self, session_id: SessionId) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(session_id.to_string()))
    }

    /// Returns the folder of one claim; `None` for an object store.
    pub(super) fn claim_folder(&self, Folder { session_id, owner }: &Folder) -> Option<PathBuf> {
        let folder = self.session_folder(*session_id)?;
        Some(owner.as_ref().map_or(folder.clone(), |owner| folder.join(owner.to_string())))
    }

    /// Returns the folders of all sessions; none for an object store.
    pub(super) fn session_folders(&self) -> Vec<(SessionId, PathBuf)> {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else {
            return Vec::new();
        };
        let session = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
        entries.flatten().filter_map(session).collect()
    }
}

/// Configures a client from the usual AWS variables. If the settings have their own key, the session token of the
/// variables is ignored, because it belongs to the key of the variables.
fn builder_from_environment(has_own_key: bool) -> AmazonS3Builder {
    let named = |(name, value): (OsString, OsString)| {
        let name = name.to_str()?.strip_prefix("AWS_")?.to_ascii_lowercase();
        Some((format!("aws_{name}").parse().ok()?, value.into_string().ok()?))
    };
    let wanted = |(key, _): &(AmazonS3ConfigKey, String)| !has_own_key || *key != AmazonS3ConfigKey::Token;
    let variables = std::env::vars_os().filter_map(named).filter(wanted);
    let builder =
        variables.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    // A download may take as long as its reader needs, so the limit is on silence rather than on the total time.
    builder
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), FOR_EVER)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout), SILENCE)
}

/// Removes files of interrupted uploads from a session's folder, and the folder if it is then empty. Such files have a
/// `#` and a number after the name. Returns how many files were removed.
pub(super) fn remove_drafts(folder: &FilePath) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += remove_drafts(&entry.path())?;
        } else if entry.file_name().to_string_lossy().contains('#') {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    let _ = fs::remove_dir(folder);
    Ok(removed)
}

/// Removes a session's folder with its contents, and syncs the parent folder, so that a power failure does not bring
/// the folder back.
pub(super) fn remove_folder(folder: &FilePath) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match folder.parent().map(fs::File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        _ => Ok(()),
    }
}
