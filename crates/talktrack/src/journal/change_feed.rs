//! Adds to the change feed what a batch changed, and limits the length of the feed.

use rusqlite::Transaction;
use talktrack_core::record::Verdict;

use crate::changes::Change;
use crate::journal::Entry;
use crate::local::tables::changes;

/// The number of changes that are kept, about 13 MB. A follower that is further behind has to read the tables
/// themselves.
const KEPT: u64 = 200_000;

/// The number of changes above [`KEPT`] at which the oldest are removed, all at once.
const SURPLUS: u64 = 2_000;

/// Adds the changes of a batch to a feed of `length` changes. Returns the new length.
pub(super) fn append_batch(
    tx: &Transaction<'_>,
    batch: &[Entry],
    verdicts: &[Verdict],
    length: u64,
) -> rusqlite::Result<u64> {
    let changed = batch.iter().zip(verdicts);
    let changed = changed.filter_map(|(entry, verdict)| Change::from_record(&entry.record, verdict));
    let length = length + changes::append(tx, changed)?;
    if length <= KEPT + SURPLUS {
        return Ok(length);
    }
    Ok(length.saturating_sub(changes::delete_oldest(tx, length - KEPT)?))
}
