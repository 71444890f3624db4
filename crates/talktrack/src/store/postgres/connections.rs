//! Pools of connections, and what becomes of a connection whose answer nobody waits for any more.

use std::time::Duration;

use deadpool_postgres::{Connect, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::Class;
use crate::store::postgres::connect::{Address, CONNECT_PATIENCE, ConnectError};
use crate::store::postgres::failure::Failure;
use crate::store::postgres::identity::{self, Expected};
use crate::store::postgres::prefer;

/// How long the database may take over the request to stop with a statement.
const CANCEL: Duration = Duration::from_secs(5);

/// A pool of connections. Clones are one.
#[derive(Clone)]
pub(super) struct Connections {
    pool: Pool,
    tls: MakeRustlsConnect,
}

impl Connections {
    pub(super) fn new(address: &Address, expected: &Expected, size: usize) -> Result<Self, ConnectError> {
        let tls = address.tls()?;
        // Fast: no round trip before each use. A connection that broke shows when it is used, and the writer tries again.
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(address.config().clone(), Connector(tls.clone()), config);
        let pool = Pool::builder(manager)
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(CONNECT_PATIENCE))
            .wait_timeout(Some(CONNECT_PATIENCE))
            .post_create(identity::compare(expected, address))
            .build();
        let pool = pool.map_err(|error| ConnectError::Tls(error.to_string()))?;
        Ok(Self { pool, tls })
    }

    /// A connection, when one is free.
    pub(super) async fn get(&self) -> Result<Lent, PoolError> {
        let client = self.pool.get().await?;
        Ok(Lent { client: Some(client), tls: self.tls.clone() })
    }

    /// Closes those that nobody uses.
    pub(super) fn close_idle(&self) {
        drop(self.pool.retain(|_, _| false));
    }
}

/// Opens the connections of a pool.
struct Connector(MakeRustlsConnect);

impl Connect for Connector {
    fn connect(&self, config: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        let (config, tls) = (config.clone(), self.0.clone());
        Box::pin(async move { prefer::connect(&config, tls).await })
    }
}

/// A connection of a pool. Unless the work with it comes to its end, it does not go back: what the database still works on would be
/// waited for by the next question.
pub(super) struct Lent {
    client: Option<Object>,
    tls: MakeRustlsConnect,
}

impl Lent {
    /// The work is done: the connection may be used again.
    fn give_back(mut self) {
        self.client = None;
    }

    /// Closes the connection. The database works on nothing for it.
    fn close(mut self) {
        self.client.take().map(Object::take);
    }
}

impl Drop for Lent {
    /// Nobody waits for the answer: the database stops with the statement, which may wait for a lock and would otherwise outlive the
    /// connection. Until it knows, the place in the pool is taken, so that the pool bounds what the database works on.
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let (cancel, tls) = (client.cancel_token(), self.tls.clone());
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

/// Uses a connection, and lets go of it for good where that fails, unless for a row. What it still owes would be taken for
/// the answer to the next question; and it goes by what was set when it was opened: a database that was made read-only stays
/// so for it, whoever mends that. The same if the work is given up.
pub(super) async fn within<T>(
    client: Lent,
    patience: Duration,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let Some(connection) = client.client.as_deref() else {
        return Err(Failure::timeout("the connection is closed".to_owned()));
    };
    let Ok(answer) = timeout(patience, work(connection)).await else {
        let message = format!("the database has not answered for {} s", patience.as_secs());
        return Err(Failure::timeout(message));
    };
    if answer.as_ref().is_err_and(|failure| failure.class != Class::Data) {
        client.close();
    } else {
        client.give_back();
    }
    answer
}
