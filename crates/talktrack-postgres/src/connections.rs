//! Connection pools, and the cleanup of connections whose query was abandoned.

use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::future::BoxFuture;
use talktrack_core::store::ErrorClass;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::connect::{Address, ConnectError};
use crate::failure::Failure;
use crate::identity::{self, ExpectedStore};
use crate::prefer;

/// The longest wait for an answer. Longer than the limit that talktrack sets for a statement in a
/// transaction, 30 s.
pub(super) const QUERY_TIMEOUT: Duration = Duration::from_secs(35);

/// The longest time that a request to cancel a statement may take.
const CANCEL: Duration = Duration::from_secs(5);

/// A connection pool. Clones share it.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    tls: MakeRustlsConnect,
}

impl Connections {
    pub(super) fn new(
        address: &Address,
        expected: &ExpectedStore,
        size: usize,
    ) -> Result<Self, ConnectError> {
        let tls = address.tls()?;
        // `Fast` saves a round trip before each use. A broken connection fails when it is used, and the
        // writer retries.
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(address.config().clone(), Connector(tls.clone()), config);
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(address.connect_deadline()))
            .wait_timeout(Some(address.connect_deadline()))
            .post_create(identity::check_identity(expected, address))
            .build();
        let pool = pool.map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok(Self { pool, tls })
    }

    /// Returns a connection once one is free.
    pub(super) async fn get(&self) -> Result<PooledClient, PoolError> {
        let client = self.pool.get().await?;
        Ok(PooledClient { client: Some(client), tls: self.tls.clone() })
    }

    /// Closes all idle connections.
    pub(super) fn close_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }
}

/// Opens the connections of a pool.
struct Connector(MakeRustlsConnect);

impl Connect for Connector {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let config = config.clone();
        let tls = self.0.clone();
        Box::pin(async move { prefer::connect(&config, tls).await })
    }
}

/// A connection of a pool. It returns to the pool only if its work is finished: otherwise the next query
/// would wait for the statement that still runs.
pub(super) struct PooledClient {
    client: Option<Object>,
    tls: MakeRustlsConnect,
}

impl PooledClient {
    /// Returns the connection to the pool, because its work is done.
    fn give_back(mut self) {
        self.client = None;
    }

    /// Closes the connection. No statement is running on it.
    fn close(mut self) {
        self.client.take().map(Object::take);
    }
}

impl Drop for PooledClient {
    /// Cancels the statement whose answer is no longer awaited: it may wait for a lock and would otherwise
    /// outlive the connection. The connection keeps its place in the pool until the cancellation is sent,
    /// so that the pool bounds the number of running statements.
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let cancel = client.cancel_token();
        let tls = self.tls.clone();
        let Ok(runtime) = Handle::try_current() else {
            drop(Object::take(client));
            return;
        };
        runtime.spawn(async move {
            match timeout(CANCEL, cancel.cancel_query(tls)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "a statement was not cancelled"),
                Err(_) => tracing::debug!("a statement was not cancelled in time"),
            }
            drop(Object::take(client));
        });
    }
}

/// Runs work on a connection, and returns the connection to the pool unless the work failed. After a
/// failure the connection is closed, except for a failure caused by a row: a pending answer would be taken
/// for the answer to the next query, and the connection keeps the settings of its start (if the database
/// was read-only then, the connection stays read-only after the repair). The connection is also closed, and
/// its statement cancelled, after a timeout or if the caller drops the future.
pub(super) async fn run_within<T>(
    client: PooledClient,
    limit: Duration,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(connection) = client.client.as_deref() else {
        return Err(Failure::timeout("the connection is closed".to_owned()));
    };
    let Ok(answer) = timeout(limit, work(connection)).await else {
        let message = format!("the database has not answered for {} s", limit.as_secs());
        return Err(Failure::timeout(message));
    };
    if answer.as_ref().is_err_and(|failure| failure.class != ErrorClass::Data) {
        client.close();
    } else {
        client.give_back();
    }
    answer
}
