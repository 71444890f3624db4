//! Sends several statements as one transaction in one round trip.

use futures_util::future::maybe_done;
use futures_util::poll;
use talktrack_core::error::NotDurable;
use tokio_postgres::{Client, Error, Row};

use crate::deliveries::{self, DeliveryLane};
use crate::failure::Failure;
use crate::statement::Statement;

/// Begins a transaction that writes. The server must not keep rows locked for a lost client. A confirmed
/// commit must be on disk, even if the database or the role has `synchronous_commit` off.
const TO_WRITE: &str = "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '10s'; \
     SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply')";

/// Begins a transaction that reads.
const TO_READ: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '30s'";

/// Runs the statements in one transaction that reads.
pub(super) async fn read<const N: usize>(
    client: &Client,
    statements: &[Option<Statement<'_>>; N],
) -> Result<[Vec<Row>; N], Error> {
    run_transaction(client, TO_READ, None, statements).await.map_err(|broken| broken.error)
}

/// Runs the statements in one transaction that writes: the next delivery of a lane.
pub(super) async fn write<const N: usize>(
    client: &Client,
    lane: &DeliveryLane<'_>,
    statements: &[Option<Statement<'_>>; N],
) -> Result<[Vec<Row>; N], Failure> {
    let delivery = lane.next_delivery();
    let guard = delivery.as_ref().map(|(statement, _)| statement);
    match run_transaction(client, TO_WRITE, guard, statements).await {
        Ok(rows) => {
            // If there was no statement, nothing was sent.
            if let Some((_, number)) = delivery.filter(|_| statements.iter().any(Option::is_some)) {
                lane.commit(number);
            }
            Ok(rows)
        }
        Err(TransactionError { error, by_guard: true }) => Err(deliveries::explain_guard_failure(error)),
        Err(TransactionError { error, by_guard: false }) => Err(error.into()),
    }
}

/// Runs steps that depend on one another in one transaction that writes: the next delivery of a lane.
pub(super) async fn run_steps<T>(
    client: &Client,
    lane: &DeliveryLane<'_>,
    steps: impl AsyncFnOnce(&Client) -> Result<Result<T, NotDurable>, Failure>,
) -> Result<Result<T, NotDurable>, Failure> {
    client.batch_execute(TO_WRITE).await?;
    let delivery = lane.next_delivery();
    if let Some((guard, _)) = &delivery {
        guard.query(client).await.map_err(deliveries::explain_guard_failure)?;
    }
    let done = steps(client).await;
    if !matches!(done, Ok(Ok(_))) {
        // If this fails too, the connection is broken, and the server rolls back by itself.
        let _ = client.batch_execute("ROLLBACK").await;
        return done;
    }
    client.batch_execute("COMMIT").await?;
    if let Some((_, number)) = delivery {
        lane.commit(number);
    }
    done
}

/// The failure of a transaction.
struct TransactionError {
    error: Error,
    /// The statement that failed is the one that moves the number of the delivery.
    by_guard: bool,
}

/// Runs the statements in one transaction. Sends all of them before it awaits the first answer.
async fn run_transaction<const N: usize>(
    client: &Client,
    begin: &str,
    guard: Option<&Statement<'_>>,
    statements: &[Option<Statement<'_>>; N],
) -> Result<[Vec<Row>; N], TransactionError> {
    if statements.iter().all(Option::is_none) {
        return Ok(std::array::from_fn(|_| Vec::new()));
    }
    let mut begun = Box::pin(maybe_done(client.batch_execute(begin)));
    let mut guarded = Box::pin(maybe_done(run_statement(client, guard)));
    let mut answers = statements
        .each_ref()
        .map(|statement| Box::pin(maybe_done(run_statement(client, statement.as_ref()))));
    let mut committed = Box::pin(maybe_done(client.batch_execute("COMMIT")));
    // The first poll of each future sends its statement.
    let _ = poll!(begun.as_mut());
    let _ = poll!(guarded.as_mut());
    for answer in &mut answers {
        let _ = poll!(answer.as_mut());
    }
    let _ = poll!(committed.as_mut());

    begun.as_mut().await;
    let broken = |by_guard| move |error| TransactionError { error, by_guard };
    let mut outcome = begun.as_mut().take_output().unwrap_or(Ok(())).map_err(broken(false));
    guarded.as_mut().await;
    outcome =
        outcome.and(guarded.as_mut().take_output().unwrap_or(Ok(Vec::new())).map(drop).map_err(broken(true)));
    let mut rows = std::array::from_fn(|_| Vec::new());
    for (answer, rows) in answers.iter_mut().zip(&mut rows) {
        answer.as_mut().await;
        match answer.as_mut().take_output() {
            Some(Ok(found)) => *rows = found,
            // Errors after the first one only say that the transaction was aborted.
            Some(Err(error)) => outcome = outcome.and(Err(error).map_err(broken(false))),
            None => {}
        }
    }
    committed.as_mut().await;
    outcome = outcome.and(committed.as_mut().take_output().unwrap_or(Ok(())).map_err(broken(false)));
    outcome.map(|()| rows)
}

async fn run_statement(client: &Client, statement: Option<&Statement<'_>>) -> Result<Vec<Row>, Error> {
    match statement {
        Some(statement) => statement.query(client).await,
        None => Ok(Vec::new()),
    }
}
