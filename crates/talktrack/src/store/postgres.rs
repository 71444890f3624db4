//! PostgreSQL and Supabase as the store: fed by the writer, from any number of nodes at once.
//!
//! A batch comes in at [`write`], which puts its records in order (`plan`), makes statements of them (`sessions`, `messages`) and
//! sends them in one go. Messages whose id was taken are compared (`taken`). What goes wrong is put in words (`failure`) and
//! classified (`sqlstate`).

mod write;
mod plan;
mod messages;
mod sessions;
mod taken;
mod deletions;
mod obstacle;
mod read;
mod rows;
mod search;
mod stats;
mod indexer;
mod tallier;
mod transaction;
mod statement;
mod explain;
mod failure;
mod sqlstate;
mod connect;
pub mod schema;
mod tls;

use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use crate::clock::Timestamp;
use crate::error::ReadError;
use crate::json::JsonObject;
use crate::record::{Record, Verdict};
use crate::store::postgres::connect::CONNECT_PATIENCE;
use crate::store::postgres::failure::Failure;
use crate::store::postgres::indexer::TableIndexer;
use crate::store::postgres::schema::Difference;
use crate::store::postgres::statement::Statement;
use crate::store::postgres::tallier::TableTallier;
use crate::store::postgres::transaction::transaction;
use crate::store::{Class, Indexer, Store, StoreError};

pub use connect::{Address, ConnectError, InvalidAddress};

/// Connections for writing: one for each of the writer's lanes, one for its sweeps, one for its watch.
const WRITERS: usize = 6;
/// Connections for reading.
const READERS: usize = 8;
/// How long to wait for an answer: longer than the server may take by its own limit.
const PATIENCE: Duration = Duration::from_secs(35);
/// The same for a look at the schema that may explain a failure; without it the server's own words have to do.
const LOOK: Duration = Duration::from_secs(5);

/// What makes a transaction that of a user: the database's own policies decide what it sees.
const BECOME: &str =
    "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1::text, true)";

/// Conversations in PostgreSQL. Connects when it is first used; a database that is down is no reason not to start.
#[derive(Clone)]
pub struct PostgresStore {
    /// Apart from the readers, so that nobody who looks can hold up who writes.
    writers: Pool,
    readers: Pool,
    /// One connection for the index, one for the tallies, made and used on their own thread.
    indexers: Pool,
    talliers: Pool,
    /// Who reads, where that is not everybody: the claims of a token.
    viewer: Option<JsonObject>,
}

impl PostgresStore {
    /// The store at this address.
    ///
    /// # Errors
    /// Where the certificates that the address names cannot be read.
    pub fn new(address: &Address) -> Result<Self, ConnectError> {
        Ok(Self {
            writers: pool(address, WRITERS)?,
            readers: pool(address, READERS)?,
            indexers: pool(address, 1)?,
            talliers: pool(address, 1)?,
            viewer: None,
        })
    }

    /// Runs a question on a connection for readers.
    async fn ask(&self, statement: Statement<'_>) -> Result<Vec<Row>, ReadError> {
        self.try_ask(statement).await.map_err(|failure| ReadError(failure.message().to_owned()))
    }

    async fn try_ask(&self, statement: Statement<'_>) -> Result<Vec<Row>, Failure> {
        let client = self.readers.get().await?;
        within(client, PATIENCE, async |client| Ok(self.ask_as_viewer(client, statement).await?)).await
    }

    async fn ask_as_viewer(
        &self,
        client: &Client,
        statement: Statement<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let Some(claims) = &self.viewer else { return statement.query(client).await };
        let become_viewer = Statement::new(BECOME).with(claims.as_str(), Type::TEXT);
        let statements = [Some(become_viewer), Some(statement)];
        let [_, rows] = transaction(client, transaction::TO_READ, &statements).await?;
        Ok(rows)
    }

    async fn try_write(&self, records: &[Record]) -> Result<Vec<Verdict>, Failure> {
        let rounds = plan::rounds(records);
        // A session that begins and ends again and again takes a round trip each time.
        let patience = PATIENCE.saturating_mul(u32::try_from(rounds.len()).unwrap_or(u32::MAX));
        let client = self.writers.get().await?;
        within(client, patience, async |client| write::write(client, &rounds, records.len()).await).await
    }

    /// Looks at the schema where that may explain the failure.
    async fn explain(&self, failure: Failure) -> StoreError {
        if !failure.may_be_drift() {
            return failure.into_error();
        }
        match self.differences(LOOK).await {
            Ok(differences) => explain::explain(failure, &differences),
            Err(_) => failure.into_error(),
        }
    }

    async fn differences(&self, patience: Duration) -> Result<Vec<Difference>, Failure> {
        let client = self.writers.get().await?;
        within(client, patience, async |client| Ok(schema::differences(client).await?)).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn write(&self, records: &[Record]) -> Result<Vec<Verdict>, StoreError> {
        let written = match self.try_write(records).await {
            Err(failure) if failure.is_race() => self.try_write(records).await,
            written => written,
        };
        match written {
            Ok(verdicts) => Ok(verdicts),
            Err(failure) => Err(self.explain(failure).await),
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        let differences = self.differences(PATIENCE).await.map_err(Failure::into_error)?;
        explain::drift(&differences).map_or(Ok(()), Err)
    }

    async fn abandon_silent(&self, since: Timestamp) -> Result<u64, StoreError> {
        let abandoned = async {
            let client = self.writers.get().await?;
            within(client, PATIENCE, async |client| Ok(sessions::abandon(since).query(client).await?)).await
        };
        let abandoned = abandoned.await.map_err(Failure::into_error)?;
        Ok(abandoned.len() as u64)
    }

    fn indexer(&self) -> Option<Box<dyn Indexer>> {
        Some(Box::new(TableIndexer::new(self.indexers.clone())))
    }

    fn tallier(&self) -> Option<Box<dyn Indexer>> {
        Some(Box::new(TableTallier::new(self.talliers.clone())))
    }
}

/// Uses a connection, and lets go of it for good where that fails, unless for a row. What it still owes would be taken for
/// the answer to the next question; and it goes by what was set when it was opened: a database that was made read-only stays
/// so for it, whoever mends that.
async fn within<T>(
    client: Object,
    patience: Duration,
    work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let answer = match tokio::time::timeout(patience, work(&client)).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(Failure::timeout(format!("the database has not answered for {} s", patience.as_secs())))
        }
    };
    if answer.as_ref().is_err_and(|failure| failure.class != Class::Data) {
        drop(Object::take(client));
    }
    answer
}

fn pool(address: &Address, size: usize) -> Result<Pool, ConnectError> {
    // Fast: no round trip before each use. A connection that broke shows when it is used, and the writer tries again.
    let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(address.config().clone(), address.tls()?, config);
    let pool = Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .create_timeout(Some(CONNECT_PATIENCE))
        .wait_timeout(Some(CONNECT_PATIENCE))
        .build();
    pool.map_err(|error| ConnectError::Tls(error.to_string()))
}
