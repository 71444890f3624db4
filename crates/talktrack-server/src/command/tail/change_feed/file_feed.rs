//! The changes in the file of a data directory, which any process may read while another one writes them.

use std::collections::{HashMap, VecDeque};

use talktrack::clock::Seq;
use talktrack::store::SessionFilter;
use talktrack::store::sqlite::{JournalRecord, SqliteReader};
use talktrack::{Change, ReadError};

use super::FeedItem;
use crate::config::{Config, Database};
use crate::error::Failure;
use crate::store::{self, PAGE, StoreReader};

/// Follows the changes after a place.
pub(crate) struct FileFeed {
    reader: SqliteReader,
    /// The store that has the rows.
    store: StoreReader,
    /// True if messages may wait in the journal for the store.
    is_remote: bool,
    /// How far the changes are read.
    pub(super) place: Seq,
    /// Items that were read and not handed out yet.
    ready: VecDeque<FeedItem>,
}

impl FileFeed {
    /// Opens the file. Without a place, the feed begins after the newest change.
    pub(super) async fn open(config: &Config, place: Option<Seq>) -> Result<Self, Failure> {
        let reader = store::open_file(&config.local_file())?;
        let place = match place {
            Some(place) => place,
            None => reader.newest_change().await?,
        };
        let is_remote = matches!(config.database, Database::Postgres(_));
        Ok(Self { reader, store: StoreReader::open(config)?, is_remote, place, ready: VecDeque::new() })
    }

    /// True if it is known that there is no conversation yet. A file without changes may have rows: the feed may have
    /// been reset, and other nodes write to a database.
    pub(super) async fn has_no_conversation(&self) -> Result<bool, ReadError> {
        if self.reader.newest_change().await? != Seq::ZERO {
            return Ok(false);
        }
        let newest = self.store.rows().sessions(SessionFilter::default(), None, 1).await;
        Ok(newest.is_ok_and(|newest| newest.is_empty()))
    }

    /// Returns the next item, or `None` if there is none yet.
    pub(super) async fn next(&mut self) -> Result<Option<FeedItem>, ReadError> {
        while self.ready.is_empty() {
            if !self.read_page().await? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    /// Reads the next changes. Returns false if there are none.
    async fn read_page(&mut self) -> Result<bool, ReadError> {
        let mut page = self.reader.changes_since(self.place, PAGE).await?;
        if page.next == self.place {
            return Ok(false);
        }
        page.changes.retain(|change| change.message_id.is_some());
        // The journal is read first: a message that moves to the store in between is then found there. If the rows are
        // large, both return only the first of them, and the others are read with the next page.
        let (waiting, looked_up) = self.read_waiting(&page.changes).await?;
        page.truncate(looked_up);
        let is_stored = |change: &Change| !waiting.contains_key(&change.seq);
        let (stored, looked_up) =
            store::read_changed_messages(self.store.rows(), &page.changes, is_stored).await?;
        page.truncate(looked_up);
        if !page.is_gap_free {
            self.ready.push_back(FeedItem::Gap);
        }
        for change in page.changes {
            let row = match waiting.get(&change.seq) {
                Some(waiting) => waiting.message_row(None),
                None => change.message_id.and_then(|id| stored.get(&id).cloned()),
            };
            // A message without a row was deleted since.
            self.ready.extend(row.map(Box::new).map(FeedItem::Message));
        }
        self.place = page.next;
        Ok(true)
    }

    /// Returns the records of these changes that wait in the journal, and the number of changes that were looked up.
    async fn read_waiting(
        &self,
        changes: &[Change],
    ) -> Result<(HashMap<Seq, JournalRecord>, usize), ReadError> {
        match self.is_remote {
            true => self.reader.outbox().journal_records(changes).await,
            false => Ok((HashMap::new(), changes.len())),
        }
    }
}
