//! Delivery numbers: each transaction of a lane moves the lane's number in `conversation_nodes` to the
//! next, so that the lane notices if the database has lost earlier transactions. Only one lane writes each
//! row, so no transaction waits for its lock.

use talktrack_core::store::{Delivery, DeliveryNumbers};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::failure::Failure;
use crate::statement::Statement;

/// Moves the number from `$3` to `$4`, and fails (22012) if the database holds a different one. Creates the
/// row of a lane that has not delivered yet.
const MOVE: &str = "
WITH moved AS (
  UPDATE public.conversation_nodes SET delivery = $4::int8 WHERE node = $1::uuid AND lane = $2::int4 AND delivery = $3::int8 RETURNING 1
), made AS (
  INSERT INTO public.conversation_nodes (node, lane, delivery) SELECT $1::uuid, $2::int4, $4::int8
  WHERE $3::int8 = 0 AND NOT EXISTS (SELECT FROM public.conversation_nodes WHERE node = $1::uuid AND lane = $2::int4) RETURNING 1
)
SELECT 1 / (SELECT count(*) FROM (SELECT FROM moved UNION ALL SELECT FROM made) AS there)";

const HELD: &str = "SELECT delivery FROM public.conversation_nodes WHERE node = $1::uuid AND lane = $2::int4";

/// The lane that delivers.
#[derive(Clone, Copy)]
pub(super) struct DeliveryLane<'d> {
    node: Uuid,
    lane: i32,
    numbers: Option<&'d DeliveryNumbers>,
}

impl<'d> DeliveryLane<'d> {
    pub(super) fn new(delivery: &Delivery<'d>) -> Self {
        Self { node: delivery.node, lane: lane_number(delivery.lane), numbers: delivery.numbers }
    }

    /// Creates a lane for a transaction that no lane delivers, and that has no number.
    pub(super) fn unnumbered() -> Self {
        Self { node: Uuid::nil(), lane: 0, numbers: None }
    }

    pub(super) fn node(&self) -> Uuid {
        self.node
    }

    /// Returns the statement that goes first in the next transaction, and its number.
    pub(super) fn next_delivery(&self) -> Option<(Statement<'static>, i64)> {
        let numbers = self.numbers?;
        let last = numbers.last();
        let next = numbers.next();
        let statement = Statement::new(MOVE).with(self.node, Type::UUID).with(self.lane, Type::INT4);
        Some((statement.with(last, Type::INT8).with(next, Type::INT8), next))
    }

    pub(super) fn commit(&self, number: i64) {
        self.numbers.iter().for_each(|numbers| numbers.commit(number));
    }
}

/// Returns the number of the last delivery of a lane, if the database knows one.
pub(super) async fn read_last(client: &Client, node: Uuid, lane: usize) -> Result<Option<i64>, Failure> {
    let statement = Statement::new(HELD).with(node, Type::UUID).with(lane_number(lane), Type::INT4);
    let rows = statement.query(client).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).max_by_key(|held| held.as_ref().ok().copied()).transpose()?)
}

/// Explains why the number could not be moved.
pub(super) fn explain_guard_failure(error: Error) -> Failure {
    if error.code() == Some(&SqlState::DIVISION_BY_ZERO) {
        return Failure::changed(
            "the database's last delivery of this server is not the last one that it confirmed",
        );
    }
    error.into()
}

fn lane_number(lane: usize) -> i32 {
    i32::try_from(lane).unwrap_or(i32::MAX)
}
