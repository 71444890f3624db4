//! What should be there: the rules of docs/guarantees.md in a few maps, without files, threads or batches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use talktrack::{Status, Timestamp};

use super::operation::Session;

/// How long a session stays in memory after its end.
const GRACE: Duration = Duration::from_secs(60);

/// All that can be seen from outside.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Picture {
    pub(crate) sessions: BTreeMap<Session, Conversation>,
    pub(crate) letters: Vec<Letter>,
    pub(crate) books: Books,
}

/// A session's row, and what was said in it.
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
    /// No caller spoke it: a stop or a crash did.
    fn is_inferred(&self) -> bool {
        self.reason != "completed"
    }
}

/// One message.
#[derive(Clone, PartialEq)]
pub(crate) struct Turn {
    /// The caller's number for it, where the id is the caller's.
    pub(crate) number: Option<u8>,
    pub(crate) revision: u32,
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

impl Conversation {
    /// In the order of when it was said; what was said at the same moment, in the order of acceptance.
    fn insert(&mut self, turn: Turn) {
        let place = self.turns.partition_point(|other| other.at <= turn.at);
        self.turns.insert(place, turn);
    }
}

/// In one line: a picture of what differs has many of them.
impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, revision, text, at } = self;
        write!(f, "{at} {text:?} (number {number:?}, revision {revision})")
    }
}

/// A message that the store will never take.
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

/// Something told to the tracker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    Start(Session, Timestamp),
    /// Something was said, and accepted at this moment; `None` if an earlier process accepted it.
    Message(Session, Turn, Option<Timestamp>),
    End(Session, Closing),
}

/// What a receipt says.
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
    /// A remote store has not been asked yet: the answer is what the process knows, and tells nothing.
    Anything,
}

/// The simple tracker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) picture: Picture,
    /// The store is not the file.
    remote: bool,
    /// What waits for a remote store that is away.
    outbox: Option<Vec<Told>>,
    /// What a remote store has confirmed and the journal still keeps.
    window: Vec<Told>,
    /// Started and not ended: what the next start finds open after a crash.
    open: BTreeSet<Session>,
    /// What the receipts that nobody has looked at yet should say.
    pub(crate) answers: Vec<Answer>,
    /// How often what happened: a model to which little happens proves little.
    pub(crate) happened: BTreeMap<&'static str, u32>,
}

impl Model {
    pub(crate) fn new(remote: bool) -> Self {
        let (picture, outbox, open) = (Picture::default(), None, BTreeSet::new());
        let (window, answers) = (Vec::new(), Vec::new());
        Self { picture, remote, outbox, window, open, answers, happened: BTreeMap::new() }
    }

    /// Takes what is told, and notes what its receipt should say.
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

    /// The same id and revision may be in the journal already.
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
        let (status, last) = (closing.status, conversation.last_event_at);
        let stands = match &conversation.end {
            None => false,
            Some(end) => !end.is_inferred() || closing.is_inferred(),
        };
        if !stands {
            let at = if status == Status::Abandoned { last } else { closing.at };
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
            // The file knows at once, and refuses; a remote store is asked after the acknowledgement.
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

    /// Writes the row, or says why it is never taken.
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
            // What was overtaken by its own revision tells where that belongs.
            if turn.at < there.at {
                let moved = Turn { at: turn.at, ..conversation.turns.remove(place) };
                conversation.insert(moved);
            }
            return Ok("outdated");
        }
        if turn.text == there.text { Ok("repeated") } else { Err("id_conflict") }
    }

    /// Whether a message is stored in a session that goes on, once all that waits before it is.
    pub(crate) fn is_welcome(&self, session: Session, turn: &Turn) -> bool {
        let mut later = self.clone();
        later.store_up();
        self.open.contains(&session) && later.write(session, turn, None).is_ok()
    }

    /// The remote store is away.
    pub(crate) fn store_down(&mut self) {
        self.outbox.get_or_insert_default();
    }

    /// The remote store is back, and gets all that waited.
    pub(crate) fn store_up(&mut self) {
        for told in self.outbox.take().unwrap_or_default() {
            self.store(&told);
        }
    }

    /// The store may have seen what an earlier process accepted: such a message takes back no end.
    fn inherit(&mut self) {
        for told in self.outbox.iter_mut().flatten() {
            if let Told::Message(_, _, accepted) = told {
                *accepted = None;
            }
        }
    }

    /// A shutdown ends what is open.
    pub(crate) fn shut_down(&mut self, at: Timestamp) {
        for session in self.open.clone() {
            let closing = Closing { status: Status::Ended, reason: "shutdown".into(), at };
            self.take(&Told::End(session, closing));
        }
        self.inherit();
    }

    /// The next start after a crash ends what was open, at its last event.
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
