//! A real tracker on real files under the same operations, compared with what the model predicts.
//!
//! After a crash only the files tell how many of the unacknowledged records had become durable. Every prefix
//! of them is possible. So there are several models at a time, until an observation matches only some of them.

use std::collections::HashSet;
use std::time::Duration;

use talktrack::clock::Clock as _;
use talktrack::store::ErrorClass;
use talktrack::{
    DATABASE_FILE, Ended, Message, NewSession, NotDurable, Receipt, Role, SessionReceipt, Started, Status,
    Timestamp, Tracker,
};
use talktrack_testkit::memory::MemoryStore;
use talktrack_testkit::{PATIENCE, Setup};
use tempfile::TempDir;

use super::expected::{Answer, Closing, Model, Told, Turn};
use super::operation::{Operation, Outage, Return, Said, Session};
use super::seen;
use crate::support::{accept, dir, image_of, remote, store_error, within};

/// A tracker, its files and its store, and the models that are still possible.
pub(crate) struct World {
    setup: Setup,
    home: TempDir,
    store: Option<MemoryStore>,
    outage: Option<Outage>,
    /// `None` only while the tracker is being reopened.
    tracker: Option<Tracker>,
    /// The receipts that have not been checked yet.
    under_way: Vec<Awaited>,
    /// The possible models, by the number of these receipts whose records became durable.
    steps: Vec<Vec<Model>>,
    /// True if a message came before its session or after it, or conflicts with another one, and the answer of
    /// the remote store may still be outstanding. If the store gets such a message again, the verdict may
    /// differ: by then its session exists, an inferred end has been taken back, or a later revision is stored.
    stray: bool,
}

/// A receipt of any kind.
enum Awaited {
    Message(Receipt),
    Start(SessionReceipt<Started>),
    End(SessionReceipt<Ended>),
}

impl World {
    /// Creates a tracker whose store is the file.
    pub(crate) fn with_a_file() -> Self {
        let home = dir();
        Self::new(Setup::sqlite(home.path()), home, None)
    }

    /// Creates a tracker in front of a remote store in memory.
    pub(crate) fn with_a_remote_store() -> Self {
        let home = dir();
        let (setup, store) = remote(&home);
        Self::new(setup, home, Some(store))
    }

    fn new(setup: Setup, home: TempDir, store: Option<MemoryStore>) -> Self {
        let steps = vec![vec![Model::new(store.is_some())]];
        let under_way = Vec::new();
        let outage = None;
        let stray = false;
        let mut world = Self { setup, home, store, outage, tracker: None, under_way, steps, stray };
        world.open();
        world
    }

    /// Performs the operations, and compares the final result with the models. Returns the model that matches.
    pub(crate) async fn live_through(mut self, operations: &[Operation]) -> Result<Model, String> {
        for operation in operations {
            self.step(operation).await?;
            let begins = matches!(operation, Operation::Crash | Operation::Leave | Operation::Restart);
            if (self.stray || begins) && self.outage.is_none() {
                self.settle().await?;
            }
        }
        self.store_up(Return::Steady).await?;
        self.look().await?;
        Ok(self.steps.swap_remove(0).swap_remove(0))
    }

    async fn step(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::Start(session) => self.start(*session),
            Operation::Say(said) => return self.say(said).await,
            Operation::Chat(session, turns) => self.chat(*session, *turns),
            Operation::End(session) => self.end(*session),
            Operation::Wait(seconds) => self.wait(*seconds),
            Operation::Look => return self.look().await,
            Operation::Crash => return self.crash().await,
            Operation::Leave => return self.leave().await,
            Operation::Restart => return self.restart().await,
            Operation::StoreDown(outage) => return self.store_down(*outage).await,
            Operation::StoreUp(how) => return self.store_up(*how).await,
        }
        Ok(())
    }

    fn start(&mut self, session: Session) {
        let told = Told::Start(session, self.now());
        let receipt = self.tracker().start_session(NewSession::new(session.id(), session.user()));
        self.tell(&told, Awaited::Start(receipt.expect("the start is accepted")));
    }

    fn end(&mut self, session: Session) {
        let closing = Closing { status: Status::Ended, reason: "completed".into(), at: self.now() };
        let receipt = self.tracker().end_session(session.id(), &closing.reason);
        self.tell(&Told::End(session, closing), Awaited::End(receipt.expect("the end is accepted")));
    }

    /// If the store is there, only chance decides whether an id still waits or is already stored. So
    /// everything is stored first.
    async fn say(&mut self, said: &Said) -> Result<(), String> {
        if self.store.is_some() && self.outage.is_none() {
            self.settle().await?;
        }
        let Said { session, number, revision, text, ago } = *said;
        let at = self.now().minus(Duration::from_secs(ago));
        let turn = Turn { number: Some(number), revision, text: text.into(), at };
        let message = Message::new(session.id(), Role::User, text)
            .with_id(session.message(number))
            .with_created_at((ago > 0).then_some(at))
            .with_revision(revision);
        self.message(session, turn, message);
        Ok(())
    }

    fn chat(&mut self, session: Session, turns: u8) {
        for number in 1..=turns {
            let text = format!("turn {number} of {turns}");
            let turn = Turn { number: None, revision: 0, text: text.clone(), at: self.now() };
            self.message(session, turn, Message::new(session.id(), Role::User, text));
        }
    }

    fn message(&mut self, session: Session, turn: Turn, message: Message) {
        let is_welcome = self.possible().iter().all(|model| model.is_welcome(session, &turn));
        let is_stray = self.store.is_some() && !is_welcome;
        if is_stray && self.outage == Some(Outage::LosesAnswers) {
            return;
        }
        self.stray |= is_stray;
        let receipt = accept(self.tracker(), message);
        let told = Told::Message(session, turn, Some(self.now()));
        self.tell(&told, Awaited::Message(receipt));
    }

    fn wait(&mut self, seconds: u64) {
        self.setup.clock().advance(Duration::from_secs(seconds));
        self.tracker().sweep();
    }

    async fn store_down(&mut self, outage: Outage) -> Result<(), String> {
        let Some(store) = self.store.clone().filter(|_| self.outage.is_none()) else { return Ok(()) };
        // Records in flight could either wait from now on or be stored already. So everything is stored first.
        self.settle().await?;
        fail(&store, outage);
        self.outage = Some(outage);
        self.change(Model::store_down);
        Ok(())
    }

    async fn store_up(&mut self, how: Return) -> Result<(), String> {
        let Some(store) = self.store.clone().filter(|_| self.outage.is_some()) else { return Ok(()) };
        self.hear().await?;
        self.outage = None;
        self.change(Model::store_up);
        store.fix();
        if how == Return::Stuttering && !self.stray {
            stutter(&store);
        }
        self.settle().await?;
        store.fix();
        Ok(())
    }

    /// Kills the process: its files stay as they are at this moment, and it sends nothing more to its store.
    async fn crash(&mut self) -> Result<(), String> {
        let answers = self.answers_there().await;
        self.store.iter().for_each(|store| fail(store, Outage::Refuses));
        let image = dir();
        image_of(self.home.path(), image.path());
        self.tracker = None;
        self.under_way.clear();
        let shared_memory = self.home.path().join(format!("{DATABASE_FILE}-shm"));
        assert!(!shared_memory.exists(), "a tracker that is gone has closed its file");
        image_of(image.path(), self.home.path());
        let durable = self.steps.drain(..).skip(answers.len()).flatten();
        let possible: Vec<_> = durable.filter(|model| model.answers.starts_with(&answers)).collect();
        if possible.is_empty() {
            return Err(format!("the receipts before the crash: {answers:#?}, as no model foretold"));
        }
        self.begin_again(possible);
        self.store.iter().for_each(MemoryStore::fix);
        if let (Some(store), Some(outage)) = (&self.store, self.outage) {
            fail(store, outage);
        }
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), String> {
        self.tracker = None;
        self.hear().await?;
        let possible = self.steps.remove(0);
        self.begin_again(possible);
        Ok(())
    }

    async fn restart(&mut self) -> Result<(), String> {
        within(self.tracker().shutdown(PATIENCE)).await.expect("everything is durable before the deadline");
        self.tracker = None;
        self.hear().await?;
        let now = self.now();
        self.change(|model| model.shut_down(now));
        self.open();
        Ok(())
    }

    fn begin_again(&mut self, possible: Vec<Model>) {
        self.steps = vec![possible];
        self.change(|model| {
            model.answers.clear();
            model.recover();
        });
        self.open();
    }

    fn open(&mut self) {
        // With this timeout no session becomes idle, so a background sweep finds nothing that the
        // explicit sweeps have left.
        let options = self.setup.options().with_idle_timeout(Duration::from_secs(1 << 30));
        self.tracker = Some(self.setup.open(options).expect("the tracker opens"));
    }

    /// Waits until everything is durable, and stored if the store is there, and compares
    /// everything visible with the models.
    async fn look(&mut self) -> Result<(), String> {
        self.settle().await?;
        let books = seen::books(self.tracker());
        self.keep("the books", &books, |model| model.picture.books)?;
        if self.outage.is_some() {
            return Ok(());
        }
        let picture = seen::picture(self.tracker(), self.home.path()).await;
        self.keep("what is there", &picture, |model| model.picture.clone())
    }

    async fn settle(&mut self) -> Result<(), String> {
        self.hear().await?;
        if self.outage.is_none() {
            within(self.tracker().flush_to_store()).await.expect("everything reaches the store");
            self.stray = false;
        }
        Ok(())
    }

    /// Waits for every receipt, and compares their outcomes with the models.
    async fn hear(&mut self) -> Result<(), String> {
        let heard = self.steps.len() - 1;
        self.steps.drain(..heard);
        let answers = self.answers().await;
        self.keep("the receipts", &answers, |model| model.answers.clone())?;
        self.change(|model| model.answers.clear());
        Ok(())
    }

    /// Returns the outcomes that have arrived by now. All records before the last of them are durable too.
    async fn answers_there(&mut self) -> Vec<Answer> {
        let durability = self.tracker().durability();
        let is_there = |awaited: &Awaited| match awaited {
            Awaited::Message(receipt) => durability.outcome(receipt.seq()).is_some(),
            Awaited::Start(_) | Awaited::End(_) => false,
        };
        let there = self.under_way.iter().rposition(is_there).map_or(0, |last| last + 1);
        let later = self.under_way.split_off(there);
        let answers = self.answers().await;
        self.under_way = later;
        answers
    }

    /// Waits for the outcomes of all receipts.
    async fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        for awaited in std::mem::take(&mut self.under_way) {
            answers.push(awaited.answer(self.store.is_some()).await);
        }
        answers
    }

    /// Removes every model that did not predict this.
    fn keep<T: PartialEq + std::fmt::Debug>(
        &mut self,
        what: &str,
        seen: &T,
        foretold: impl Fn(&Model) -> T,
    ) -> Result<(), String> {
        let possible = self.steps.last_mut().expect("there is a last step");
        let expected: Vec<_> = possible.iter().map(&foretold).collect();
        possible.retain(|model| foretold(model) == *seen);
        if !possible.is_empty() {
            return Ok(());
        }
        Err(format!("{what}: {seen:#?}\nof {} possible, the last: {:#?}", expected.len(), expected.last()))
    }

    /// Passes the event to every model, and keeps its receipt.
    fn tell(&mut self, told: &Told, awaited: Awaited) {
        let mut possible = self.possible().to_vec();
        possible.iter_mut().for_each(|model| model.tell(told));
        self.steps.push(possible);
        self.under_way.push(awaited);
    }

    /// Changes every model. Must be called only if no receipt is outstanding.
    fn change(&mut self, change: impl FnMut(&mut Model)) {
        let possible = self.steps.last_mut().expect("there is a last step");
        possible.iter_mut().for_each(change);
        possible.dedup();
    }

    fn possible(&self) -> &[Model] {
        self.steps.last().expect("there is a last step")
    }

    fn tracker(&self) -> &Tracker {
        self.tracker.as_ref().expect("the tracker is open")
    }

    fn now(&self) -> Timestamp {
        self.setup.clock().now()
    }
}

impl Awaited {
    async fn answer(self, remote: bool) -> Answer {
        match self {
            Self::Message(receipt) => within(receipt).await.map_or_else(refused, |()| Answer::Durable),
            Self::Start(receipt) => {
                let started = within(receipt.durable()).await;
                let told =
                    started.map_or_else(refused, |started| Answer::Started { resumed: started.resumed });
                if remote { Answer::Anything } else { told }
            }
            Self::End(receipt) => {
                let ended = within(receipt.durable()).await.map_or_else(refused, |ended| {
                    let Ended { message_count, duration_seconds: seconds } = ended;
                    Answer::Ended { message_count, seconds }
                });
                if remote { Answer::Anything } else { ended }
            }
        }
    }
}

fn refused(why: NotDurable) -> Answer {
    match why {
        NotDurable::IdConflict => Answer::IdConflict,
        NotDurable::UnknownSession => Answer::UnknownSession,
        other => panic!("nobody should be told: {other}"),
    }
}

fn fail(store: &MemoryStore, outage: Outage) {
    let error = store_error(ErrorClass::Transient, "away");
    match outage {
        Outage::Refuses => store.fail_when(move |_| Some(error.clone())),
        Outage::LosesAnswers => store.lose_answers_when(move |_| Some(error.clone())),
    }
}

fn stutter(store: &MemoryStore) {
    let mut written = HashSet::new();
    store.lose_answers_when(move |records| {
        let is_first = written.insert(records.first().map(|record| record.seq));
        is_first.then(|| store_error(ErrorClass::Transient, "the answer is lost"))
    });
}
