//! Several statements as one transaction, sent in one go.

use futures_util::future::maybe_done;
use futures_util::poll;
use tokio_postgres::{Client, Error, Row};

use crate::store::postgres::statement::Statement;

/// Begins one that writes. A server that loses this client halfway must not keep rows locked for it.
pub(super) const TO_WRITE: &str =
    "BEGIN; SET LOCAL statement_timeout = '30s'; SET LOCAL idle_in_transaction_session_timeout = '30s'";

/// Begins one that reads.
pub(super) const TO_READ: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '30s'";

/// Runs the statements in one transaction. Everything is sent before the first answer is awaited.
pub(super) async fn transaction<const N: usize>(
    client: &Client,
    begin: &str,
    statements: &[Option<Statement<'_>>; N],
) -> Result<[Vec<Row>; N], Error> {
    if statements.iter().all(Option::is_none) {
        return Ok(std::array::from_fn(|_| Vec::new()));
    }
    let mut begun = Box::pin(maybe_done(client.batch_execute(begin)));
    let mut answers =
        statements.each_ref().map(|statement| Box::pin(maybe_done(run(client, statement.as_ref()))));
    let mut committed = Box::pin(maybe_done(client.batch_execute("COMMIT")));
    // The first poll of each sends it.
    let _ = poll!(begun.as_mut());
    for answer in &mut answers {
        let _ = poll!(answer.as_mut());
    }
    let _ = poll!(committed.as_mut());

    begun.as_mut().await;
    let mut outcome = begun.as_mut().take_output().unwrap_or(Ok(()));
    let mut rows = std::array::from_fn(|_| Vec::new());
    for (answer, rows) in answers.iter_mut().zip(&mut rows) {
        answer.as_mut().await;
        match answer.as_mut().take_output() {
            Some(Ok(found)) => *rows = found,
            // What follows the first error says only that there was one.
            Some(Err(error)) => outcome = outcome.and(Err(error)),
            None => {}
        }
    }
    committed.as_mut().await;
    outcome = outcome.and(committed.as_mut().take_output().unwrap_or(Ok(())));
    outcome.map(|()| rows)
}

async fn run(client: &Client, statement: Option<&Statement<'_>>) -> Result<Vec<Row>, Error> {
    match statement {
        Some(statement) => statement.query(client).await,
        None => Ok(Vec::new()),
    }
}
