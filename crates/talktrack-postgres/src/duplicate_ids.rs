//! Messages whose id already exists: repetitions, revisions and conflicts.

use std::collections::HashMap;

use talktrack_core::clock::Seq;
use talktrack_core::ids::MessageId;
use talktrack_core::record::{DeadReason, RevisionOrder, Verdict};
use talktrack_core::store::MessageRow;
use tokio_postgres::Client;

use crate::deliveries::DeliveryLane;
use crate::failure::{Failure, MESSAGES};
use crate::plan::PlacedMessage;
use crate::queries::MESSAGES_BY_ID;
use crate::rows::message_page;
use crate::statement::Statement;
use crate::{hidden_rows, messages, transaction};

/// Compares each message with the stored one, and writes newer revisions. Returns the messages that are not
/// stored: the row was deleted meanwhile, or their session was created only after they were written.
pub(super) async fn resolve<'r>(
    client: &Client,
    lane: &DeliveryLane<'_>,
    mut messages: Vec<PlacedMessage<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<PlacedMessage<'r>>, Failure> {
    if messages.is_empty() {
        return Ok(messages);
    }
    messages.sort_by_key(|placed| placed.place);
    let ids = messages.iter().map(|placed| placed.stamped.id).collect();
    let mut stored = read_stored(client, ids).await?;
    let mut newer: HashMap<MessageId, PlacedMessage<'r>> = HashMap::new();
    let mut older: HashMap<MessageId, PlacedMessage<'r>> = HashMap::new();
    let mut missing = Vec::new();
    for placed in messages {
        let stamped = placed.stamped;
        let Some(message) = stored.get_mut(&stamped.id) else {
            missing.push(placed);
            continue;
        };
        // This very record wrote the row, even if a trigger has changed the content since.
        let is_own = (message.seq == Some(placed.seq) || message.revision_seq() == Some(placed.seq))
            && message.revision == i64::from(stamped.message.revision)
            && message.session_id == stamped.message.session_id;
        verdicts[placed.place] = match message.compare_revision(stamped) {
            RevisionOrder::Older => {
                older.entry(stamped.id).or_insert(placed);
                Verdict::AlreadyThere
            }
            RevisionOrder::Same => Verdict::AlreadyThere,
            RevisionOrder::Conflict if is_own => Verdict::AlreadyThere,
            RevisionOrder::Conflict => Verdict::Dead(DeadReason::IdConflict),
            RevisionOrder::NotTheirs => Verdict::Dead(DeadReason::NotTheirs),
            RevisionOrder::Newer => {
                let verdict = message.revised_by(stamped);
                let created_at = message.created_at.clone();
                *message = MessageRow { created_at, ..MessageRow::from_stamped(stamped, Seq::ZERO, None) };
                newer.insert(stamped.id, placed);
                verdict
            }
        };
    }
    if !older.is_empty() {
        transaction::write(client, lane, &[Some(messages::move_messages_up(older.values()))]).await?;
    }
    let newer: Vec<PlacedMessage<'r>> = newer.into_values().collect();
    if newer.is_empty() {
        return Ok(missing);
    }
    let [revised] = transaction::write(client, lane, &[Some(messages::revise_messages(&newer))]).await?;
    if revised.len() < newer.len() {
        let otherwise = "another transaction revised a message at the same moment";
        return Err(hidden_rows::explain_missing_rows(client, MESSAGES, otherwise).await);
    }
    Ok(missing)
}

/// Returns those of the messages with these ids that are stored.
pub(super) async fn read_stored(
    client: &Client,
    mut ids: Vec<MessageId>,
) -> Result<HashMap<MessageId, MessageRow>, Failure> {
    let mut stored = HashMap::new();
    while !ids.is_empty() {
        let rows = Statement::new(MESSAGES_BY_ID).uuids(ids.iter().copied()).query(client).await?;
        let page = message_page(&rows, None).map_err(|error| Failure::unreadable(&error))?;
        let last = page.last_before_more().map(|row| row.id);
        stored.extend(page.into_iter().map(|row| (row.id, row)));
        let Some(last) = last.and_then(|last| ids.iter().rposition(|id| *id == last)) else { break };
        ids.drain(..=last);
        ids.retain(|id| !stored.contains_key(id));
    }
    Ok(stored)
}
