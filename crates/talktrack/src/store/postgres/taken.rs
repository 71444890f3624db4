//! Messages whose id was there already: repetitions, revisions, and conflicts.

use std::collections::HashMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::message::Message;
use crate::record::{DeadReason, Meeting, Stamped, Verdict};
use crate::store::postgres::failure::{Failure, MESSAGES};
use crate::store::postgres::plan::Placed;
use crate::store::postgres::read::MESSAGES_BY_ID;
use crate::store::postgres::rows::message_row;
use crate::store::postgres::statement::Statement;
use crate::store::postgres::{messages, obstacle};

/// Compares each with what is stored, and writes the revisions that are newer. Returns those that nothing is stored of: the
/// row was deleted meanwhile, or their session came only after they were written.
pub(super) async fn settle<'r>(
    client: &Client,
    mut taken: Vec<Placed<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<Placed<'r>>, Failure> {
    if taken.is_empty() {
        return Ok(taken);
    }
    taken.sort_by_key(|placed| placed.place);
    let mut known = stored(client, &taken).await?;
    let mut newer: HashMap<Uuid, &Stamped> = HashMap::new();
    let mut overtaken: HashMap<Uuid, Placed<'r>> = HashMap::new();
    let mut missing = Vec::new();
    for placed in taken {
        let stamped = placed.stamped;
        let Some(message) = known.get_mut(&stamped.id) else {
            missing.push(placed);
            continue;
        };
        verdicts[placed.place] = match stamped.meets(message) {
            Meeting::Overtaken => {
                overtaken.entry(stamped.id).or_insert(placed);
                Verdict::AlreadyThere
            }
            Meeting::Known => Verdict::AlreadyThere,
            Meeting::Conflict => Verdict::Dead(DeadReason::IdConflict),
            Meeting::Newer => {
                message.clone_from(&stamped.message);
                newer.insert(stamped.id, stamped);
                Verdict::Revised
            }
        };
    }
    if !overtaken.is_empty() {
        messages::move_up(overtaken.values()).query(client).await?;
    }
    let newer: Vec<&Stamped> = newer.into_values().collect();
    if newer.is_empty() {
        return Ok(missing);
    }
    let revised = messages::revise(&newer).query(client).await?;
    if revised.len() < newer.len() {
        let otherwise = "a message was revised by somebody else at the same moment";
        return Err(obstacle::swallowed(client, MESSAGES, otherwise).await);
    }
    Ok(missing)
}

async fn stored(client: &Client, taken: &[Placed<'_>]) -> Result<HashMap<Uuid, Message>, Failure> {
    let ids: Vec<Uuid> = taken.iter().map(|placed| placed.stamped.id).collect();
    let rows = Statement::new(MESSAGES_BY_ID).with(ids, Type::UUID_ARRAY).query(client).await?;
    let rows = rows.iter().map(|row| message_row(row).map(|row| (row.id, row.into_message())));
    rows.collect::<Result<_, _>>().map_err(Failure::unreadable)
}
