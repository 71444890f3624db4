//! Replays and drops dead letters. Used by a command that has the data directory to itself, and by the server on behalf
//! of a command.

use std::path::Path;

use serde::{Deserialize, Serialize};
use talktrack::clock::Seq;
use talktrack::record::{Body, Record};
use talktrack::store::sqlite::{DeadLetter, DeadLetterReader, Replayed, SqliteReader};
use talktrack::{NotDurable, ReadError, Reason, RecordReceipt, Refused, Tracker};

use crate::error::Failure;

/// The maximum number of letters in one request. It bounds the size of the request and of its answer, and the time that
/// it takes.
pub(crate) const MOST_AT_ONCE: usize = 100;

/// What to do with dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LetterRequest {
    /// Sends these letters to the store again.
    Replay(Vec<Seq>),
    /// Deletes these letters.
    Drop(Vec<Seq>),
}

impl LetterRequest {
    /// Returns the name of the action in the audit log.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Replay(_) => "dead_letters.replay",
            Self::Drop(_) => "dead_letters.drop",
        }
    }
}

/// The outcome of one letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LetterResult {
    pub(crate) seq: Seq,
    #[serde(flatten)]
    pub(crate) outcome: LetterOutcome,
}

/// What happened to a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum LetterOutcome {
    /// Replayed and stored.
    Stored,
    /// Replayed and durable again; waits for the remote store.
    OnItsWay,
    /// Replayed and refused by the store again. There is a new letter.
    DeadAgain {
        /// The new letter.
        letter: Seq,
        reason: String,
        detail: Option<String>,
    },
    /// Replayed and refused because the session, the message or the user was deleted. Nothing of it is kept.
    Deleted,
    /// Deleted for good.
    Dropped,
    /// Could not be replayed now and is unchanged.
    Stays { why: String },
    /// There is no such letter.
    NotThere,
}

impl LetterOutcome {
    /// True if the request was fulfilled.
    pub(crate) fn is_success(&self) -> bool {
        matches!(self, Self::Stored | Self::OnItsWay | Self::Deleted | Self::Dropped)
    }
}

/// How far the replay of a letter has come.
enum ReplayProgress {
    /// The letter's record was accepted again.
    Accepted(RecordReceipt),
    /// The letter has its outcome.
    Over(LetterOutcome),
}

/// The dead letters of a data directory that this process has locked.
pub(crate) struct DeadLetters {
    tracker: Tracker,
    reader: DeadLetterReader,
}

impl DeadLetters {
    /// Opens the dead letters of `tracker` in this file.
    pub(crate) fn open(tracker: Tracker, database: &Path) -> Result<Self, ReadError> {
        Ok(Self::new(tracker, SqliteReader::open(database)?.dead_letters()))
    }

    /// Uses the dead letters of `tracker`, read through `reader`.
    pub(crate) fn new(tracker: Tracker, reader: DeadLetterReader) -> Self {
        Self { tracker, reader }
    }

    /// Carries out a request and returns the outcome of each letter.
    ///
    /// # Errors
    /// Fails if the tracker stopped meanwhile, or the file cannot be read. What was done until then stays done.
    pub(crate) async fn execute(&self, request: LetterRequest) -> Result<Vec<LetterResult>, Failure> {
        match request {
            LetterRequest::Replay(seqs) => self.replay_letters(seqs).await,
            LetterRequest::Drop(seqs) => self.drop_letters(seqs).await,
        }
    }

    async fn drop_letters(&self, seqs: Vec<Seq>) -> Result<Vec<LetterResult>, Failure> {
        let dropped = self.tracker.delete_dead_letters(seqs.clone()).await?;
        let outcome =
            |seq| if dropped.contains(&seq) { LetterOutcome::Dropped } else { LetterOutcome::NotThere };
        Ok(seqs.into_iter().map(|seq| LetterResult { seq, outcome: outcome(seq) }).collect())
    }

    /// Replays letters. A letter is removed only after its record is durable again. A crash between the two leaves
    /// both, and replaying again changes nothing in the store.
    async fn replay_letters(&self, seqs: Vec<Seq>) -> Result<Vec<LetterResult>, Failure> {
        let mut replays = Vec::with_capacity(seqs.len());
        for seq in seqs {
            replays.push((seq, self.hand_over(seq).await?));
        }
        for (_, replay) in &mut replays {
            if let ReplayProgress::Accepted(receipt) = replay
                && let Err(why) = receipt.clone().await
            {
                *replay = ReplayProgress::Over(still_dead(why));
            }
        }
        let durable = replays.iter().filter(|(_, replay)| matches!(replay, ReplayProgress::Accepted(_)));
        self.tracker.delete_dead_letters(durable.map(|(seq, _)| *seq).collect()).await?;
        let mut outcomes = Vec::with_capacity(replays.len());
        for (seq, replay) in replays {
            let outcome = match replay {
                ReplayProgress::Accepted(receipt) => self.replay_outcome(&receipt).await?,
                ReplayProgress::Over(outcome) => outcome,
            };
            outcomes.push(LetterResult { seq, outcome });
        }
        Ok(outcomes)
    }

    /// Puts the record of a letter into the queue. Waits while the queue is full.
    async fn hand_over(&self, seq: Seq) -> Result<ReplayProgress, Failure> {
        let Some(letter) = self.reader.get(seq).await? else {
            return Ok(ReplayProgress::Over(LetterOutcome::NotThere));
        };
        let Some(mut record) = letter.intact() else {
            return Ok(ReplayProgress::Over(still_dead(
                "its bytes have changed since it was accepted; see `talktrack dead-letters show`",
            )));
        };
        loop {
            match self.tracker.replay_record(record) {
                Ok(receipt) => return Ok(ReplayProgress::Accepted(receipt)),
                Err(Refused { reason: Reason::QueueFull, returned }) => {
                    record = self.wait_for_room(returned).await?
                }
                Err(refused) => return Ok(ReplayProgress::Over(still_dead(refused.reason))),
            }
        }
    }

    async fn wait_for_room(&self, record: Record) -> Result<Record, NotDurable> {
        self.tracker.flush().await.map(|()| record)
    }

    async fn replay_outcome(&self, receipt: &RecordReceipt) -> Result<LetterOutcome, ReadError> {
        Ok(match self.reader.replay_outcome(receipt).await? {
            Replayed::Stored => LetterOutcome::Stored,
            Replayed::Pending => LetterOutcome::OnItsWay,
            Replayed::Deleted => LetterOutcome::Deleted,
            Replayed::DeadAgain(letter) => {
                LetterOutcome::DeadAgain { letter: letter.seq, reason: letter.reason, detail: letter.detail }
            }
        })
    }
}

/// Returns what kind of record the letter contains.
pub(crate) fn kind_of_record(letter: &DeadLetter) -> &'static str {
    match letter.record.as_ref().map(|record| &record.body) {
        Ok(Body::Start(_)) => "start of a session",
        Ok(Body::Update(_)) => "update of a session",
        Ok(Body::End(_)) => "end of a session",
        Ok(Body::Heartbeat(_)) => "heartbeat of a session",
        Ok(Body::Delete(_)) => "deletion of a session",
        Ok(Body::DeleteUser(_)) => "deletion of a user",
        Ok(Body::EditMessages(_)) => "edit of messages",
        Ok(Body::Message(_)) => "message",
        Err(_) => "unreadable",
    }
}

fn still_dead(why: impl std::fmt::Display) -> LetterOutcome {
    LetterOutcome::Stays { why: why.to_string() }
}
