//! The messages of one session that are durable on this node, and a page of stored messages merged with them.

use std::collections::HashMap;

use talktrack::record::Record;
use talktrack::store::{MessageCursor, MessageRow, Page};
use talktrack::{MessageId, ReadError, UserId};

/// The direction of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListOrder {
    OldestFirst,
    NewestFirst,
}

/// Messages by id, each in its latest revision and at the place of its first revision.
pub(super) type RowsById = HashMap<MessageId, MessageRow>;

/// Makes rows of the messages among these records, which are in the order of acceptance. `owner` is the user of the
/// session.
pub(super) fn fold_messages<'r>(
    records: impl Iterator<Item = &'r Record>,
    owner: Option<&UserId>,
) -> RowsById {
    let mut rows = RowsById::new();
    for record in records {
        let Some(stamped) = record.message() else { continue };
        let row = MessageRow::from_stamped(stamped, record.seq, owner);
        match rows.get_mut(&row.id) {
            None => _ = rows.insert(row.id, row),
            Some(known) if row.revision > known.revision => {
                *known = MessageRow { created_at: known.created_at.clone(), seq: known.seq, ..row };
            }
            Some(known) => (known.created_at, known.seq) = (row.created_at, row.seq),
        }
    }
    rows
}

/// Merges the waiting messages into a page of stored ones, which begins after the cursor. A waiting message that sorts
/// after the last stored row of a page belongs on a later page. This also holds if that row is shown at another place.
pub(super) fn merge_page(
    mut page: Page<MessageRow>,
    waiting: RowsById,
    order: ListOrder,
    cursor: Option<MessageCursor>,
    limit: usize,
) -> Result<Page<MessageRow>, ReadError> {
    let end = page.last_before_more().map(MessageRow::cursor);
    let is_on_page = |row: &MessageRow| {
        let place = row.cursor();
        match order {
            ListOrder::OldestFirst => {
                cursor.is_none_or(|after| place > after) && end.is_none_or(|end| place <= end)
            }
            ListOrder::NewestFirst => {
                cursor.is_none_or(|before| place < before) && end.is_none_or(|end| place >= end)
            }
        }
    };
    page.rows.retain(|row| !waiting.contains_key(&row.id));
    page.rows.extend(waiting.into_values().filter(is_on_page));
    page.rows.sort_by_key(MessageRow::cursor);
    if order == ListOrder::NewestFirst {
        page.rows.reverse();
    }
    let merged = Page::fill::<ReadError>(page.rows.into_iter().map(Ok), Some(limit))?;
    Ok(Page { more: merged.more || end.is_some(), ..merged })
}
