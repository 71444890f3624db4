//! Learns what was deleted in the store by SQL or by another node, so that this node does not keep the text in the
//! re-send window, in the backlog or in the dead letters.

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

/// The pause before another attempt to open the file.
const PAUSE: Duration = Duration::from_secs(3);

/// The number of sessions in one query to the store, and the number of deletions in one report to the journal.
const PIECE: usize = 250;

/// After this many consecutive failed pieces, the store counts as unreachable.
const FAILURES: u32 = 3;

/// Records leave the window by this node's clock, and the store notes deletions by its own. This covers the difference.
const SLACK: Duration = Duration::from_secs(10 * 60);

/// What was deleted of the sessions of which the journal has records.
#[derive(Debug, Default)]
pub(crate) struct Deletions {
    pub(crate) sessions: Vec<DeletedSession>,
    /// Sessions, each with a message of it that was deleted by itself.
    pub(crate) messages: Vec<(Uuid, Uuid)>,
}

impl Deletions {
    /// Returns the number of deletions.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.messages.len()
    }
}

/// Queries the store repeatedly for as long as the writer runs.
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

/// Tries until the file can be opened. Only the first failure is logged as a warning.
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

/// The source that is queried for deletions.
#[async_trait]
trait Asked: Send + Sync {
    /// Returns what was deleted of these sessions.
    async fn ask(&self, sessions: &[Uuid]) -> Result<Deletions, ReadError>;
}

/// The store, with the period for which single messages are queried.
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

/// Queries one piece of the sessions after another. A failed piece stops no other, and is queried again in the next
/// round.
#[derive(Default)]
struct Learner {
    /// How far back the store is queried for single messages.
    within: Duration,
    /// What the journal was told and still has records of. The message is `None` for a whole session.
    told: HashSet<(Uuid, Option<Uuid>)>,
    /// The session after which the next round starts.
    after: Option<Uuid>,
    /// True from the first failed piece until a round succeeds.
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

    /// Reports what was not reported yet.
    fn tell(&mut self, Deletions { mut sessions, mut messages }: Deletions, settle: &Settle) {
        sessions.retain(|deleted| !self.told.contains(&(deleted.session_id, None)));
        messages.retain(|(session_id, id)| !self.told.contains(&(*session_id, Some(*id))));
        self.told.extend(sessions.iter().map(|deleted| (deleted.session_id, None)));
        self.told.extend(messages.iter().map(|(session_id, id)| (*session_id, Some(*id))));
        // There are no more sessions than were queried, but one session may have any number of messages.
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

    /// Returns the pieces that one round reports while the pieces with the sessions at these indexes fail.
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
