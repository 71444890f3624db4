//! Hands over to the tracker, patiently where there is no room, and hears what became of each line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use talktrack::clock::Seq;
use talktrack::store::Read;
use talktrack::{Durability, Reason, Receipt, Refused, Tracker};

use super::tally::Tally;
use crate::error::Failure;
use crate::jsonl::Place;
use crate::table;

/// How long a full disk is given before the next attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a store that does not take what it is given is waited for. What it has not taken then is durable.
const STORE_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Handover {
    tracker: Tracker,
    durability: Durability,
    /// What was accepted and has no answer yet, in the order of acceptance; with the line it stands on.
    under_way: VecDeque<(Seq, String)>,
    pub(super) tally: Tally,
}

/// Why a line was not imported.
pub(super) enum Trouble {
    /// It is bad; the next one may be good.
    Line(String),
    /// Nothing can be imported any more.
    Fatal(Failure),
}

impl Handover {
    pub(super) fn new(tracker: Tracker, counts_rows: bool) -> Self {
        let (durability, tally) = (tracker.durability(), Tally::new(tracker.health().books, counts_rows));
        Self { tracker, durability, under_way: VecDeque::new(), tally }
    }

    /// What is stored already.
    pub(super) fn reader(&self) -> Arc<dyn Read> {
        self.tracker.reader()
    }

    /// Hands something over, as often as it takes while there is no room for it.
    pub(super) async fn patiently<T, R>(
        &mut self,
        mut what: T,
        mut hand_over: impl FnMut(&Tracker, T) -> Result<R, Refused<T>>,
    ) -> Result<R, Trouble> {
        loop {
            match hand_over(&self.tracker, what) {
                Ok(accepted) => return Ok(accepted),
                Err(Refused { reason: Reason::QueueFull, returned }) => {
                    what = returned;
                    self.make_room().await?;
                }
                Err(Refused { reason: Reason::JournalFull, returned }) => {
                    what = returned;
                    self.tally.say_once_that_it_waits();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(refused) => return Err(refused.reason.into()),
            }
        }
    }

    /// The same for what is always accepted, but for a tracker that shuts down.
    pub(super) fn at_once<R>(
        &self,
        hand_over: impl FnOnce(&Tracker) -> Result<R, Reason>,
    ) -> Result<R, Trouble> {
        Ok(hand_over(&self.tracker)?)
    }

    /// Remembers a message that was accepted.
    pub(super) fn expect(&mut self, receipt: &Receipt, place: Place<'_>) {
        self.tally.messages += 1;
        self.under_way.push_back((receipt.seq(), place.to_string()));
    }

    /// Waits until a part of what is under way is durable; the disk works on while more is handed over.
    async fn make_room(&mut self) -> Result<(), Trouble> {
        match self.under_way.get(self.under_way.len() / 4) {
            // What became of it is for `settle` to say.
            Some((seq, _)) => drop(self.durability.wait(*seq).await),
            None => self.tracker.flush().await?,
        }
        self.settle();
        Ok(())
    }

    /// Looks at the answers that have come.
    pub(super) fn settle(&mut self) {
        while let Some((seq, _)) = self.under_way.front() {
            let Some(outcome) = self.durability.outcome(*seq) else { return };
            let Some((_, place)) = self.under_way.pop_front() else { return };
            if let Err(why) = outcome {
                self.tally.messages -= 1;
                self.refuse(&place, &why.to_string());
            }
        }
    }

    /// Reports a bad line.
    pub(super) fn refuse(&mut self, place: &str, problem: &str) {
        self.tally.refused += 1;
        eprintln!("{place}: {}", table::safe_line(problem));
    }

    /// Waits until everything is stored, or durable while the store is away, and says what came of it.
    ///
    /// # Errors
    /// Where the tracker stopped before.
    pub(super) async fn finish(mut self) -> Result<Tally, Failure> {
        self.tracker.flush().await?;
        self.settle();
        self.reach_the_store().await?;
        self.tally.close(self.tracker.health().books);
        // No shutdown, which would end sessions that the file leaves open: they stay as they are told. Whatever was
        // accepted is durable by now; letting go of the tracker waits for its threads.
        let tracker = self.tracker;
        tokio::task::spawn_blocking(move || drop(tracker)).await.map_err(Failure::new)?;
        Ok(self.tally)
    }

    /// Waits for a remote store for as long as it takes records. Where it takes none, what is left stays in the journal.
    async fn reach_the_store(&self) -> Result<(), Failure> {
        loop {
            let stored = tokio::time::timeout(STORE_PATIENCE, self.tracker.flush_to_store()).await;
            match (stored, self.tracker.health().store) {
                (Ok(stored), _) => return Ok(stored?),
                (Err(_), Some(cause)) => {
                    eprintln!("the database does not take everything now: {}", table::safe_line(&cause));
                    return Ok(());
                }
                (Err(_), None) => {}
            }
        }
    }
}

impl From<crate::wire::WireError> for Trouble {
    fn from(error: crate::wire::WireError) -> Self {
        Self::Line(error.to_string())
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        Self::Line(reason.to_string())
    }
}

impl From<talktrack::ReadError> for Trouble {
    fn from(error: talktrack::ReadError) -> Self {
        Self::Fatal(error.into())
    }
}

impl From<talktrack::NotDurable> for Trouble {
    fn from(error: talktrack::NotDurable) -> Self {
        Self::Fatal(error.into())
    }
}
