//! The uploads that run, by their session. Deleting a session has to wait until none runs that could still add a file.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

/// Shared by all; clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<HashMap<Uuid, watch::Sender<Uploads>>>>);

/// The uploads of one session.
#[derive(Debug, Clone, Copy, Default)]
struct Uploads {
    count: usize,
    /// They have to give up.
    is_deleted: bool,
}

/// An upload that runs, until this is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    running: Running,
    session_id: Uuid,
    uploads: watch::Receiver<Uploads>,
}

impl Running {
    /// One more.
    pub(super) fn enter(&self, session_id: Uuid) -> Ticket {
        let mut running = self.0.lock();
        let uploads = running.entry(session_id).or_default();
        uploads.send_modify(|uploads| uploads.count += 1);
        Ticket { running: self.clone(), session_id, uploads: uploads.subscribe() }
    }

    /// Tells those of a session to give up, and waits until they have.
    pub(super) async fn stop(&self, session_id: Uuid) {
        let told = self.0.lock().get(&session_id).map(|uploads| {
            uploads.send_modify(|uploads| uploads.is_deleted = true);
            uploads.subscribe()
        });
        if let Some(mut uploads) = told {
            // The sender goes when the last of them does.
            let _ = uploads.wait_for(|uploads| uploads.count == 0).await;
        }
    }

    pub(super) fn is_any(&self, session_id: Uuid) -> bool {
        self.0.lock().contains_key(&session_id)
    }
}

/// Learns of the session's deletion.
pub(crate) struct Deletion(watch::Receiver<Uploads>);

impl Ticket {
    pub(super) fn session_id(&self) -> Uuid {
        self.session_id
    }

    pub(crate) fn watch(&self) -> Deletion {
        Deletion(self.uploads.clone())
    }
}

impl Deletion {
    /// Resolves when the session is being deleted.
    pub(crate) async fn deleted(mut self) {
        if self.0.wait_for(|uploads| uploads.is_deleted).await.is_err() {
            // All uploads have ended: nobody deletes anything of theirs any more.
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
        let running = Running::default();
        let (session, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        running.stop(session).await;
        let (one, two, neighbour) = (running.enter(session), running.enter(session), running.enter(other));
        let mut stop = Box::pin(running.stop(session));
        assert!(one.watch().deleted().now_or_never().is_none() && stop.as_mut().now_or_never().is_none());
        one.watch().deleted().await;
        two.watch().deleted().await;
        assert!(neighbour.watch().deleted().now_or_never().is_none());
        drop(one);
        assert!(stop.as_mut().now_or_never().is_none());
        drop(two);
        stop.await;
        assert!(!running.is_any(session) && running.is_any(other));
        assert!(running.enter(session).watch().deleted().now_or_never().is_none(), "a new one begins afresh");
    }
}
