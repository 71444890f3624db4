//! Learns what was deleted in the store by SQL or on another node, so that this node does not keep its text: neither in the re-send
//! window, nor in what waits, nor in the dead letters.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use uuid::Uuid;

use crate::error::ReadError;
use crate::options::Options;
use crate::store::sqlite::SqliteReader;
use crate::store::{DeletedSession, Store};
use crate::writer::{Answer, Settle, StoreClaim};

/// How long a file that cannot be opened is left alone.
const PAUSE: Duration = Duration::from_secs(3);

/// Sessions that the store is asked for at once, and deletions that the journal is told of at once.
const PIECE: usize = 250;

/// So many pieces that fail one after another mean that the store is away.
const FAILURES: u32 = 3;

/// Records leave the window by this node's clock, and the store notes deletions by its own.
const SLACK: Duration = Duration::from_secs(10 * 60);

/// What was deleted of the sessions of which the journal has something.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    pub(crate) sessions: Vec<DeletedSession>,
    /// Sessions, and messages of them that were deleted by themselves.
    pub(crate) messages: Vec<(Uuid, Uuid)>,
}

impl Deletions {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.messages.len()
    }
}

/// Asks for as long as the writer runs.
pub(super) async fn follow(claim: Arc<StoreClaim>, settle: Settle, options: Options) {
    let journal = open(&options.database_file()).await;
    let mut learner = Learner { within: options.resend_window + SLACK, ..Learner::default() };
    let mut pause = options.deletions_interval;
    loop {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        if let Err(error) = learner.look(&journal, &claim, &settle).await {
            tracing::debug!(%error, "cannot ask now what was deleted");
        }
        pause = options.deletions_interval.max(begun.elapsed() * 10);
    }
}

/// Tries again until the file can be opened. It says once that it cannot.
async fn open(file: &Path) -> SqliteReader {
    let mut fails = false;
    loop {
        match SqliteReader::open(file) {
            Ok(reader) => return reader,
            Err(error) if !std::mem::replace(&mut fails, true) => {
                tracing::warn!(%error, "cannot read the journal to learn what was deleted; it is tried again");
            }
            Err(error) => tracing::debug!(%error, "still cannot read the journal to learn what was deleted"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Who is asked what was deleted.
#[async_trait]
trait Asked: Send + Sync {
    /// What was deleted of these sessions.
    async fn ask(&self, sessions: &[Uuid]) -> Result<Deletions, ReadError>;
}

/// The store, for single messages so far back.
struct Stored {
    store: Arc<dyn Store>,
    within: Duration,
}

#[async_trait]
impl Asked for Stored {
    async fn ask(&self, some: &[Uuid]) -> Result<Deletions, ReadError> {
        let sessions = self.store.deleted_sessions(some).await?;
        let messages = self.store.deleted_messages(some, self.within).await?;
        Ok(Deletions { sessions, messages })
    }
}

/// Asks for one piece of the sessions after another. A piece that fails stops no other, and is asked for again in the next round.
#[derive(Default)]
struct Learner {
    /// How far back the store is asked for single messages.
    within: Duration,
    /// What the journal was told of and still has something of, by session. The message is `None` for all of a session.
    told: HashSet<(Uuid, Option<Uuid>)>,
    /// The session after which the next round begins.
    after: Option<Uuid>,
    /// True since a piece failed, until a round comes through.
    fails: bool,
}

impl Learner {
    async fn look(
        &mut self,
        journal: &SqliteReader,
        claim: &StoreClaim,
        settle: &Settle,
    ) -> Result<(), ReadError> {
        let mut sessions = journal.sessions_with_records().await?;
        if sessions.is_empty() {
            self.told.clear();
            return Ok(());
        }
        claim.confirm().await.map_err(|error| ReadError(error.message))?;
        if let Some(after) = self.after.take() {
            let first = sessions.partition_point(|session_id| *session_id <= after);
            sessions.rotate_left(first);
        }
        let listed: HashSet<Uuid> = sessions.iter().copied().collect();
        self.told.retain(|(session_id, _)| listed.contains(session_id));
        let stored = Stored { store: Arc::clone(claim.store()), within: self.within };
        self.ask_all(&sessions, &stored, settle).await;
        Ok(())
    }

    async fn ask_all(&mut self, sessions: &[Uuid], asked: &dyn Asked, settle: &Settle) {
        let (mut failed, mut in_a_row) = (false, 0);
        for some in sessions.chunks(PIECE) {
            match asked.ask(some).await {
                Ok(found) => {
                    in_a_row = 0;
                    self.tell(found, settle);
                }
                Err(error) => {
                    (failed, in_a_row) = (true, in_a_row + 1);
                    if !std::mem::replace(&mut self.fails, true) {
                        tracing::warn!(%error, "cannot ask the store about some sessions whether they were deleted; it is tried again");
                    }
                }
            }
            if in_a_row == FAILURES {
                self.after = some.last().copied();
                return;
            }
        }
        self.fails = failed;
    }

    /// Tells what was not told yet.
    fn tell(&mut self, Deletions { mut sessions, mut messages }: Deletions, settle: &Settle) {
        sessions.retain(|deleted| !self.told.contains(&(deleted.session_id, None)));
        messages.retain(|(session_id, id)| !self.told.contains(&(*session_id, Some(*id))));
        self.told.extend(sessions.iter().map(|deleted| (deleted.session_id, None)));
        self.told.extend(messages.iter().map(|(session_id, id)| (*session_id, Some(*id))));
        // No more sessions than were asked for; of one session any number of messages.
        for some in messages.chunks(PIECE) {
            let sessions = std::mem::take(&mut sessions);
            settle(Answer::Deleted(Deletions { sessions, messages: some.to_vec() }));
        }
        if !sessions.is_empty() {
            settle(Answer::Deleted(Deletions { sessions, messages: Vec::new() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Fails to answer about these sessions. All others were deleted.
    struct Fails(Vec<Uuid>);

    #[async_trait]
    impl Asked for Fails {
        async fn ask(&self, some: &[Uuid]) -> Result<Deletions, ReadError> {
            if self.0.iter().any(|session_id| some.contains(session_id)) {
                return Err(ReadError("this piece cannot be read".into()));
            }
            let deleted = |session_id: &Uuid| DeletedSession { session_id: *session_id, user_id: None };
            Ok(Deletions { sessions: some.iter().map(deleted).collect(), messages: Vec::new() })
        }
    }

    /// The pieces that are told in one round, in which the pieces with the sessions at these places fail.
    async fn round(learner: &mut Learner, sessions: &[Uuid], failing: &[usize]) -> Vec<Vec<Uuid>> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&told);
        let settle: Settle = Arc::new(move |answer| {
            let Answer::Deleted(deletions) = answer else { panic!("nothing else is told: {answer:?}") };
            answers.lock().push(deletions.sessions.iter().map(|deleted| deleted.session_id).collect());
        });
        let failing = failing.iter().map(|place| sessions[*place]).collect();
        learner.ask_all(sessions, &Fails(failing), &settle).await;
        std::mem::take(&mut *told.lock())
    }

    fn sessions(pieces: usize) -> Vec<Uuid> {
        (1..=pieces * PIECE).map(|number| Uuid::from_u128(number as u128)).collect()
    }

    #[tokio::test]
    async fn a_piece_that_fails_stops_no_other_and_is_asked_for_again() {
        let (mut learner, sessions) = (Learner::default(), sessions(4));
        let pieces: Vec<_> = sessions.chunks(PIECE).collect();
        assert_eq!(round(&mut learner, &sessions, &[PIECE]).await, [pieces[0], pieces[2], pieces[3]]);
        assert!(learner.fails);
        assert_eq!(round(&mut learner, &sessions, &[]).await, [pieces[1]], "the others were told");
        assert!(!learner.fails);
    }

    #[tokio::test]
    async fn pieces_that_fail_one_after_another_end_a_round_and_the_next_begins_behind_them() {
        let (mut learner, sessions) = (Learner::default(), sessions(5));
        let failing = [0, PIECE, 2 * PIECE];
        assert!(round(&mut learner, &sessions, &failing).await.is_empty());
        assert_eq!(learner.after, Some(sessions[3 * PIECE - 1]));
    }

    #[test]
    fn many_messages_of_one_session_are_told_in_pieces() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&sizes);
        let settle: Settle = Arc::new(move |answer| {
            let Answer::Deleted(deletions) = answer else { panic!("nothing else is told: {answer:?}") };
            answers.lock().push(deletions.len());
        });
        let messages = (0..600).map(|number| (Uuid::nil(), Uuid::from_u128(number))).collect();
        Learner::default().tell(Deletions { sessions: Vec::new(), messages }, &settle);
        assert_eq!(*sizes.lock(), [250, 250, 100]);
    }
}
