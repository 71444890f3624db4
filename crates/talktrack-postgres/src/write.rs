//! Writes records to rows. A batch is usually one transaction, sent in one go, so it costs one round trip
//! at any distance from the database.
//!
//! Messages that the transaction did not insert are examined afterwards. If their session is missing, its row
//! is restored from what this process knows, and they are tried again. If their id exists, they are compared
//! with the stored message: the same, a newer or an older revision, or a conflict. A message that is neither
//! inserted nor stored was kept away by a trigger or by row-level security, and waits.

use std::collections::{HashMap, HashSet};

use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{DeadReason, Ended, Reopened, Verdict};
use talktrack_core::store::conflict::METADATA_TOO_LARGE;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::deliveries::DeliveryLane;
use crate::failure::{Failure, MESSAGES, SESSIONS};
use crate::plan::{MergedUpdates, PlacedMessage, Round};
use crate::statement::read_id;
use crate::user_marks::{self, LateRecord};
use crate::{deletions, duplicate_ids, edits, hidden_rows, messages, owners, rows, sessions, transaction};

/// What became of a batch.
#[derive(Default)]
pub(super) struct Written {
    /// One verdict per record.
    pub(super) verdicts: Vec<Verdict>,
    /// The messages that ends made final.
    pub(super) closed: Vec<MessageId>,
}

/// Writes the rounds, which contain this number of records.
pub(super) async fn write(
    client: &Client,
    lane: &DeliveryLane<'_>,
    rounds: &[Round<'_>],
    records: usize,
) -> Result<Written, Failure> {
    let mut written = Written { verdicts: vec![Verdict::AlreadyThere; records], closed: Vec::new() };
    let Some((first, later)) = rounds.split_first() else { return Ok(written) };
    let not_inserted = write_round(client, lane, first, &mut written).await?;
    let rest = write_rest(client, lane, (rounds, later), not_inserted, &mut written).await;
    rest.map(|()| written).map_err(Failure::after_a_commit)
}

/// Writes what follows the first transaction: further rounds, and corrections that the answers require.
async fn write_rest<'r>(
    client: &Client,
    lane: &DeliveryLane<'_>,
    (rounds, later): (&[Round<'r>], &[Round<'r>]),
    mut not_inserted: NotInserted<'r>,
    written: &mut Written,
) -> Result<(), Failure> {
    for round in later {
        not_inserted.extend(write_round(client, lane, round, written).await?);
    }
    let verdicts = written.verdicts.as_mut_slice();
    let (mut again, mut restored) =
        restore_sessions(client, lane, rounds, not_inserted.missing_session, verdicts).await?;
    // If a session starts again later in the batch, updates and ends from before that start no longer
    // apply.
    restored.retain(|id| {
        !rounds.iter().any(|round| round.starts.iter().any(|(_, start)| start.session_id == *id))
    });
    rounds.iter().for_each(|round| again.retry_updates_and_ends(&restored, round));
    let missing = duplicate_ids::resolve(client, lane, not_inserted.duplicate_id, verdicts).await?;
    let missing = user_marks::drop_deleted_messages(client, missing, verdicts).await?;
    for placed in user_marks::drop_refused(client, missing, verdicts).await? {
        again.add_message(placed);
    }
    let not_inserted = write_round(client, lane, &again, written).await?;
    let verdicts = written.verdicts.as_mut_slice();
    if !deletions::drop_deleted(client, not_inserted.missing_session, verdicts).await?.is_empty() {
        let otherwise = "sessions are being deleted while they are written";
        return Err(hidden_rows::explain_missing_rows(client, SESSIONS, otherwise).await);
    }
    let missing = duplicate_ids::resolve(client, lane, not_inserted.duplicate_id, verdicts).await?;
    if !user_marks::drop_deleted_messages(client, missing, verdicts).await?.is_empty() {
        let otherwise = "messages are being deleted while they are written";
        return Err(hidden_rows::explain_missing_rows(client, MESSAGES, otherwise).await);
    }
    if verdicts.iter().any(is_unknown) {
        deletions::refuse_updates_and_ends(client, rounds, verdicts).await?;
        hidden_rows::check_sessions_visible(client).await?;
    }
    Ok(())
}

fn is_unknown(verdict: &Verdict) -> bool {
    use Verdict::{Dead, Refused};
    matches!(verdict, Dead(DeadReason::UnknownSession) | Refused(NotDurable::UnknownSession))
}

/// Messages that were not inserted.
#[derive(Default)]
struct NotInserted<'r> {
    /// Messages whose id already exists.
    duplicate_id: Vec<PlacedMessage<'r>>,
    /// Messages whose session does not exist.
    missing_session: Vec<PlacedMessage<'r>>,
}

impl NotInserted<'_> {
    fn extend(&mut self, more: Self) {
        self.duplicate_id.extend(more.duplicate_id);
        self.missing_session.extend(more.missing_session);
    }
}

/// Writes one round in one transaction.
async fn write_round<'r>(
    client: &Client,
    lane: &DeliveryLane<'_>,
    round: &Round<'r>,
    written: &mut Written,
) -> Result<NotInserted<'r>, Failure> {
    let verdicts = written.verdicts.as_mut_slice();
    if let Some(edit) = round.edit {
        edits::write_edit(client, lane, edit, verdicts).await?;
        return Ok(NotInserted::default());
    }
    if round.is_for_deletions() {
        deletions::write_deletions(client, lane, round, verdicts).await?;
        return Ok(NotInserted::default());
    }
    let starting =
        round.starts.iter().flat_map(|(_, start)| [start.session_id.as_uuid(), start.user_id.as_uuid()]);
    let updates = round.updates.iter().map(|(session_id, merged)| (*session_id, merged));
    let alive = round.alive.iter().map(|(claim, at)| (claim, *at));
    let mut late = round.reopening_messages().peekable();
    let statements = [
        (!round.starts.is_empty()).then(|| deletions::share_lock(starting)),
        (!round.starts.is_empty()).then(|| sessions::start_sessions(lane.node(), &round.starts)),
        (!round.updates.is_empty()).then(|| sessions::update_sessions(lane.node(), &updates)),
        late.peek().is_some().then(|| sessions::lock_inferred_ends(late.map(|(session_id, _)| session_id))),
        (!round.messages.is_empty()).then(|| messages::insert_messages(&round.messages)),
        (!round.alive.is_empty()).then(|| sessions::record_heartbeats(alive)),
        (!round.ends.is_empty()).then(|| sessions::end_sessions(lane.node(), &round.ends)),
    ];
    let answers = transaction::write(client, lane, &statements).await;
    let [_, started, updated, inferred, inserted, _, ended] = match answers {
        Err(failure) if failure.is_changed_id() => return Err(hidden_rows::explain_changed_id(client).await),
        answers => answers?,
    };
    for row in &ended {
        let closed: Vec<Uuid> = row.try_get(4)?;
        written.closed.extend(closed.into_iter().map(MessageId::from));
    }
    judge_starts(client, round, &started, verdicts).await?;
    judge_updates(round, &updated, verdicts)?;
    judge_ends(round, &ended, verdicts)?;
    let not_inserted = judge_messages(client, round, &inserted, verdicts).await?;
    judge_reopened(round, &inferred, verdicts)?;
    Ok(not_inserted)
}

async fn judge_starts(
    client: &Client,
    round: &Round<'_>,
    rows: &[Row],
    verdicts: &mut [Verdict],
) -> Result<(), Failure> {
    let mut started = HashMap::new();
    for row in rows {
        let (is_new, fits): (bool, bool) = (row.try_get(1)?, row.try_get(2)?);
        let verdict = if fits { Verdict::Started { resumed: !is_new } } else { metadata_too_large() };
        started.insert(read_id::<SessionId>(row, 0)?, verdict);
    }
    let mut refused = Vec::new();
    for (record, start) in &round.starts {
        verdicts[record.place] = match started.remove(&start.session_id) {
            Some(verdict) => verdict,
            None => {
                refused.push(start.session_id);
                Verdict::Refused(NotDurable::OtherUser)
            }
        };
    }
    if refused.is_empty() {
        return Ok(());
    }
    let deleted = deletions::find_deleted(client, refused.iter().copied()).await?;
    for (record, _) in round.starts.iter().filter(|(_, start)| deleted.contains(&start.session_id)) {
        verdicts[record.place] = Verdict::Refused(NotDurable::Deleted);
    }
    let late = round.starts.iter().filter(|(_, start)| refused.contains(&start.session_id));
    let late =
        user_marks::find_refused(client, late.map(|(record, start)| LateRecord::from_start(*record, start)))
            .await?;
    for (record, start) in round.starts.iter().filter(|(record, _)| late.contains(&record.place)) {
        verdicts[record.place] = Verdict::Dead(DeadReason::DeletedForUser);
        refused.retain(|session_id| *session_id != start.session_id);
    }
    refused.retain(|session_id| !deleted.contains(session_id));
    if owners::find_owners(client, refused.iter().copied()).await?.len() < refused.len() {
        let otherwise = "sessions are being deleted while they begin";
        return Err(hidden_rows::explain_missing_rows(client, SESSIONS, otherwise).await);
    }
    Ok(())
}

fn judge_updates(round: &Round<'_>, rows: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    let mut judge = |merged: &MergedUpdates, verdict: Verdict| {
        merged.places.iter().for_each(|place| verdicts[*place] = verdict.clone());
    };
    round.updates.values().for_each(|merged| judge(merged, Verdict::Refused(NotDurable::UnknownSession)));
    for row in rows {
        if let Some(merged) = round.updates.get(&read_id(row, 0)?) {
            let fits: bool = row.try_get(1)?;
            judge(merged, if fits { Verdict::Updated } else { metadata_too_large() });
        }
    }
    Ok(())
}

fn metadata_too_large() -> Verdict {
    Verdict::Dead(DeadReason::Data(METADATA_TOO_LARGE.into()))
}

fn judge_ends(round: &Round<'_>, rows: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    let mut ended = HashMap::new();
    for row in rows {
        let duration_seconds = row.try_get(1)?;
        let message_count = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0);
        let goes_on: bool = row.try_get(3)?;
        let figures = Ended { duration_seconds, message_count };
        let verdict = if goes_on { Verdict::StaysActive } else { Verdict::Ended(figures) };
        ended.insert(read_id::<SessionId>(row, 0)?, verdict);
    }
    for (record, end) in &round.ends {
        let unknown = Verdict::Refused(NotDurable::UnknownSession);
        verdicts[record.place] = ended.remove(&end.session_id).unwrap_or(unknown);
    }
    Ok(())
}

/// Sets the verdicts of messages that reopened a session. The rows are sessions that had an inferred end
/// before the messages were written.
fn judge_reopened(round: &Round<'_>, ended: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    for row in ended {
        let session_id: SessionId = read_id(row, 0)?;
        // Another program wrote a time that does not fit in a [`Timestamp`]: the session stays as the store
        // has it.
        let known = |column| rows::get_time(row, column).ok().and_then(|time| time.known());
        let (Some(started_at), Some(ended_at)) = (known(2), known(3)) else {
            continue;
        };
        let Some(user_id) = owners::read_user(row, 1, 4)? else { continue };
        let reopened = Reopened { session_id, user_id, started_at };
        let of_session =
            round.reopening_messages().filter(|(id, _)| *id == session_id).map(|(_, placed)| placed);
        for placed in
            of_session.filter(|placed| placed.reopens_before().is_some_and(|before| ended_at < before))
        {
            if verdicts[placed.place] == Verdict::Inserted {
                verdicts[placed.place] = Verdict::Reopened(reopened.clone());
            }
        }
    }
    Ok(())
}

/// Sorts the messages by outcome. The row names the inserted ids, unless all were inserted.
async fn judge_messages<'r>(
    client: &Client,
    round: &Round<'r>,
    rows: &[Row],
    verdicts: &mut [Verdict],
) -> Result<NotInserted<'r>, Error> {
    let inserted: Option<Vec<Uuid>> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
    let inserted: Option<HashSet<MessageId>> =
        inserted.map(|ids| ids.into_iter().map(MessageId::from).collect());
    let is_inserted =
        |placed: &PlacedMessage<'_>| inserted.as_ref().is_none_or(|ids| ids.contains(&placed.stamped.id));
    let mut left = round.repeats.clone();
    for placed in &round.messages {
        if is_inserted(placed) {
            verdicts[placed.place] = Verdict::Inserted;
        } else {
            left.push(*placed);
        }
    }
    let mut not_inserted = NotInserted::default();
    if left.is_empty() {
        return Ok(not_inserted);
    }
    let owners =
        owners::find_owners(client, left.iter().map(|placed| placed.stamped.message.session_id)).await?;
    for placed in left {
        match owners.get(&placed.stamped.message.session_id) {
            None => not_inserted.missing_session.push(placed),
            Some(session) if session.is_other(placed.stamped.owner.as_ref()) => {
                verdicts[placed.place] = Verdict::Dead(DeadReason::OtherUser);
            }
            Some(_) => not_inserted.duplicate_id.push(placed),
        }
    }
    Ok(not_inserted)
}

/// A session whose row was removed, as a record of it describes the session.
struct RemovedSession {
    owner: UserId,
    started_at: Timestamp,
    /// The `seq` of the record.
    accepted: Seq,
}

/// Writes the rows of removed sessions again, from what their records say about them. Returns these sessions,
/// and the messages that now have one. A message becomes a dead letter if it does not name its session's owner:
/// this node never knew the session.
async fn restore_sessions<'r>(
    client: &Client,
    lane: &DeliveryLane<'_>,
    rounds: &[Round<'r>],
    missing_session: Vec<PlacedMessage<'r>>,
    verdicts: &mut [Verdict],
) -> Result<(Round<'r>, HashSet<SessionId>), Failure> {
    let mut again = Round::default();
    let mut removed = HashMap::new();
    for placed in deletions::drop_deleted(client, missing_session, verdicts).await? {
        let Some(owner) = placed.stamped.owner.clone() else {
            verdicts[placed.place] = Verdict::Dead(DeadReason::UnknownSession);
            continue;
        };
        let started_at = placed.stamped.session_started_at.unwrap_or(placed.stamped.created_at);
        let session = RemovedSession { owner, started_at, accepted: placed.seq };
        removed.entry(placed.stamped.message.session_id).or_insert(session);
        again.add_message(placed);
    }
    for record in
        rounds.iter().flat_map(Round::updates_and_ends).filter(|record| is_unknown(&verdicts[record.place]))
    {
        if let Some((owner, started_at)) = record.owner.zip(record.session_started_at) {
            let session = RemovedSession { owner, started_at, accepted: record.seq };
            removed.entry(record.session_id).or_insert(session);
        }
    }
    for (session_id, session) in &removed {
        let lock = Some(deletions::share_lock([session_id.as_uuid(), session.owner.as_uuid()].into_iter()));
        let row =
            sessions::restore_session(*session_id, &session.owner, session.started_at, session.accepted);
        transaction::write(client, lane, &[lock, Some(row)]).await.map_err(Failure::for_session)?;
        tracing::warn!(%session_id, "the row of a session was removed while its records waited; it is written again");
    }
    Ok((again, removed.into_keys().collect()))
}
