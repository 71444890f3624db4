//! Where recordings are kept: a folder of the data directory, or a bucket of an object store that speaks S3.

use std::ffi::OsString;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, ObjectStore, RetryConfig};
use uuid::Uuid;

use super::Name;
use crate::config::{AudioStore, Config, S3};
use crate::error::Failure;

/// The folder in the data directory.
const FOLDER: &str = "audio";

/// Bytes written at once. Where it is S3, no part but the last may be smaller than this.
const FOLDER_PART: usize = 256 << 10;
const S3_PART: usize = 5 << 20;

/// An object store that says nothing for so long has failed. Somebody waits for the answer.
const SILENCE: &str = "20s";
const FOR_EVER: &str = "1day";
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(15);

/// Whose recordings of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Folder {
    pub(crate) session_id: Uuid,
    /// The user for whom they were accepted. `None` if a key named a session that this node did not know: they are the stored
    /// session's user's.
    pub(crate) owner: Option<Uuid>,
}

/// A place for recordings.
pub(super) struct Place {
    pub(super) objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// `None` where it is no folder.
    folder: Option<PathBuf>,
}

impl Place {
    /// The place that the settings name. It is not asked whether it is there.
    pub(super) fn of(config: &Config) -> Result<Self, Failure> {
        match &config.audio_store {
            AudioStore::Folder => Self::folder(&config.data_dir),
            AudioStore::S3(s3) => Self::s3(s3),
        }
    }

    pub(super) fn folder(data_dir: &FilePath) -> Result<Self, Failure> {
        // The folder itself is made with the first recording: a full disk must not keep the server from starting.
        let objects = LocalFileSystem::new_with_prefix(data_dir).map_err(Failure::new)?.with_fsync(true);
        let folder = Some(data_dir.join(FOLDER));
        Ok(Self { objects: Arc::new(objects), prefix: Path::from(FOLDER), folder })
    }

    fn s3(s3: &S3) -> Result<Self, Failure> {
        let failed = |error: object_store::Error| Failure::usage(format!("audio_store: {error}"));
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
        let mut builder = usual(s3.keys.is_some()).with_bucket_name(&s3.bucket).with_retry(retry);
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
        // The library asks the process for its crypto; a second call finds it there.
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

    /// What all recordings begin with.
    pub(super) fn root(&self) -> &Path {
        &self.prefix
    }

    /// What all recordings of a session begin with.
    pub(super) fn of_session(&self, session_id: Uuid) -> Path {
        self.prefix.clone().join(session_id.to_string())
    }

    /// Where a recording lies. Two users whose claims to a session are not settled yet have folders of their own; what a key
    /// adds to a session that this node does not know lies in the session's.
    pub(super) fn of_recording(&self, Folder { session_id, owner }: Folder, name: Name) -> Path {
        let session = self.of_session(session_id);
        let folder = owner.map_or(session.clone(), |owner| session.join(owner.to_string()));
        folder.join(name.to_string())
    }

    /// Whose a recording is, as far as its path tells.
    pub(super) fn owner_of(&self, recording: &Path) -> Option<Uuid> {
        let mut parts = recording.prefix_match(&self.prefix)?;
        let (_session, owner) = (parts.next()?, parts.next()?);
        parts.next()?;
        owner.as_ref().parse().ok()
    }

    /// Where a session's recordings lie, where it is a folder.
    pub(super) fn session_folder(&self, session_id: Uuid) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(session_id.to_string()))
    }

    /// Where the recordings of one claim lie, if it is a folder.
    pub(super) fn claim_folder(&self, Folder { session_id, owner }: Folder) -> Option<PathBuf> {
        let folder = self.session_folder(session_id)?;
        Some(owner.map_or(folder.clone(), |owner| folder.join(owner.to_string())))
    }

    /// The folders of all sessions.
    pub(super) fn session_folders(&self) -> Vec<(Uuid, PathBuf)> {
        let Some(entries) = self.folder.as_ref().and_then(|folder| fs::read_dir(folder).ok()) else {
            return Vec::new();
        };
        let session = |entry: fs::DirEntry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()));
        entries.flatten().filter_map(session).collect()
    }
}

/// What the usual variables of AWS say. A session's token belongs to the key that stands beside it.
fn usual(has_own_key: bool) -> AmazonS3Builder {
    let named = |(name, value): (OsString, OsString)| {
        let name = name.to_str()?.strip_prefix("AWS_")?.to_ascii_lowercase();
        Some((format!("aws_{name}").parse().ok()?, value.into_string().ok()?))
    };
    let wanted = |(key, _): &(AmazonS3ConfigKey, String)| !has_own_key || *key != AmazonS3ConfigKey::Token;
    let variables = std::env::vars_os().filter_map(named).filter(wanted);
    let builder =
        variables.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    // A recording may take as long as its reader does: what counts is that something comes.
    builder
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), FOR_EVER)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ReadTimeout), SILENCE)
}

/// Removes what uploads that were cut off have left in a session's folder, and the folder if that was all. Their files bear a
/// number after the name.
pub(super) fn sweep(folder: &FilePath) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            removed += sweep(&entry.path())?;
        } else if entry.file_name().to_string_lossy().contains('#') {
            fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    let _ = fs::remove_dir(folder);
    Ok(removed)
}

/// Removes a session's folder with whatever is in it, for good: also a power cut does not bring it back.
pub(super) fn remove(folder: &FilePath) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match folder.parent().map(fs::File::open) {
        Some(Ok(parent)) => parent.sync_all(),
        _ => Ok(()),
    }
}
