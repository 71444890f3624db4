//! The state that all requests and connections share.

use std::sync::Arc;

use axum::extract::FromRef;
use metrics::{Gauge, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use talktrack::Tracker;
use talktrack::store::sqlite::SqliteReader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::audio::Audio;
use crate::audit::{Actor, Audit, Entry};
use crate::auth::Authenticator;
use crate::config::{Config, Database};
use crate::deleted_users::DeletedUsers;
use crate::events::Events;
use crate::http_refusals::HttpRefusals;
use crate::limits::Limits;
use crate::origin::Origins;
use crate::turns::Turns;

/// A handle to the shared state. Cheap to clone; all clones refer to the same state.
#[derive(Clone)]
pub(crate) struct AppState(Arc<AppStateInner>);

struct AppStateInner {
    tracker: Tracker,
    /// Reads the SQLite file in the data directory: the store itself, or the outbox in front of a remote store.
    local: SqliteReader,
    audio: Audio,
    config: Config,
    authenticator: Authenticator,
    audit: Audit,
    limits: Limits,
    turns: Turns,
    deleted_users: DeletedUsers,
    refusals: HttpRefusals,
    events: Events,
    metrics: PrometheusHandle,
    /// Becomes true once, when the server begins to shut down.
    stopping: watch::Sender<bool>,
    /// Holds one permit for each further WebSocket connection that `max_connections` allows.
    free_connections: Arc<Semaphore>,
    max_connections: u32,
}

/// The permit for one WebSocket connection. Dropping it frees the place for another connection.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
}

impl AppState {
    pub(crate) fn new(
        tracker: Tracker,
        local: SqliteReader,
        events: Events,
        audio: Audio,
        config: Config,
        metrics: PrometheusHandle,
    ) -> Self {
        let max_connections = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
        let free_connections =
            Arc::new(Semaphore::new(usize::try_from(max_connections).unwrap_or(Semaphore::MAX_PERMITS)));
        let stopping = watch::Sender::new(false);
        let limits = Limits::new(&config);
        let audit = Audit::open(&config.data_dir, config.audit);
        let authenticator = Authenticator::new(&config, limits.clone(), audit.clone());
        let deleted_users = DeletedUsers::in_dir(&config.data_dir);
        connections_gauge().set(0);
        Self(Arc::new(AppStateInner {
            tracker,
            local,
            events,
            audio,
            config,
            authenticator,
            audit,
            limits,
            turns: Turns::default(),
            deleted_users,
            refusals: HttpRefusals::default(),
            metrics,
            stopping,
            free_connections,
            max_connections,
        }))
    }

    pub(crate) fn tracker(&self) -> &Tracker {
        &self.0.tracker
    }

    pub(crate) fn local(&self) -> &SqliteReader {
        &self.0.local
    }

    pub(crate) fn audio(&self) -> &Audio {
        &self.0.audio
    }

    /// True if the durable records on this node are an outbox for a remote store.
    pub(crate) fn is_remote(&self) -> bool {
        matches!(self.0.config.database, Database::Postgres(_))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.audit
    }

    /// Returns the rule for which web pages may use this server from a browser.
    pub(crate) fn origins(&self) -> Origins<'_> {
        Origins { allowed: &self.0.config.allowed_origins, is_open: self.0.authenticator.is_open() }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.limits
    }

    pub(crate) fn refusals(&self) -> &HttpRefusals {
        &self.0.refusals
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// Returns the users whose deletion is not complete yet.
    pub(crate) fn deleted_users(&self) -> &DeletedUsers {
        &self.0.deleted_users
    }

    pub(crate) fn events(&self) -> &Events {
        &self.0.events
    }

    pub(crate) fn metrics(&self) -> &PrometheusHandle {
        &self.0.metrics
    }

    /// Reserves a place for one more WebSocket connection. Returns `None` if all `max_connections` places are taken.
    pub(crate) fn acquire_connection(&self) -> Option<ConnectionPermit> {
        let permit = Arc::clone(&self.0.free_connections).try_acquire_owned().ok()?;
        connections_gauge().increment(1);
        Some(ConnectionPermit { _permit: permit })
    }

    /// Waits until every WebSocket connection has ended.
    pub(crate) async fn wait_until_all_left(&self) {
        // The semaphore is never closed, so this cannot fail.
        let _ = self.0.free_connections.acquire_many(self.0.max_connections).await;
    }

    /// Records the start of the server and its settings in the audit log.
    pub(crate) fn record_start(&self) {
        let settings = self.config().told.iter().map(|(key, told)| ((*key).to_owned(), told.as_str().into()));
        let detail = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "settings": settings.collect::<serde_json::Map<_, _>>(),
        });
        self.audit().record(Entry::new(Actor::Server, "server.started", None).detail(detail));
    }

    /// Begins the shutdown: the tracker refuses new work, and each connection says goodbye to its client.
    pub(crate) fn stop(&self) {
        self.0.tracker.refuse_new_work();
        self.0.stopping.send_replace(true);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        *self.0.stopping.borrow()
    }

    /// Returns a handle with which a connection waits for the shutdown.
    pub(crate) fn watch_stop(&self) -> Stopping {
        Stopping(self.0.stopping.subscribe())
    }
}

impl FromRef<AppState> for Authenticator {
    fn from_ref(state: &AppState) -> Self {
        state.authenticator().clone()
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        connections_gauge().decrement(1);
    }
}

/// A handle to wait for the shutdown of the server.
#[derive(Debug, Clone)]
pub(crate) struct Stopping(watch::Receiver<bool>);

impl Stopping {
    /// Waits until the server begins to shut down. Returns immediately if it already has.
    pub(crate) async fn wait(&mut self) {
        // An error means that the sender was dropped, so the server has stopped as well.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

fn connections_gauge() -> Gauge {
    gauge!("talktrack_ws_connections")
}
