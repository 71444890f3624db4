//! An upload of a recording. The recording is written in parts and becomes visible as a whole at the end, or not at
//! all.

use std::sync::Arc;

use object_store::buffered::BufWriter;
use object_store::{Attribute, Attributes, ObjectStore};
use tokio::io::AsyncWriteExt as _;

use super::failure::Unavailable;
use super::running::Ticket;
use super::{Audio, Folder, RecordingName};

/// A recording that is being written. Dropping it before [`Self::finish`] removes what was written.
pub(crate) struct Upload {
    audio: Audio,
    folder: Folder,
    name: RecordingName,
    /// Taken when the upload finishes or is aborted.
    open: Option<OpenUpload>,
}

struct OpenUpload {
    writer: BufWriter,
    /// Held until nothing is written any more, because a deletion of the session waits for it.
    ticket: Ticket,
}

impl Upload {
    pub(super) fn new(
        audio: &Audio,
        store: Arc<dyn ObjectStore>,
        folder: Folder,
        name: RecordingName,
        ticket: Ticket,
    ) -> Self {
        let path = audio.0.store.recording_path(&folder, name);
        let mut writer = BufWriter::with_capacity(store, path, audio.part_bytes()).with_max_concurrency(1);
        if !audio.is_folder() {
            let content_type = (Attribute::ContentType, name.format().content_type());
            writer = writer.with_attributes(Attributes::from_iter([content_type]));
        }
        Self { audio: audio.clone(), folder, name, open: Some(OpenUpload { writer, ticket }) }
    }

    /// Writes more bytes. Waits if the store is slower than the sender.
    ///
    /// # Errors
    /// Fails if the store does not accept the bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Unavailable> {
        let Some(open) = &mut self.open else { return Ok(()) };
        // The bytes are copied, so that small pieces do not keep alive the large buffers that they arrived in.
        open.writer.write_all(bytes).await.map_err(Unavailable::from)
    }

    /// Makes the recording durable under its name.
    ///
    /// # Errors
    /// Fails if the store does not accept the recording. Nothing is left in the store then.
    pub(crate) async fn finish(mut self) -> Result<RecordingName, Unavailable> {
        let Some(OpenUpload { mut writer, ticket }) = self.open.take() else { return Ok(self.name) };
        // Runs to its end even if the sender disconnects, because a deletion may wait for it.
        let finishing = tokio::spawn(async move {
            let finished = writer.shutdown().await;
            drop(ticket);
            finished
        });
        match finishing.await {
            Ok(Ok(())) => Ok(self.name),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(Unavailable::new("the server is stopping")),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(OpenUpload { mut writer, ticket }) = self.open.take() else { return };
        let audio = self.audio.clone();
        let folder = self.folder.clone();
        // Without a runtime the process is ending. The next start removes what is left in a folder.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    Unavailable::from(error).log("cannot remove an interrupted upload");
                }
                audio.remove_empty_folders(folder).await;
                drop(ticket);
            });
        }
    }
}
