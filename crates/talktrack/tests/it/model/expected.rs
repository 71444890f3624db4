//! The expected result: the rules of docs/guarantees.md in a few maps, without files, threads or batches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use talktrack::{Status, Timestamp};

use super::operation::Session;

/// The time that a session stays in memory after its end.
const GRACE: Duration = Duration::from_secs(60);

/// Everything that is visible from outside.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Picture {
    pub(crate) sessions: BTreeMap<Session, Conversation>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) books: Books,
}

/// A session's row and its messages.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conversation {
    pub(crate) started_at: Timestamp,
    pub(crate) last_event_at: Timestamp,
    pub(crate) end: Option<Closing>,
    pub(crate) message_count: u64,
    pub(crate) turns: Vec<Turn>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Closing {
    pub(crate) status: Status,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

impl Closing {
    /// True if a shutdown or a crash caused the end, not a caller.
    fn is_inferred(&self) -> bool {
        self.reason != "completed"
    }
}

/// A message.
#[derive(Clone, PartialEq)]
pub(crate) struct Turn {
    /// The caller's number of the message, if the caller chose its id.
    pub(crate) number: Option<u8>,
    pub(crate) revision: u32,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

impl Conversation {
    /// Inserts a turn by its time. Turns of the same moment stay in the order of acceptance. The session, whose start no
    /// caller gave, started with the first turn at the latest.
    fn insert(&mut self, turn: Turn) {
        self.started_at = self.started_at.min(turn.at);
        let place = self.turns.partition_point(|other| other.at <= turn.at);
        self.turns.insert(place, turn);
    }
}

/// Formats the turn on one line, because the report of a difference contains many of them.
impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, revision, text, at } = self;
        write!(f, "{at} {text:?} (number {number:?}, revision {revision})")
    }
}

/// A message that the store will never accept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Letter {
    pub(crate) session: Session,
    pub(crate) turn: Turn,
    pub(crate) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Books {
    pub(crate) durable: u64,
    pub(crate) stored: u64,
    pub(crate) dead_lettered: u64,
}

/// An event that was passed to the tracker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Start(Session, Timestamp),
    /// A message, and the moment of its acceptance; `None` if an earlier process accepted it.
    Message(Session, Turn, Option<Timestamp>),
    End(Session, Closing),
}

/// The outcome of a receipt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Durable,
    IdConflict,
    Started {
        resumed: bool,
    },
    Ended {
        message_count: u64,
        seconds: f64,
    },
    UnknownSession,
    /// The store is remote and has not been asked yet. The tracker answers with what it knows, which
    /// the model does not predict.
    Anything,
}

/// The model of a tracker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) picture: Picture,
    /// True if the store is remote, false if it is the SQLite file.
    remote: bool,
    /// The events that wait for a remote store. `None` if the store is there.
    outbox: Option<Vec<Told>>,
    /// The messages that a remote store has confirmed and that the journal still keeps.
    window: Vec<Told>,
    /// The sessions that have started and not ended. After a crash, the next start finds these open.
    open: BTreeSet<Session>,
    /// The expected outcomes of the receipts that have not been checked yet.
    pub(crate) answers: Vec<Answer>,
    /// How often each kind of event occurred. A run in which little occurs proves little.
    pub(crate) happened: BTreeMap<&'static str, u32>,
}

impl Model {
    pub(crate) fn new(remote: bool) -> Self {
        let picture = Picture::default();
        let outbox = None;
        let open = BTreeSet::new();
        let window = Vec::new();
        let answers = Vec::new();
        Self { picture, remote, outbox, window, open, answers, happened: BTreeMap::new() }
    }

    /// Applies an event, and records the expected outcome of its receipt.
    pub(crate) fn tell(&mut self, told: &Told) {
        let answer = self.take(told);
        self.answers.push(answer);
    }

    fn take(&mut self, told: &Told) -> Answer {
        match told {
            Told::Start(session, _) => _ = self.open.insert(*session),
            Told::End(session, _) => _ = self.open.remove(session),
            Told::Message(..) => {}
        }
        if let Some(answer) = self.meet_waiting(told) {
            return answer;
        }
        let is_message = matches!(told, Told::Message(..));
        self.picture.books.durable += u64::from(is_message);
        if let Some(outbox) = &mut self.outbox {
            outbox.push(told.clone());
            return if is_message { Answer::Durable } else { Answer::Anything };
        }
        self.store(told)
    }

    /// Answers a message whose id and revision are already in the journal. Returns `None` if they are not.
    fn meet_waiting(&mut self, told: &Told) -> Option<Answer> {
        let Told::Message(session, turn, _) = told else { return None };
        let same_id = |other: &&Told| match other {
            Told::Message(waiting_in, waiting, _) => {
                turn.number.is_some()
                    && (waiting_in, waiting.number, waiting.revision) == (session, turn.number, turn.revision)
            }
            _ => false,
        };
        let Told::Message(_, waiting, _) = self.outbox.iter().flatten().chain(&self.window).find(same_id)?
        else {
            return None;
        };
        if waiting.text != turn.text {
            self.count("refused while the first waits");
            return Some(Answer::IdConflict);
        }
        self.picture.books.durable += 1;
        self.picture.books.stored += 1;
        self.count("repeated while the first waits");
        Some(Answer::Durable)
    }

    fn store(&mut self, told: &Told) -> Answer {
        let answer = match told {
            Told::Start(session, at) => self.start(*session, *at),
            Told::End(session, closing) => self.end(*session, closing),
            Told::Message(session, turn, accepted) => return self.message(*session, turn, *accepted),
        };
        if self.remote { Answer::Anything } else { answer }
    }

    fn start(&mut self, session: Session, at: Timestamp) -> Answer {
        let resumed = self.picture.sessions.contains_key(&session);
        let fresh = Conversation {
            started_at: at,
            last_event_at: at,
            end: None,
            message_count: 0,
            turns: Vec::new(),
        };
        let conversation = self.picture.sessions.entry(session).or_insert(fresh);
        conversation.last_event_at = conversation.last_event_at.max(at);
        let reopened = conversation.end.take().is_some();
        self.count(if reopened { "resumed" } else { "started" });
        Answer::Started { resumed }
    }

    fn end(&mut self, session: Session, closing: &Closing) -> Answer {
        let Some(conversation) = self.picture.sessions.get_mut(&session) else {
            return Answer::UnknownSession;
        };
        let status = closing.status;
        let last = conversation.last_event_at;
        let stands = match &conversation.end {
            None => false,
            Some(end) => !end.is_inferred() || closing.is_inferred(),
        };
        if !stands {
            let at = if status == Status::Abandoned { last } else { closing.at };
            conversation.started_at = conversation.started_at.min(at);
            conversation.end = Some(Closing { at, ..closing.clone() });
        }
        let ended_at = conversation.end.as_ref().map_or(last, |end| end.at);
        let seconds = ended_at.max(conversation.started_at).seconds_since(conversation.started_at);
        let message_count = conversation.message_count;
        self.count(if stands { "ended again" } else { status.as_str() });
        Answer::Ended { message_count, seconds }
    }

    fn message(&mut self, session: Session, turn: &Turn, accepted: Option<Timestamp>) -> Answer {
        let outcome = self.write(session, turn, accepted);
        self.count(outcome.unwrap_or_else(|reason| reason));
        let books = &mut self.picture.books;
        match outcome {
            Ok(_) => {
                books.stored += 1;
                self.window.extend(self.remote.then(|| Told::Message(session, turn.clone(), None)));
            }
            // The file detects the conflict at once and refuses the message. A remote store is asked
            // only after the acknowledgement.
            Err("id_conflict") if !self.remote => {
                books.durable -= 1;
                return Answer::IdConflict;
            }
            Err(reason) => {
                books.dead_lettered += 1;
                self.picture.letters.push(Letter { session, turn: turn.clone(), reason: reason.into() });
            }
        }
        Answer::Durable
    }

    /// Writes the row, or returns the reason why the store never accepts it.
    fn write(
        &mut self,
        session: Session,
        turn: &Turn,
        accepted: Option<Timestamp>,
    ) -> Result<&'static str, &'static str> {
        let conversation = self.picture.sessions.get_mut(&session).ok_or("unknown_session")?;
        let same_id = |other: &Turn| turn.number.is_some() && other.number == turn.number;
        let Some(place) = conversation.turns.iter().position(same_id) else {
            let late = conversation.end.is_some();
            conversation.insert(turn.clone());
            conversation.message_count += 1;
            conversation.last_event_at = conversation.last_event_at.max(turn.at);
            let before = accepted.map(|accepted| turn.at.min(accepted.minus(GRACE)));
            let takes_back =
                |end: &Closing| end.is_inferred() && before.is_some_and(|before| end.at < before);
            if conversation.end.as_ref().is_some_and(takes_back) {
                conversation.end = None;
                self.open.insert(session);
                return Ok("taken back");
            }
            return Ok(if late { "late" } else { "new" });
        };
        let there = &mut conversation.turns[place];
        if turn.revision > there.revision {
            (there.revision, there.text) = (turn.revision, turn.text.clone());
            return Ok("revised");
        }
        if turn.revision < there.revision {
            // An outdated revision still moves the message to its own, earlier time.
            if turn.at < there.at {
                let moved = Turn { at: turn.at, ..conversation.turns.remove(place) };
                conversation.insert(moved);
            }
            return Ok("outdated");
        }
        if turn.text == there.text { Ok("repeated") } else { Err("id_conflict") }
    }

    /// True if the message would be stored in an open session after everything that waits before it is stored.
    pub(crate) fn is_welcome(&self, session: Session, turn: &Turn) -> bool {
        let mut later = self.clone();
        later.store_up();
        self.open.contains(&session) && later.write(session, turn, None).is_ok()
    }

    /// Makes the remote store unavailable.
    pub(crate) fn store_down(&mut self) {
        self.outbox.get_or_insert_default();
    }

    /// Makes the remote store available again. It gets everything that waited.
    pub(crate) fn store_up(&mut self) {
        for told in self.outbox.take().unwrap_or_default() {
            self.store(&told);
        }
    }

    /// Forgets when the waiting messages were accepted. The store may have seen a message that an
    /// earlier process accepted, so such a message takes back no end.
    fn inherit(&mut self) {
        for told in self.outbox.iter_mut().flatten() {
            if let Told::Message(_, _, accepted) = told {
                *accepted = None;
            }
        }
    }

    /// Ends every open session, as a shutdown does.
    pub(crate) fn shut_down(&mut self, at: Timestamp) {
        for session in self.open.clone() {
            let closing = Closing { status: Status::Ended, reason: "shutdown".into(), at };
            self.take(&Told::End(session, closing));
        }
        self.inherit();
    }

    /// Ends every open session at its last event, as the next start after a crash does.
    pub(crate) fn recover(&mut self) {
        self.count("recovered");
        for session in self.open.clone() {
            let at = Timestamp::from_micros(0).expect("1970 can be written");
            let closing = Closing { status: Status::Abandoned, reason: "error".into(), at };
            self.take(&Told::End(session, closing));
        }
        self.inherit();
    }

    fn count(&mut self, what: &'static str) {
        *self.happened.entry(what).or_default() += 1;
    }
}
