//! The store: its pools of connections, and the queries that only the writer makes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::{NotDurable, ReadError};
use talktrack_core::ids::{MessageId, SessionId};
use talktrack_core::record::{MessagesEdit, Verdict};
use talktrack_core::store::{
    Delivery, EditedMessages, ErrorClass, NotedStore, Projection, Store, StoreError, Viewer,
};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::connect::{Address, ConnectError};
use crate::connections::{Connections, QUERY_TIMEOUT, run_within};
use crate::deliveries::DeliveryLane;
use crate::failure::Failure;
use crate::identity::ExpectedStore;
use crate::index_queue::IndexQueue;
use crate::schema::Difference;
use crate::search_indexer::PostgresSearchIndexer;
use crate::statement::{Statement, read_id};
use crate::stats_rollup::PostgresStatsRollup;
use crate::write::{self, Written};
use crate::{deliveries, edits, explain, identity, owners, plan, schema, sessions, transaction, user_marks};

/// Connections for writing: one for each of the writer's lanes, one for its sweeps, one for its watch.
const WRITERS: usize = 6;
/// Connections for edits that a caller waits for: they may wait for one another, and hold up no lane.
const EDITORS: usize = 2;
/// Connections for reading.
const READERS: usize = 8;
/// The longest wait for a look at the schema that may explain a failure. Without it, the server's own
/// message has to do.
const SCHEMA_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// Switches a transaction to the rights of a user: the database's own policies decide what it sees.
const SET_VIEWER_ROLE: &str =
    "SELECT set_config('role', 'authenticated', true), set_config('request.jwt.claims', $1::text, true)";

/// Conversations in PostgreSQL. The store connects on first use, so the server starts even if the database
/// is down.
#[derive(Clone)]
pub struct PostgresStore {
    /// A pool apart from the readers', so that readers cannot hold up the writer.
    pub(super) writers: Connections,
    pub(super) readers: Connections,
    pub(super) editors: Connections,
    /// One connection for the search index and one for the rollup, each created and used on the thread of
    /// its indexer.
    pub(super) search_indexers: Connections,
    pub(super) rollups: Connections,
    /// The ids of stored messages that may not be indexed yet.
    pub(super) unindexed: IndexQueue,
    pub(super) address: String,
    /// The store that each new connection must belong to.
    pub(super) expected: ExpectedStore,
    /// The only user whose rows may be read, with claims that name the same user. `None`: no restriction.
    pub(super) viewer: Option<Viewer>,
}

impl PostgresStore {
    /// Creates the store at this address, without a connection.
    ///
    /// # Errors
    /// If the certificates that the address names cannot be read.
    pub fn new(address: &Address) -> Result<Self, ConnectError> {
        let expected = ExpectedStore::default();
        let pool = |size| Connections::new(address, &expected, size);
        Ok(Self {
            writers: pool(WRITERS)?,
            readers: pool(READERS)?,
            editors: pool(EDITORS)?,
            search_indexers: pool(1)?,
            rollups: pool(1)?,
            unindexed: IndexQueue::default(),
            address: address.to_string(),
            expected: Arc::clone(&expected),
            viewer: None,
        })
    }

    /// Runs a query on a reader's connection, as the viewer.
    pub(super) async fn run_query(&self, statement: Statement<'_>) -> Result<Vec<Row>, ReadError> {
        let found = async {
            let client = self.readers.get().await?;
            run_within(client, QUERY_TIMEOUT, async |client| {
                Ok(self.query_as_viewer(client, statement).await?)
            })
            .await
        };
        found.await.map_err(|failure: Failure| ReadError::unavailable(failure.message()))
    }

    pub(super) async fn query_as_viewer(
        &self,
        client: &Client,
        statement: Statement<'_>,
    ) -> Result<Vec<Row>, Error> {
        let Some(Viewer { claims, .. }) = &self.viewer else { return statement.query(client).await };
        let set_role = Statement::new(SET_VIEWER_ROLE).with(claims.as_str(), Type::TEXT);
        let statements = [Some(set_role), Some(statement)];
        let [_, rows] = transaction::read(client, &statements).await?;
        Ok(rows)
    }

    pub(super) async fn try_write(&self, delivery: Delivery<'_>) -> Result<Written, Failure> {
        let records = delivery.records;
        let rounds = plan::plan_rounds(records);
        // If a session starts and ends repeatedly in a batch, each repetition takes a round trip of its
        // own.
        let limit = QUERY_TIMEOUT.saturating_mul(u32::try_from(rounds.len()).unwrap_or(u32::MAX));
        let client = self.writers.get().await?;
        let lane = DeliveryLane::new(&delivery);
        run_within(client, limit, async |client| write::write(client, &lane, &rounds, records.len()).await)
            .await
    }

    /// Compares the schema if a difference may explain the failure.
    pub(super) async fn explain_failure(&self, failure: Failure) -> StoreError {
        if !failure.may_be_drift() {
            return failure.into_error();
        }
        match self.find_differences(SCHEMA_CHECK_TIMEOUT).await {
            Ok(differences) => explain::explain_failure(failure, &differences),
            Err(_) => failure.into_error(),
        }
    }

    pub(super) async fn find_differences(&self, limit: Duration) -> Result<Vec<Difference>, Failure> {
        let client = self.writers.get().await?;
        run_within(client, limit, async |client| Ok(schema::differences_for_writer(client).await?)).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn write(&self, delivery: Delivery<'_>) -> Result<Vec<Verdict>, StoreError> {
        let written = match self.try_write(delivery).await {
            Err(failure) if failure.is_race() && !failure.is_outcome_unknown() => {
                self.try_write(delivery).await
            }
            written => written,
        };
        match written {
            Ok(Written { verdicts, closed }) => {
                self.unindexed.add_stored(delivery.records, &verdicts, &closed);
                Ok(verdicts)
            }
            Err(failure) => Err(self.explain_failure(failure).await),
        }
    }

    async fn last_delivery(&self, node: Uuid, lane: usize) -> Result<Option<i64>, StoreError> {
        let held = async {
            let client = self.writers.get().await?;
            run_within(client, QUERY_TIMEOUT, async |client| deliveries::read_last(client, node, lane).await)
                .await
        };
        match held.await {
            Ok(held) => Ok(held),
            Err(failure) => Err(self.explain_failure(failure).await),
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        let differences = self.find_differences(QUERY_TIMEOUT).await.map_err(Failure::into_error)?;
        explain::check_drift(&differences).map_or(Ok(()), Err)
    }

    async fn known_sessions(&self, ids: &[SessionId]) -> Result<Vec<SessionId>, ReadError> {
        let rows = self.run_query(owners::select_owners(ids.iter().copied())).await?;
        let ids = rows.iter().map(|row| read_id(row, 0));
        ids.collect::<Result<_, _>>().map_err(ReadError::damaged)
    }

    async fn deleted_messages(
        &self,
        sessions: &[SessionId],
        within: Duration,
    ) -> Result<Vec<(SessionId, MessageId)>, ReadError> {
        let asked = Statement::new(user_marks::DELETED_MESSAGES).uuids(sessions.iter().copied());
        let rows = self.run_query(asked.with(within.as_secs_f64(), Type::FLOAT8)).await?;
        let ids = rows.iter().map(|row| Ok((read_id(row, 0)?, read_id(row, 1)?)));
        ids.collect::<Result<_, Error>>().map_err(ReadError::damaged)
    }

    async fn edit_messages(
        &self,
        edit: &MessagesEdit,
        accepted: Seq,
    ) -> Result<Result<EditedMessages, NotDurable>, StoreError> {
        let edited = async {
            let client = self.editors.get().await?;
            let lane = DeliveryLane::unnumbered();
            run_within(client, QUERY_TIMEOUT, async |client| {
                edits::apply_edit(client, &lane, edit, None, accepted).await
            })
            .await
        };
        match edited.await {
            Ok(edited) => {
                let edited = edited.map(|applied| applied.messages);
                let written = edited.iter().flat_map(|edited| &edited.written).map(|row| row.id);
                self.unindexed.add(written);
                Ok(edited)
            }
            Err(failure) => Err(self.explain_failure(failure).await),
        }
    }

    async fn end_idle_sessions(&self, since: Timestamp) -> Result<u64, StoreError> {
        let abandoned = async {
            let client = self.writers.get().await?;
            run_within(client, QUERY_TIMEOUT, async |client| {
                Ok(sessions::abandon_inactive(since).query(client).await?)
            })
            .await
        };
        let abandoned = abandoned.await.map_err(Failure::into_error)?;
        Ok(abandoned.len() as u64)
    }

    async fn identity(&self) -> Result<Option<Uuid>, StoreError> {
        let found = async {
            let client = self.writers.get().await?;
            run_within(client, QUERY_TIMEOUT, async |client| Ok(identity::read_id(client).await?)).await
        };
        match found.await {
            Ok(Some(id)) => Ok(Some(id)),
            Ok(None) => {
                let message = "The table 'conversation_store' shows no row (run: talktrack migrate; or the user of \
                               database_url needs a policy of its own there, docs/supabase.md)";
                Err(StoreError::new(ErrorClass::Systemic, message))
            }
            Err(failure) => Err(self.explain_failure(failure).await),
        }
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn set_expected(&self, noted: Option<NotedStore>) {
        *self.expected.lock() = noted;
        // Idle connections were checked against no store, or against a different one.
        [&self.writers, &self.readers, &self.editors, &self.search_indexers, &self.rollups]
            .into_iter()
            .for_each(Connections::close_idle);
    }

    fn search_indexer(&self) -> Option<Box<dyn Projection>> {
        Some(Box::new(PostgresSearchIndexer::new(self.search_indexers.clone(), self.unindexed.clone())))
    }

    fn stats_rollup(&self) -> Option<Box<dyn Projection>> {
        Some(Box::new(PostgresStatsRollup::new(self.rollups.clone())))
    }
}
