//! A transcript with odd values, read backwards.

use talktrack::store::{MessageRow, Read};
use talktrack::{MessageId, SessionId};

use crate::support::within;

/// Checks that the messages of a session, read backwards in pages, are those read forwards in the reverse order.
pub(super) async fn is_the_reverse(
    reader: &dyn Read,
    session: SessionId,
    page: usize,
    forwards: &[MessageRow],
) -> Result<(), String> {
    let mut all: Vec<MessageId> = Vec::new();
    let mut before = None;
    loop {
        let rows = within(reader.latest_messages(session, before, page))
            .await
            .map_err(|error| format!("messages backwards: {error}"))?;
        before = rows.last_before_more().map(MessageRow::cursor);
        all.extend(rows.iter().map(|row| row.id));
        if before.is_none() || all.len() > 5_000 {
            break;
        }
    }
    let expected: Vec<MessageId> = forwards.iter().rev().map(|row| row.id).collect();
    if all == expected {
        Ok(())
    } else {
        Err(format!("backwards, {page} a page: {all:?} instead of {expected:?}"))
    }
}
