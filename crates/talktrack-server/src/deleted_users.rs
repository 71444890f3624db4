//! Users whose deletion is not complete yet. A file for each of them preserves this over a restart.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use talktrack::permissions::{make_private_directory, private_file};
use talktrack::{Timestamp, UserId};
use tokio::task::spawn_blocking;

/// The directory in the data directory. Each file belongs to one user: its content is the time of the deletion, and for a user
/// whose id is not a UUID a second line with the id. The name of the file has the UUID.
const DIRECTORY: &str = "deleted-users";

/// The notes of incomplete deletions. Cheap to clone; all clones refer to the same notes.
#[derive(Clone)]
pub(crate) struct DeletedUsers(Arc<DeletedUsersInner>);

struct DeletedUsersInner {
    directory: PathBuf,
    /// Held while files are read and changed.
    files: Mutex<()>,
    /// The number of requests that are deleting each user now.
    running: Mutex<HashMap<UserId, usize>>,
}

/// Marks a request as deleting a user until it is dropped.
pub(crate) struct RunningDeletion(DeletedUsers, UserId);

impl Drop for RunningDeletion {
    fn drop(&mut self) {
        let mut running = self.0.0.running.lock();
        let requests = running.entry(self.1.clone()).or_default();
        *requests = requests.saturating_sub(1);
        if *requests == 0 {
            running.remove(&self.1);
        }
    }
}

impl DeletedUsers {
    pub(crate) fn in_dir(data_dir: &Path) -> Self {
        let directory = data_dir.join(DIRECTORY);
        Self(Arc::new(DeletedUsersInner { directory, files: Mutex::default(), running: Mutex::default() }))
    }

    /// Marks the user as being deleted by a request, so that the background task leaves the user to it.
    pub(crate) fn start_deletion(&self, user_id: &UserId) -> RunningDeletion {
        *self.0.running.lock().entry(user_id.clone()).or_default() += 1;
        RunningDeletion(self.clone(), user_id.clone())
    }

    /// True if a request is deleting the user now.
    pub(crate) fn is_running(&self, user_id: &UserId) -> bool {
        self.0.running.lock().contains_key(user_id)
    }

    /// Records on disk that all data of a user up to this time must be deleted. A later time is kept. Returns the time
    /// that was recorded before.
    ///
    /// # Errors
    /// Fails if the note cannot be written.
    pub(crate) async fn note_deletion(
        &self,
        user_id: UserId,
        moment: Timestamp,
    ) -> io::Result<Option<Timestamp>> {
        self.with_files(move |notes| {
            let noted = notes.read(&user_id);
            if noted.is_none_or(|noted| noted < moment) {
                notes.write(&user_id, moment)?;
            }
            Ok(noted)
        })
        .await
    }

    /// Removes the note for this time, because the deletion is complete. A note with another time is kept.
    pub(crate) async fn clear_note(&self, user_id: UserId, moment: Timestamp) -> io::Result<()> {
        self.put_back(user_id, moment, None).await
    }

    /// Restores the note from before, if the current note is for this time. A note with another time is kept.
    pub(crate) async fn put_back(
        &self,
        user_id: UserId,
        moment: Timestamp,
        before: Option<Timestamp>,
    ) -> io::Result<()> {
        self.with_files(move |notes| match before {
            _ if notes.read(&user_id) != Some(moment) => Ok(()),
            Some(before) => notes.write(&user_id, before),
            None => fs::remove_file(notes.file(&user_id)),
        })
        .await
    }

    /// Returns the users whose deletion is not complete, with the time of each deletion.
    pub(crate) async fn list_due(&self) -> Vec<(UserId, Timestamp)> {
        let list = |notes: &DeletedUsersInner| {
            let entries = match fs::read_dir(&notes.directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
            Ok(files.filter_map(|file| Note::read(&file).map(|note| (note.user_id, note.moment))).collect())
        };
        self.with_files(list).await.unwrap_or_else(|error| {
            tracing::debug!("cannot list the users to delete: {error}");
            Vec::new()
        })
    }

    async fn with_files<T: Send + 'static>(
        &self,
        work: impl FnOnce(&DeletedUsersInner) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let notes = Arc::clone(&self.0);
        let work = move || {
            let _one_at_a_time = notes.files.lock();
            work(&notes)
        };
        spawn_blocking(work).await.map_err(io::Error::other)?
    }
}

impl DeletedUsersInner {
    fn file(&self, user_id: &UserId) -> PathBuf {
        self.directory.join(file_name(user_id))
    }

    fn read(&self, user_id: &UserId) -> Option<Timestamp> {
        Note::read(&self.file(user_id)).filter(|note| note.user_id == *user_id).map(|note| note.moment)
    }

    fn write(&self, user_id: &UserId, moment: Timestamp) -> io::Result<()> {
        make_private_directory(&self.directory)?;
        let draft = self.directory.join(format!("{}.tmp", file_name(user_id)));
        let mut draft_file = private_file().write(true).create(true).truncate(true).open(&draft)?;
        let text = user_id.text().map(|text| format!("\n{text}")).unwrap_or_default();
        draft_file.write_all(format!("{moment}{text}").as_bytes())?;
        draft_file.sync_all()?;
        fs::rename(&draft, self.file(user_id))?;
        File::open(&self.directory)?.sync_all()?;
        self.directory.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    }
}

/// The content of a file, and the user of its name.
struct Note {
    user_id: UserId,
    moment: Timestamp,
}

impl Note {
    /// Reads a file. `None` if it is no complete note.
    fn read(file: &Path) -> Option<Self> {
        let name = file.file_name()?.to_str()?;
        let content = fs::read_to_string(file).ok()?;
        let (moment, text) = content.split_once('\n').unzip();
        let user_id = text.unwrap_or(name).parse().ok().filter(|user_id| file_name(user_id) == name)?;
        Some(Self { user_id, moment: moment.unwrap_or(&content).parse().ok()? })
    }
}

/// Returns the name of a user's file: an id that is not a UUID may contain any character.
fn file_name(user_id: &UserId) -> String {
    let uuid = user_id.as_uuid();
    if user_id.text().is_some() { format!("text-{uuid}") } else { uuid.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_at_the_same_time_keep_the_latest_moment() {
        let dir = tempfile::tempdir().unwrap();
        let notes = DeletedUsers::in_dir(dir.path());
        let user = UserId::new(Uuid::new_v4());
        let requests = (1..=50).map(|micros| {
            let notes = notes.clone();
            tokio::spawn({
                let value = user.clone();
                async move { notes.note_deletion(value, at(micros)).await }
            })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap().unwrap();
        }
        assert_eq!(notes.list_due().await, [(user.clone(), at(50))]);
        notes.clear_note(user.clone(), at(49)).await.unwrap();
        assert_eq!(notes.list_due().await, [(user.clone(), at(50))], "a later deletion is not done");
        notes.clear_note(user, at(50)).await.unwrap();
        assert_eq!(notes.list_due().await, []);
    }

    #[tokio::test]
    async fn a_request_that_is_refused_leaves_the_note_of_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let notes = DeletedUsers::in_dir(dir.path());
        let user = UserId::new(Uuid::new_v4());
        assert_eq!(notes.note_deletion(user.clone(), at(1)).await.unwrap(), None);
        let before = notes.note_deletion(user.clone(), at(2)).await.unwrap();
        notes.put_back(user.clone(), at(2), before).await.unwrap();
        assert_eq!(notes.list_due().await, [(user.clone(), at(1))]);
        let running = notes.start_deletion(&user);
        assert!(notes.is_running(&user));
        drop(running);
        assert!(!notes.is_running(&user));
    }
}
