//! A recording on its way into the store: written in parts, there as a whole at the end, or not at all.

use object_store::ObjectStore;
use object_store::buffered::BufWriter;
use std::sync::Arc;

use object_store::{Attribute, Attributes};
use tokio::io::AsyncWriteExt as _;

use super::failure::Unavailable;
use super::running::Ticket;
use super::{Audio, Folder, Name};

/// Its bytes so far. Dropped before [`Self::finish`], it leaves nothing behind.
pub(crate) struct Upload {
    audio: Audio,
    folder: Folder,
    name: Name,
    /// Taken when it ends, one way or the other.
    writing: Option<Writing>,
}

struct Writing {
    writer: BufWriter,
    /// Held until nothing is written any more: a deletion waits for it.
    ticket: Ticket,
}

impl Upload {
    pub(super) fn new(
        audio: &Audio,
        store: Arc<dyn ObjectStore>,
        folder: Folder,
        name: Name,
        ticket: Ticket,
    ) -> Self {
        let path = audio.0.place.of_recording(folder, name);
        let mut writer = BufWriter::with_capacity(store, path, audio.part_bytes()).with_max_concurrency(1);
        if !audio.is_folder() {
            let content_type = (Attribute::ContentType, name.format().content_type());
            writer = writer.with_attributes(Attributes::from_iter([content_type]));
        }
        Self { audio: audio.clone(), folder, name, writing: Some(Writing { writer, ticket }) }
    }

    /// Takes more. Waits where the store is slower than the sender.
    ///
    /// # Errors
    /// Where the store cannot take it.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Unavailable> {
        let Some(writing) = &mut self.writing else { return Ok(()) };
        // Copied, so that small pieces do not keep the large buffers alive that they came in.
        writing.writer.write_all(bytes).await.map_err(Unavailable::from)
    }

    /// Makes it durable, under its name.
    ///
    /// # Errors
    /// Where the store cannot take it. Nothing is left then.
    pub(crate) async fn finish(mut self) -> Result<Name, Unavailable> {
        let Some(Writing { mut writer, ticket }) = self.writing.take() else { return Ok(self.name) };
        // To its end also where the sender has left: a deletion must be able to wait for it.
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
        let Some(Writing { mut writer, ticket }) = self.writing.take() else { return };
        let (audio, folder) = (self.audio.clone(), self.folder);
        // Without a runtime the process ends: what a folder has of it is swept at the next start.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = writer.abort().await {
                    Unavailable::from(error).log("cannot clear away an interrupted upload");
                }
                audio.tidy(folder).await;
                drop(ticket);
            });
        }
    }
}
