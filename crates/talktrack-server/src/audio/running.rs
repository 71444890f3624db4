//! The uploads in progress, by session. A deletion waits until no upload of the session is left that could still add a
//! file.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use talktrack::SessionId;
use tokio::sync::watch;

/// The uploads in progress. Cheap to clone; all clones refer to the same state.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningUploads(Arc<Mutex<HashMap<SessionId, watch::Sender<Uploads>>>>);

/// The uploads of one session.
#[derive(Debug, Clone, Copy, Default)]
struct Uploads {
    count: usize,
    /// True if the uploads must stop, because the session is being deleted.
    is_deleted: bool,
}

/// Marks one upload as in progress until it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    running: RunningUploads,
    session_id: SessionId,
    uploads: watch::Receiver<Uploads>,
}

impl RunningUploads {
    /// Registers one more upload of the session.
    pub(super) fn register(&self, session_id: SessionId) -> Ticket {
        let mut running = self.0.lock();
        let uploads = running.entry(session_id).or_default();
        uploads.send_modify(|uploads| uploads.count += 1);
        Ticket { running: self.clone(), session_id, uploads: uploads.subscribe() }
    }

    /// Tells the uploads of a session to stop, and waits until all have ended.
    pub(super) async fn stop(&self, session_id: SessionId) {
        let told = self.0.lock().get(&session_id).map(|uploads| {
            uploads.send_modify(|uploads| uploads.is_deleted = true);
            uploads.subscribe()
        });
        if let Some(mut uploads) = told {
            // An error means that the sender was dropped together with the last upload.
            let _ = uploads.wait_for(|uploads| uploads.count == 0).await;
        }
    }

    pub(super) fn has_uploads(&self, session_id: SessionId) -> bool {
        self.0.lock().contains_key(&session_id)
    }
}

/// Reports the deletion of the session to an upload.
pub(crate) struct DeletionWatch(watch::Receiver<Uploads>);

impl Ticket {
    pub(super) fn session_id(&self) -> SessionId {
        self.session_id
    }

    pub(crate) fn watch(&self) -> DeletionWatch {
        DeletionWatch(self.uploads.clone())
    }
}

impl DeletionWatch {
    /// Waits until the session is being deleted.
    pub(crate) async fn deleted(mut self) {
        if self.0.wait_for(|uploads| uploads.is_deleted).await.is_err() {
            // All uploads of the session have ended, so no deletion concerns them any more.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut running = self.running.0.lock();
        let Some(uploads) = running.get(&self.session_id) else { return };
        uploads.send_modify(|uploads| uploads.count -= 1);
        if uploads.borrow().count == 0 {
            running.remove(&self.session_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_deletion_is_told_to_the_uploads_of_its_session_and_waits_for_their_end() {
        let running = RunningUploads::default();
        let session = SessionId::from_u128(1);
        let other = SessionId::from_u128(2);
        running.stop(session).await;
        let one = running.register(session);
        let two = running.register(session);
        let neighbour = running.register(other);
        let mut stop = Box::pin(running.stop(session));
        assert!(one.watch().deleted().now_or_never().is_none() && stop.as_mut().now_or_never().is_none());
        one.watch().deleted().await;
        two.watch().deleted().await;
        assert!(neighbour.watch().deleted().now_or_never().is_none());
        drop(one);
        assert!(stop.as_mut().now_or_never().is_none());
        drop(two);
        stop.await;
        assert!(!running.has_uploads(session) && running.has_uploads(other));
        assert!(
            running.register(session).watch().deleted().now_or_never().is_none(),
            "a new one begins afresh"
        );
    }
}
