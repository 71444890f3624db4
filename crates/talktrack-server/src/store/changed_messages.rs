//! The stored rows of the messages that changes name.

use std::collections::{HashMap, HashSet};

use talktrack::MessageId;
use talktrack::store::{MessageRow, Read};
use talktrack::{Change, ReadError};

/// Returns the stored rows of the messages of the changes that `is_wanted` selects, and the number of changes that were
/// looked up. If the rows are large, only those of the first changes are read, and the others are looked up with the next
/// page.
///
/// # Errors
/// Fails if the store cannot be read.
pub(crate) async fn read_changed_messages(
    store: &dyn Read,
    changes: &[Change],
    is_wanted: impl Fn(&Change) -> bool + Sync,
) -> Result<(HashMap<MessageId, MessageRow>, usize), ReadError> {
    let wanted = |change: &Change| change.message_id.filter(|_| is_wanted(change));
    let mut seen = HashSet::new();
    let ids: Vec<MessageId> = changes.iter().filter_map(wanted).filter(|id| seen.insert(*id)).collect();
    if ids.is_empty() {
        return Ok((HashMap::new(), changes.len()));
    }
    let page = store.messages_by_id(&ids).await?;
    let last = page.last_before_more().and_then(|last| ids.iter().position(|id| *id == last.id));
    let unread: HashSet<MessageId> = last.map_or(&[][..], |last| &ids[last + 1..]).iter().copied().collect();
    let is_unread = |change: &Change| wanted(change).is_some_and(|id| unread.contains(&id));
    let looked_up = changes.iter().position(is_unread).unwrap_or(changes.len());
    Ok((page.into_iter().map(|row| (row.id, row)).collect(), looked_up))
}
