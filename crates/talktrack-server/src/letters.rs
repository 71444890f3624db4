//! Dead letters brought back or let go: for the command that has the data directory to itself, and for the server that
//! does it on the command's behalf. What the two say to each other is of the same version, and no public protocol.

mod control_dir;

use std::path::Path;

use serde::{Deserialize, Serialize};
use talktrack::clock::Seq;
use talktrack::record::{Body, Record};
use talktrack::store::sqlite::{DeadLetter, Replayed, SqliteReader};
use talktrack::{NotDurable, ReadError, Reason, Receipt, Refused, Tracker};

pub(crate) use control_dir::ControlDir;

use crate::error::Failure;

/// The most letters that one request names: so a request, its answer and the time it takes are bounded.
pub(crate) const MOST_AT_ONCE: usize = 100;

/// What is to be done with which letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Request {
    /// Bring them back on their way to the store.
    Replay(Vec<Seq>),
    /// Take them out for ever.
    Drop(Vec<Seq>),
    /// Bring what waits to the store that the server's settings name, whatever store the data directory notes.
    RedirectOutbox,
}

impl Request {
    /// What the audit log calls it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Replay(_) => "dead_letters.replay",
            Self::Drop(_) => "dead_letters.drop",
            Self::RedirectOutbox => "outbox.redirect",
        }
    }
}

/// What a server answers to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// Of each letter, in the order of the request.
    Outcomes(Vec<Outcome>),
    /// The outbox belongs to the store at this address now.
    Redirected(String),
    /// Why there is no answer to the request as a whole.
    Error(String),
}

impl Answer {
    /// What became of each letter.
    ///
    /// # Errors
    /// If that is not what was asked for.
    pub(crate) fn into_outcomes(self) -> Result<Vec<Outcome>, Failure> {
        match self {
            Self::Outcomes(outcomes) => Ok(outcomes),
            Self::Error(problem) => Err(Failure::new(problem)),
            Self::Redirected(_) => Err(Failure::new("another answer came than was asked for")),
        }
    }
}

/// What became of one letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seq: Seq,
    #[serde(flatten)]
    pub(crate) fate: Fate,
}

/// What can become of a letter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Fate {
    /// Replayed, and in the store.
    Stored,
    /// Replayed and durable again; the remote store will have it.
    OnItsWay,
    /// Replayed, and refused by the store again: a new letter.
    DeadAgain {
        /// The new letter.
        letter: Seq,
        reason: String,
        detail: Option<String>,
    },
    /// Replayed, and refused because the session, the message or the user was deleted: nothing of it is kept.
    Deleted,
    /// Taken out for ever.
    Dropped,
    /// It could not be replayed now, and is where it was.
    Stays { why: String },
    /// No such letter is there.
    NotThere,
}

impl Fate {
    /// Whether what was asked for is done.
    pub(crate) fn is_good(&self) -> bool {
        matches!(self, Self::Stored | Self::OnItsWay | Self::Deleted | Self::Dropped)
    }
}

/// The dead letters of a data directory that this process has.
pub(crate) struct Letters {
    tracker: Tracker,
    reader: SqliteReader,
}

impl Letters {
    /// Those that `tracker` lays aside in this file.
    pub(crate) fn of(tracker: Tracker, database: &Path) -> Result<Self, ReadError> {
        Ok(Self::read_by(tracker, SqliteReader::open(database)?))
    }

    /// Those that `tracker` lays aside in the file that `reader` reads.
    pub(crate) fn read_by(tracker: Tracker, reader: SqliteReader) -> Self {
        Self { tracker, reader }
    }

    /// Does what is asked for, and says what became of each letter.
    ///
    /// # Errors
    /// Where the tracker stopped meanwhile, or the file cannot be read. What was done until then is done.
    pub(crate) async fn carry_out(&self, request: Request) -> Result<Answer, Failure> {
        match request {
            Request::Replay(seqs) => self.replay(seqs).await.map(Answer::Outcomes),
            Request::Drop(seqs) => self.forget(seqs).await.map(Answer::Outcomes),
            Request::RedirectOutbox => match self.tracker.redirect_outbox() {
                Some(address) => Ok(Answer::Redirected(address)),
                None => Err(Failure::new(
                    "the server was started without database_url; stop it, and run the command again",
                )),
            },
        }
    }

    async fn forget(&self, seqs: Vec<Seq>) -> Result<Vec<Outcome>, Failure> {
        let dropped = self.tracker.take_out_dead_letters(seqs.clone()).await?;
        let fate = |seq| if dropped.contains(&seq) { Fate::Dropped } else { Fate::NotThere };
        Ok(seqs.into_iter().map(|seq| Outcome { seq, fate: fate(seq) }).collect())
    }

    /// Takes a letter out only after its record is durable again. A crash between the two leaves both, and replaying again
    /// changes nothing in the store.
    async fn replay(&self, seqs: Vec<Seq>) -> Result<Vec<Outcome>, Failure> {
        let mut handed_over = Vec::with_capacity(seqs.len());
        for seq in seqs {
            handed_over.push((seq, self.hand_over(seq).await?));
        }
        let mut settled = Vec::with_capacity(handed_over.len());
        for (seq, receipt) in handed_over {
            let durable = match receipt {
                Ok(receipt) => receipt.clone().await.map(|()| receipt).map_err(stays),
                Err(fate) => Err(fate),
            };
            settled.push((seq, durable));
        }
        let durable = settled.iter().filter(|(_, durable)| durable.is_ok()).map(|(seq, _)| *seq);
        self.tracker.take_out_dead_letters(durable.collect()).await?;
        let mut outcomes = Vec::with_capacity(settled.len());
        for (seq, durable) in settled {
            let fate = match durable {
                Ok(receipt) => self.fate(&receipt).await?,
                Err(fate) => fate,
            };
            outcomes.push(Outcome { seq, fate });
        }
        Ok(outcomes)
    }

    /// Brings a letter's record into the queue; waits while there is no room.
    async fn hand_over(&self, seq: Seq) -> Result<Result<Receipt, Fate>, Failure> {
        let Some(letter) = self.reader.dead_letter(seq).await? else { return Ok(Err(Fate::NotThere)) };
        let Some(mut record) = letter.intact() else {
            return Ok(Err(stays(
                "its bytes have changed since it was accepted; see `talktrack dead-letters show`",
            )));
        };
        loop {
            match self.tracker.replay(record) {
                Ok(receipt) => return Ok(Ok(receipt)),
                Err(Refused { reason: Reason::QueueFull, returned }) => {
                    record = self.wait_with(returned).await?
                }
                Err(refused) => return Ok(Err(stays(refused.reason))),
            }
        }
    }

    async fn wait_with(&self, record: Record) -> Result<Record, NotDurable> {
        self.tracker.flush().await.map(|()| record)
    }

    async fn fate(&self, receipt: &Receipt) -> Result<Fate, ReadError> {
        Ok(match self.reader.replayed(receipt).await? {
            Replayed::Stored => Fate::Stored,
            Replayed::OnItsWay => Fate::OnItsWay,
            Replayed::Deleted => Fate::Deleted,
            Replayed::DeadAgain(letter) => {
                Fate::DeadAgain { letter: letter.seq, reason: letter.reason, detail: letter.detail }
            }
        })
    }
}

/// What the letter is of.
pub(crate) fn kind(letter: &DeadLetter) -> &'static str {
    match letter.record.as_ref().map(|record| &record.body) {
        Ok(Body::Start(_)) => "start of a session",
        Ok(Body::Update(_)) => "update of a session",
        Ok(Body::End(_)) => "end of a session",
        Ok(Body::Alive(_)) => "sign of life of a session",
        Ok(Body::Delete(_)) => "deletion of a session",
        Ok(Body::DeleteUser(_)) => "deletion of a user",
        Ok(Body::Message(_)) => "message",
        Err(_) => "unreadable",
    }
}

fn stays(why: impl std::fmt::Display) -> Fate {
    Fate::Stays { why: why.to_string() }
}
