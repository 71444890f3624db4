//! Recordings, which the `audio_url` of a message refers to. They are stored in a folder of the data directory or in an
//! object store, under `<session_id>/<name>`. This module checks no permissions: a caller who may use the session may
//! use its recordings.

mod format;
mod name;
mod upload;
mod recording_store;
mod quota;
mod running;
mod failure;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{GetOptions, ObjectStore as _, ObjectStoreExt as _};
use talktrack::{SessionId, Timestamp, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub(crate) use failure::Unavailable;
pub(crate) use format::AudioFormat;
pub(crate) use name::RecordingName;
pub(crate) use quota::{AudioLimits, Quota};
pub(crate) use recording_store::Folder;
pub(crate) use running::Ticket;
pub(crate) use upload::Upload;

use quota::Usage;
use recording_store::RecordingStore;
use running::RunningUploads;

use crate::config::Config;
use crate::error::Failure;

/// The maximum number of concurrent uploads. Each holds up to two parts in memory, of 5 MiB each with S3.
const UPLOADS: usize = 16;

/// How long an upload waits until another one ends.
const QUEUE: Duration = Duration::from_secs(10);

/// The store of recordings. Cheap to clone; all clones refer to the same state.
#[derive(Clone)]
pub(crate) struct Audio(Arc<AudioInner>);

struct AudioInner {
    store: RecordingStore,
    running: RunningUploads,
    usage: Usage,
    free: Arc<Semaphore>,
}

/// The permit for one upload, freed when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
}

impl Audio {
    /// Opens the store that the settings name.
    ///
    /// # Errors
    /// Fails if the settings cannot be valid. This does not check whether the store can be reached.
    pub(crate) fn open(config: &Config) -> Result<Self, Failure> {
        RecordingStore::open(config).map(Self::new)
    }

    fn new(store: RecordingStore) -> Self {
        let running = RunningUploads::default();
        let usage = Usage::default();
        Self(Arc::new(AudioInner { store, running, usage, free: Arc::new(Semaphore::new(UPLOADS)) }))
    }

    /// Removes what uploads have left that were interrupted by a crash. Uploads in progress are not touched.
    pub(crate) async fn remove_drafts(&self) {
        let audio = self.clone();
        let swept = spawn_blocking(move || {
            let AudioInner { store, running, .. } = &*audio.0;
            let folders = store.session_folders().into_iter();
            folders
                .filter(|(id, _)| !running.has_uploads(*id))
                .map(|(_, folder)| recording_store::remove_drafts(&folder).unwrap_or(0))
                .sum::<usize>()
        });
        if let Ok(count @ 1..) = swept.await {
            tracing::info!("removed {count} recordings whose upload was interrupted");
        }
    }

    /// Counts the bytes of recordings from before this start. Until that is done, the quotas know only newer
    /// recordings.
    pub(crate) async fn measure_usage(&self) {
        let AudioInner { store, usage, .. } = &*self.0;
        let mut listed = store.objects.list(Some(store.root()));
        while let Some(object) = listed.next().await {
            match object {
                Ok(object) => usage.add(store.owner_of(&object.location).as_ref(), object.size),
                Err(error) => {
                    return Unavailable::from(error)
                        .log("cannot count the bytes of recordings for the quotas");
                }
            }
        }
    }

    /// Returns the quota for one upload of this user.
    pub(crate) fn new_quota(&self, owner: Option<UserId>, limits: AudioLimits) -> Quota {
        Quota::new(&self.0.usage, owner, limits)
    }

    /// Waits up to 10 seconds for the permit for one more upload; `None` if none becomes free.
    pub(crate) async fn acquire_slot(&self) -> Option<Slot> {
        let permit = timeout(QUEUE, Arc::clone(&self.0.free).acquire_owned()).await.ok()?.ok()?;
        Some(Slot { _permit: permit })
    }

    /// Announces an upload before the session is checked, so that a deletion of the session that begins from now on
    /// waits for it.
    pub(crate) fn announce_upload(&self, session_id: SessionId) -> Ticket {
        self.0.running.register(session_id)
    }

    /// Begins to write a recording.
    pub(crate) fn start_upload(&self, ticket: Ticket, owner: Option<UserId>, format: AudioFormat) -> Upload {
        let name = RecordingName::generate(format);
        let folder = Folder { session_id: ticket.session_id(), owner };
        Upload::new(self, Arc::clone(&self.0.store.objects), folder, name, ticket)
    }

    /// Returns the size of a recording in bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// Fails if the store cannot answer.
    pub(crate) async fn recording_size(
        &self,
        folder: &Folder,
        name: RecordingName,
    ) -> Result<Option<u64>, Unavailable> {
        let path = self.0.store.recording_path(folder, name);
        match self.0.store.objects.head(&path).await {
            Ok(meta) => Ok(Some(meta.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns a range of a recording's bytes as a stream; `None` if the recording does not exist.
    ///
    /// # Errors
    /// Fails if the store cannot answer.
    pub(crate) async fn read(
        &self,
        folder: &Folder,
        name: RecordingName,
        range: Range<u64>,
    ) -> Result<Option<BoxStream<'static, object_store::Result<Bytes>>>, Unavailable> {
        let path = self.0.store.recording_path(folder, name);
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        match self.0.store.objects.get_opts(&path, options).await {
            Ok(found) => Ok(Some(found.into_stream())),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes one recording.
    ///
    /// # Errors
    /// Fails if the store cannot remove it.
    pub(crate) async fn delete(&self, folder: &Folder, name: RecordingName) -> Result<(), Unavailable> {
        let path = self.0.store.recording_path(folder, name);
        if let Ok(meta) = self.0.store.objects.head(&path).await {
            self.0.usage.remove(folder.owner.as_ref(), meta.size);
        }
        match self.0.store.objects.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes every recording of a session and returns how many there were. Uploads in progress are told to stop and
    /// waited for. Idempotent. The caller must ensure that no new upload can find the session.
    ///
    /// # Errors
    /// Fails if the store cannot remove them. The caller should retry.
    pub(crate) async fn delete_session(&self, session_id: SessionId) -> Result<usize, Unavailable> {
        let AudioInner { store, running, .. } = &*self.0;
        running.stop(session_id).await;
        let audio = Arc::clone(&self.0);
        let listed = store.objects.list(Some(&store.session_path(session_id))).map_ok(move |object| {
            audio.usage.remove(audio.store.owner_of(&object.location).as_ref(), object.size);
            object.location
        });
        let deleted = store.objects.delete_stream(listed.boxed());
        let count = deleted.try_fold(0, async |count, _| Ok(count + 1)).await;
        if let Some(folder) = store.session_folder(session_id) {
            let removed = spawn_blocking(move || recording_store::remove_folder(&folder)).await;
            removed.unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))?;
        }
        Ok(count?)
    }

    /// Removes the recordings that arrived before this moment, and returns how many there were.
    ///
    /// # Errors
    /// Fails if the store cannot list or remove them. The caller should try again later.
    pub(crate) async fn delete_before(&self, moment: Timestamp) -> Result<usize, Unavailable> {
        let store = &self.0.store;
        let mut removed = 0;
        let mut listed = store.objects.list(Some(store.root()));
        while let Some(object) = listed.try_next().await? {
            let arrived = Timestamp::from_micros(object.last_modified.timestamp_micros());
            if arrived.is_none_or(|arrived| arrived >= moment) {
                continue;
            }
            match store.objects.delete(&object.location).await {
                Ok(()) => self.0.usage.remove(store.owner_of(&object.location).as_ref(), object.size),
                // The deletion of its session was faster.
                Err(object_store::Error::NotFound { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            removed += 1;
        }
        Ok(removed)
    }

    /// Returns the sessions that have recordings.
    ///
    /// # Errors
    /// Fails if the store cannot answer.
    pub(crate) async fn list_sessions(&self) -> Result<Vec<SessionId>, Unavailable> {
        let store = &self.0.store;
        let listed = store.objects.list_with_delimiter(Some(store.root())).await?;
        Ok(listed.common_prefixes.iter().filter_map(|path| path.filename()?.parse().ok()).collect())
    }

    fn is_folder(&self) -> bool {
        self.0.store.is_folder()
    }

    fn part_bytes(&self) -> usize {
        self.0.store.part_bytes()
    }

    /// Removes the folder of a claim, and that of its session, if they are empty.
    async fn remove_empty_folders(&self, folder: Folder) {
        let session = Folder { owner: None, ..folder };
        let folders = [folder, session].map(|folder| self.0.store.claim_folder(&folder));
        let remove =
            move || folders.into_iter().flatten().for_each(|folder| drop(std::fs::remove_dir(folder)));
        let _ = spawn_blocking(remove).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(session_id: SessionId) -> Folder {
        Folder { session_id, owner: Some(UserId::from_u128(9)) }
    }

    /// Begins an upload of a WAV file and leaves it unfinished.
    async fn half_way(audio: &Audio, session_id: SessionId) -> Upload {
        let mut upload = audio.start_upload(
            audio.announce_upload(session_id),
            Some(UserId::from_u128(9)),
            AudioFormat::Wav,
        );
        upload.write(&vec![0; 1 << 20]).await.unwrap();
        upload
    }

    #[tokio::test]
    async fn deleting_a_session_removes_all_its_recordings_and_those_that_are_coming_in() {
        let dir = tempfile::tempdir().unwrap();
        let audio = Audio::new(RecordingStore::in_folder(dir.path()).unwrap());
        let session = SessionId::from_u128(1);
        let other = SessionId::from_u128(2);
        let name = half_way(&audio, session).await.finish().await.unwrap();
        half_way(&audio, session).await.finish().await.unwrap();
        let neighbour = half_way(&audio, other).await.finish().await.unwrap();
        // A request handler drops its upload when it is told of the deletion.
        let deletion = audio.announce_upload(session);
        let told = deletion.watch();
        let upload = half_way(&audio, session).await;
        let coming_in = tokio::spawn(async move {
            told.deleted().await;
            drop((upload, deletion));
        });
        assert_eq!(audio.delete_session(session).await, Ok(2));
        coming_in.await.unwrap();
        assert!(!dir.path().join("audio").join(session.to_string()).exists());
        assert_eq!(audio.recording_size(&folder(session), name).await, Ok(None));
        assert_eq!(audio.delete_session(session).await, Ok(0), "again");
        assert_eq!(audio.recording_size(&folder(other), neighbour).await, Ok(Some(1 << 20)));
    }
}
