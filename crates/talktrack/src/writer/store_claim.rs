//! The store that the outbox belongs to. No record goes to a store before its id was compared with the id that the data
//! directory notes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::local::tables::directory;
use crate::store::NotedStore;
use crate::store::{ErrorClass, Store, StoreError};

/// The store for which the records of this data directory are.
pub(crate) struct StoreClaim {
    store: Arc<dyn Store>,
    state: Mutex<ClaimState>,
    /// True if the connected store is the right one.
    confirmed: AtomicBool,
}

#[derive(Default)]
struct ClaimState {
    noted: Option<NotedStore>,
    /// True if another store may take the place of the noted one, as the option `redirect` decided at the start.
    redirects: bool,
    /// True if the data directory does not note the store yet.
    is_unwritten: bool,
}

impl StoreClaim {
    /// Creates the claim from what the data directory notes at the start. `redirects` is true if another store may take
    /// the place of the noted one.
    pub(crate) fn new(noted: Option<NotedStore>, redirects: bool, store: &Arc<dyn Store>) -> Arc<Self> {
        let noted = noted.filter(|noted| noted.id.is_some());
        store.set_expected(noted.clone().filter(|_| !redirects));
        let state = Mutex::new(ClaimState { noted, redirects, is_unwritten: false });
        Arc::new(Self { store: Arc::clone(store), state, confirmed: AtomicBool::new(false) })
    }

    /// Returns the connected store.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Compares the store's id, unless the last comparison succeeded.
    ///
    /// # Errors
    /// If the store cannot be reached, or is another store.
    pub(crate) async fn confirm(&self) -> Result<(), StoreError> {
        if self.confirmed.load(Ordering::Acquire) { Ok(()) } else { self.compare_identity().await }
    }

    /// Compares the store's id even if it was right before, because a pooler may redirect to another database at any
    /// time.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub(super) async fn compare_identity(&self) -> Result<(), StoreError> {
        let compared = match self.store.identity().await {
            Ok(Some(id)) => self.check_identity(NotedStore {
                id: Some(id),
                address: Some(self.store.address()),
                ..NotedStore::default()
            }),
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        self.confirmed.store(compared.is_ok(), Ordering::Release);
        compared
    }

    fn check_identity(&self, found: NotedStore) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        match &state.noted {
            Some(noted) if noted.id == found.id => {
                if state.redirects {
                    state.redirects = false;
                    self.store.set_expected(state.noted.clone());
                }
                return Ok(());
            }
            Some(noted) if !state.redirects => {
                let message = noted.mismatch_message(found.name());
                return Err(StoreError::new(ErrorClass::Systemic, message));
            }
            Some(noted) => {
                let old = noted.name();
                let new = found.name();
                tracing::warn!(
                    "this data directory was the outbox of {old} and held no waiting records; it is now the outbox of {new}"
                );
            }
            None => {}
        }
        self.store.set_expected(Some(found.clone()));
        *state = ClaimState { noted: Some(found), redirects: false, is_unwritten: true };
        Ok(())
    }

    /// Assigns the outbox to the connected store, even if the data directory notes another one.
    pub(crate) fn reassign(&self) {
        self.store.set_expected(None);
        self.state.lock().noted = None;
        self.confirmed.store(false, Ordering::Release);
    }

    /// True if the data directory does not note the store yet.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.state.lock().is_unwritten
    }

    /// Notes the store in the data directory, if that has not been done. A failure is retried with the next commit.
    /// Until then, the next start accepts the store that it meets, which is this one.
    pub(crate) fn note_store(&self, connection: &Connection) {
        let unwritten = {
            let state = self.state.lock();
            state.noted.clone().filter(|_| state.is_unwritten)
        };
        let Some(noted) = unwritten else { return };
        if let Err(error) = directory::note(connection, noted.id, noted.name()) {
            tracing::debug!(%error, "cannot note the store in the data directory; trying again with the next commit");
            return;
        }
        let mut state = self.state.lock();
        if state.noted.as_ref().is_some_and(|now| now.id == noted.id) {
            state.is_unwritten = false;
        }
    }
}
