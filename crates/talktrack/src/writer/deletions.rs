//! Learns what was deleted in the store by SQL or by another node, so that this node does not keep the text in the
//! re-send window, in the backlog or in the dead letters.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use talktrack_core::error::ReadError;
use talktrack_core::ids::{MessageId, SessionId};

use crate::options::Options;
use crate::store::sqlite::{OutboxReader, SqliteReader};
use crate::store::{DeletedSession, Store};
use crate::writer::{LaneReport, ReportSink, StoreClaim};

/// The pause before another attempt to open the file.
const OPEN_RETRY: Duration = Duration::from_secs(3);

/// The number of sessions in one query to the store, and the number of deletions in one report to the journal.
const CHUNK: usize = 250;

/// After this many consecutive failed pieces, the store counts as unreachable.
const MAX_FAILURES: u32 = 3;

/// Records leave the window by this node's clock, and the store notes deletions by its own. This covers the difference.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(10 * 60);

/// What was deleted of the sessions of which the journal has records.
#[derive(Debug, Default)]
pub(crate) struct RemoteDeletions {
    pub(crate) sessions: Vec<DeletedSession>,
    /// Sessions, each with a message of it that was deleted by itself.
    pub(crate) messages: Vec<(SessionId, MessageId)>,
}

impl RemoteDeletions {
    /// Returns the number of deletions.
    pub(crate) fn len(&self) -> usize {
        self.sessions.len() + self.messages.len()
    }
}

/// Queries the store repeatedly for as long as the writer runs.
pub(super) async fn poll_deletions(claim: Arc<StoreClaim>, report: ReportSink, options: Options) {
    let outbox = open_outbox(&options.database_file()).await;
    let mut poller =
        DeletionPoller { within: options.resend_window + CLOCK_DIFFERENCE, ..DeletionPoller::default() };
    let mut pause = options.deletions_interval;
    loop {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        if let Err(error) = poller.poll_round(&outbox, &claim, &report).await {
            tracing::debug!(%error, "cannot check for deletions; trying again later");
        }
        pause = options.deletions_interval.max(begun.elapsed() * 10);
    }
}

/// Tries until the file can be opened. Only the first failure is logged as a warning.
async fn open_outbox(file: &Path) -> OutboxReader {
    let mut fails = false;
    loop {
        match SqliteReader::open(file) {
            Ok(reader) => return reader.outbox(),
            Err(error) if !std::mem::replace(&mut fails, true) => {
                tracing::warn!(%error, "cannot open the journal to check for deletions; trying again");
            }
            Err(error) => tracing::debug!(%error, "still cannot open the journal to check for deletions"),
        }
        tokio::time::sleep(OPEN_RETRY).await;
    }
}

/// The source that is queried for deletions.
#[async_trait]
trait DeletionSource: Send + Sync {
    /// Returns what was deleted of these sessions.
    async fn query_deletions(&self, sessions: &[SessionId]) -> Result<RemoteDeletions, ReadError>;
}

/// The store, with the period for which single messages are queried.
struct StoreSource {
    store: Arc<dyn Store>,
    within: Duration,
}

#[async_trait]
impl DeletionSource for StoreSource {
    async fn query_deletions(&self, some: &[SessionId]) -> Result<RemoteDeletions, ReadError> {
        let sessions = self.store.deleted_sessions(some).await?;
        let messages = self.store.deleted_messages(some, self.within).await?;
        Ok(RemoteDeletions { sessions, messages })
    }
}

/// Queries one piece of the sessions after another. A failed piece stops no other, and is queried again in the next
/// round.
#[derive(Default)]
struct DeletionPoller {
    /// How far back the store is queried for single messages.
    within: Duration,
    /// What the journal was told and still has records of. The message is `None` for a whole session.
    reported: HashSet<(SessionId, Option<MessageId>)>,
    /// The session after which the next round starts.
    after: Option<SessionId>,
    /// True from the first failed piece until a round succeeds.
    fails: bool,
}

impl DeletionPoller {
    async fn poll_round(
        &mut self,
        outbox: &OutboxReader,
        claim: &StoreClaim,
        report: &ReportSink,
    ) -> Result<(), ReadError> {
        let mut sessions = outbox.sessions_with_records().await?;
        if sessions.is_empty() {
            self.reported.clear();
            return Ok(());
        }
        claim.confirm().await.map_err(|error| ReadError::unavailable(error.message))?;
        if let Some(after) = self.after.take() {
            let first = sessions.partition_point(|session_id| *session_id <= after);
            sessions.rotate_left(first);
        }
        let listed: HashSet<SessionId> = sessions.iter().copied().collect();
        self.reported.retain(|(session_id, _)| listed.contains(session_id));
        let stored = StoreSource { store: Arc::clone(claim.store()), within: self.within };
        self.query_all(&sessions, &stored, report).await;
        Ok(())
    }

    async fn query_all(&mut self, sessions: &[SessionId], source: &dyn DeletionSource, report: &ReportSink) {
        let mut failed = false;
        let mut in_a_row = 0;
        for some in sessions.chunks(CHUNK) {
            match source.query_deletions(some).await {
                Ok(found) => {
                    in_a_row = 0;
                    self.report_new(found, report);
                }
                Err(error) => {
                    (failed, in_a_row) = (true, in_a_row + 1);
                    if !std::mem::replace(&mut self.fails, true) {
                        tracing::warn!(%error, "cannot ask the store whether some sessions were deleted; trying again");
                    }
                }
            }
            if in_a_row == MAX_FAILURES {
                self.after = some.last().copied();
                return;
            }
        }
        self.fails = failed;
    }

    /// Reports what was not reported yet.
    fn report_new(
        &mut self,
        RemoteDeletions { mut sessions, mut messages }: RemoteDeletions,
        report: &ReportSink,
    ) {
        sessions.retain(|deleted| !self.reported.contains(&(deleted.session_id, None)));
        messages.retain(|(session_id, id)| !self.reported.contains(&(*session_id, Some(*id))));
        self.reported.extend(sessions.iter().map(|deleted| (deleted.session_id, None)));
        self.reported.extend(messages.iter().map(|(session_id, id)| (*session_id, Some(*id))));
        // There are no more sessions than were queried, but one session may have any number of messages.
        for some in messages.chunks(CHUNK) {
            let sessions = std::mem::take(&mut sessions);
            report(LaneReport::Deleted(RemoteDeletions { sessions, messages: some.to_vec() }));
        }
        if !sessions.is_empty() {
            report(LaneReport::Deleted(RemoteDeletions { sessions, messages: Vec::new() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Fails to answer about these sessions. All others were deleted.
    struct Fails(Vec<SessionId>);

    #[async_trait]
    impl DeletionSource for Fails {
        async fn query_deletions(&self, some: &[SessionId]) -> Result<RemoteDeletions, ReadError> {
            if self.0.iter().any(|session_id| some.contains(session_id)) {
                return Err(ReadError::damaged("this piece cannot be read"));
            }
            let deleted = |session_id: &SessionId| DeletedSession { session_id: *session_id, user_id: None };
            Ok(RemoteDeletions { sessions: some.iter().map(deleted).collect(), messages: Vec::new() })
        }
    }

    /// Returns the pieces that one round reports while the pieces with the sessions at these indexes fail.
    async fn run_round(
        poller: &mut DeletionPoller,
        sessions: &[SessionId],
        failing: &[usize],
    ) -> Vec<Vec<SessionId>> {
        let told = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&told);
        let report: ReportSink = Arc::new(move |answer| {
            let LaneReport::Deleted(deletions) = answer else { panic!("nothing else is told: {answer:?}") };
            answers.lock().push(deletions.sessions.iter().map(|deleted| deleted.session_id).collect());
        });
        let failing = failing.iter().map(|place| sessions[*place]).collect();
        poller.query_all(sessions, &Fails(failing), &report).await;
        std::mem::take(&mut *told.lock())
    }

    fn sessions(pieces: usize) -> Vec<SessionId> {
        (1..=pieces * CHUNK).map(|number| SessionId::from_u128(number as u128)).collect()
    }

    #[tokio::test]
    async fn a_piece_that_fails_stops_no_other_and_is_asked_for_again() {
        let mut poller = DeletionPoller::default();
        let sessions = sessions(4);
        let pieces: Vec<_> = sessions.chunks(CHUNK).collect();
        assert_eq!(run_round(&mut poller, &sessions, &[CHUNK]).await, [pieces[0], pieces[2], pieces[3]]);
        assert!(poller.fails);
        assert_eq!(run_round(&mut poller, &sessions, &[]).await, [pieces[1]], "the others were told");
        assert!(!poller.fails);
    }

    #[tokio::test]
    async fn pieces_that_fail_one_after_another_end_a_round_and_the_next_begins_behind_them() {
        let mut poller = DeletionPoller::default();
        let sessions = sessions(5);
        let failing = [0, CHUNK, 2 * CHUNK];
        assert!(run_round(&mut poller, &sessions, &failing).await.is_empty());
        assert_eq!(poller.after, Some(sessions[3 * CHUNK - 1]));
    }

    #[test]
    fn many_messages_of_one_session_are_told_in_pieces() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::clone(&sizes);
        let report: ReportSink = Arc::new(move |answer| {
            let LaneReport::Deleted(deletions) = answer else { panic!("nothing else is told: {answer:?}") };
            answers.lock().push(deletions.len());
        });
        let messages = (0..600).map(|number| (SessionId::nil(), MessageId::from_u128(number))).collect();
        DeletionPoller::default().report_new(RemoteDeletions { sessions: Vec::new(), messages }, &report);
        assert_eq!(*sizes.lock(), [250, 250, 100]);
    }
}
