//! The watermark of the store: up to which record nothing in the journal waits for the store. It is published for
//! callers that wait for it.

use std::ops::ControlFlow;

use rusqlite::Connection;
use talktrack_core::clock::Seq;

use crate::journal::outbox::Outbox;
use crate::local::tables::journal;

/// The maximum number of rows that one look passes, so that a new message does not wait for a look at the whole re-send
/// window.
const PASSED_AT_ONCE: usize = 1_000;

impl Outbox {
    /// Publishes how far the store has the records, if a caller waits for it. If only a part of the journal was looked
    /// at, asks for another round.
    pub(super) fn publish_store_watermark(&mut self, connection: &Connection) {
        let health = self.health();
        if !health.is_store_watermark_watched() {
            return;
        }
        let from = health.store_watermark();
        let found = if health.books().journal_bytes == 0 {
            Ok(StoreWatermark { up_to: self.newest(), has_more: false })
        } else {
            find_watermark(connection, from, self.newest())
        };
        match found {
            Ok(found) => {
                health.set_store_watermark(found.up_to);
                if found.has_more {
                    self.wake();
                }
            }
            // The next round tries again.
            Err(error) => tracing::debug!(%error, "cannot find out how far the store has the records"),
        }
    }
}

/// The result of a look.
struct StoreWatermark {
    /// No record up to this `seq` waits for the store.
    up_to: Seq,
    /// True if the look ended before it met a record that waits.
    has_more: bool,
}

/// Looks for the first record after `from` that waits for the store. `newest` is the newest record of the journal.
fn find_watermark(connection: &Connection, from: Seq, newest: Seq) -> rusqlite::Result<StoreWatermark> {
    let mut passed = 0;
    let mut up_to = from;
    let mut waiting = None;
    journal::visit_rows(connection, from, PASSED_AT_ONCE, |seq, is_pending| {
        if is_pending {
            waiting = Some(seq);
            return ControlFlow::Break(());
        }
        passed += 1;
        up_to = seq;
        ControlFlow::Continue(())
    })?;
    if let Some(waiting) = waiting {
        return Ok(StoreWatermark { up_to: waiting.previous(), has_more: false });
    }
    let has_more = passed == PASSED_AT_ONCE;
    Ok(StoreWatermark { up_to: if has_more { up_to } else { newest }, has_more })
}
