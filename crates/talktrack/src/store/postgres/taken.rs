//! Messages whose id already exists: repetitions, revisions and conflicts.

use std::collections::HashMap;

use tokio_postgres::Client;
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::record::{DeadReason, RevisionOrder, Verdict};
use crate::store::MessageRow;
use crate::store::postgres::deliveries::Lane;
use crate::store::postgres::failure::{Failure, MESSAGES};
use crate::store::postgres::plan::Placed;
use crate::store::postgres::queries::MESSAGES_BY_ID;
use crate::store::postgres::rows::message_page;
use crate::store::postgres::statement::Statement;
use crate::store::postgres::{messages, obstacle, transaction};

/// Compares each message with the stored one, and writes newer revisions. Returns the messages that are not
/// stored: the row was deleted meanwhile, or their session was created only after they were written.
pub(super) async fn settle<'r>(
    client: &Client,
    lane: &Lane<'_>,
    mut taken: Vec<Placed<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<Placed<'r>>, Failure> {
    if taken.is_empty() {
        return Ok(taken);
    }
    taken.sort_by_key(|placed| placed.place);
    let mut known = stored(client, &taken).await?;
    let mut newer: HashMap<Uuid, Placed<'r>> = HashMap::new();
    let mut overtaken: HashMap<Uuid, Placed<'r>> = HashMap::new();
    let mut missing = Vec::new();
    for placed in taken {
        let stamped = placed.stamped;
        let Some(message) = known.get_mut(&stamped.id) else {
            missing.push(placed);
            continue;
        };
        // This very record wrote the row, even if a trigger has changed the content since.
        let is_own = (message.seq == Some(placed.seq) || message.revision_seq() == Some(placed.seq))
            && message.revision == i64::from(stamped.message.revision)
            && message.session_id == stamped.message.session_id;
        verdicts[placed.place] = match message.compare_revision(stamped) {
            RevisionOrder::Older => {
                overtaken.entry(stamped.id).or_insert(placed);
                Verdict::AlreadyThere
            }
            RevisionOrder::Same => Verdict::AlreadyThere,
            RevisionOrder::Conflict if is_own => Verdict::AlreadyThere,
            RevisionOrder::Conflict => Verdict::Dead(DeadReason::IdConflict),
            RevisionOrder::NotTheirs => Verdict::Dead(DeadReason::NotTheirs),
            RevisionOrder::Newer => {
                let created_at = message.created_at.clone();
                *message = MessageRow { created_at, ..MessageRow::accepted(stamped, 0, None) };
                newer.insert(stamped.id, placed);
                Verdict::Revised
            }
        };
    }
    if !overtaken.is_empty() {
        transaction::write(client, lane, &[Some(messages::move_up(overtaken.values()))]).await?;
    }
    let newer: Vec<Placed<'r>> = newer.into_values().collect();
    if newer.is_empty() {
        return Ok(missing);
    }
    let [revised] = transaction::write(client, lane, &[Some(messages::revise(&newer))]).await?;
    if revised.len() < newer.len() {
        let otherwise = "a message was revised by somebody else at the same moment";
        return Err(obstacle::swallowed(client, MESSAGES, otherwise).await);
    }
    Ok(missing)
}

async fn stored(client: &Client, taken: &[Placed<'_>]) -> Result<HashMap<Uuid, MessageRow>, Failure> {
    let mut ids: Vec<Uuid> = taken.iter().map(|placed| placed.stamped.id).collect();
    let mut stored = HashMap::new();
    loop {
        let rows = Statement::new(MESSAGES_BY_ID).with(ids.clone(), Type::UUID_ARRAY).query(client).await?;
        let page = message_page(&rows, usize::MAX).map_err(Failure::unreadable)?;
        let last = page.last_before_more().map(|row| row.id);
        stored.extend(page.into_iter().map(|row| (row.id, row)));
        let Some(last) = last.and_then(|last| ids.iter().rposition(|id| *id == last)) else {
            return Ok(stored);
        };
        ids.drain(..=last);
        ids.retain(|id| !stored.contains_key(id));
    }
}
