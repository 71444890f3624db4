//! Writes records to rows. A batch is usually one transaction, sent in one go, so it costs one round trip
//! at any distance from the database.
//!
//! Messages that the transaction did not insert are examined afterwards. If their session is missing, its row
//! is restored from what this process knows, and they are tried again. If their id exists, they are compared
//! with the stored message: the same, a newer or an older revision, or a conflict. A message that is neither
//! inserted nor stored was kept away by a trigger or by row-level security, and waits.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::error::NotDurable;
use crate::record::{DeadReason, Ended, Reopened, Verdict};
use crate::store::conflict::METADATA_TOO_LARGE;
use crate::store::postgres::deliveries::Lane;
use crate::store::postgres::failure::{Failure, MESSAGES, SESSIONS};
use crate::store::postgres::plan::{Merged, Placed, Round};
use crate::store::postgres::user_marks::{self, Late};
use crate::store::postgres::{deletions, messages, obstacle, rows, sessions, taken, transaction};

/// Writes the rounds, which contain this number of records, and returns one verdict per record.
pub(super) async fn write(
    client: &Client,
    lane: &Lane<'_>,
    rounds: &[Round<'_>],
    records: usize,
) -> Result<Vec<Verdict>, Failure> {
    let mut verdicts = vec![Verdict::AlreadyThere; records];
    let Some((first, later)) = rounds.split_first() else { return Ok(verdicts) };
    let open = write_round(client, lane, first, &mut verdicts).await?;
    let rest = write_rest(client, lane, (rounds, later), open, &mut verdicts).await;
    rest.map(|()| verdicts).map_err(Failure::after_a_commit)
}

/// Writes what follows the first transaction: further rounds, and corrections that the answers require.
async fn write_rest<'r>(
    client: &Client,
    lane: &Lane<'_>,
    (rounds, later): (&[Round<'r>], &[Round<'r>]),
    mut open: Open<'r>,
    verdicts: &mut [Verdict],
) -> Result<(), Failure> {
    for round in later {
        open.extend(write_round(client, lane, round, verdicts).await?);
    }
    let (mut again, mut restored) = restore_sessions(client, lane, rounds, open.homeless, verdicts).await?;
    // If a session starts again later in the batch, updates and ends from before that start no longer
    // apply.
    restored.retain(|id| {
        !rounds.iter().any(|round| round.starts.iter().any(|(_, start)| start.session_id == *id))
    });
    rounds.iter().for_each(|round| again.take_what_is_told_of(&restored, round));
    let missing = taken::settle(client, lane, open.taken, verdicts).await?;
    let missing = user_marks::drop_deleted(client, missing, verdicts).await?;
    for placed in user_marks::let_go(client, missing, verdicts).await? {
        again.take_message(placed);
    }
    let open = write_round(client, lane, &again, verdicts).await?;
    if !deletions::let_go(client, open.homeless, verdicts).await?.is_empty() {
        let otherwise = "sessions are being deleted while they are written";
        return Err(obstacle::swallowed(client, SESSIONS, otherwise).await);
    }
    let missing = taken::settle(client, lane, open.taken, verdicts).await?;
    if !user_marks::drop_deleted(client, missing, verdicts).await?.is_empty() {
        let otherwise = "messages are being deleted while they are written";
        return Err(obstacle::swallowed(client, MESSAGES, otherwise).await);
    }
    if verdicts.iter().any(is_unknown) {
        deletions::refuse_what_is_told(client, rounds, verdicts).await?;
        obstacle::no_session_is_hidden(client).await?;
    }
    Ok(())
}

fn is_unknown(verdict: &Verdict) -> bool {
    use Verdict::{Dead, Refused};
    matches!(verdict, Dead(DeadReason::UnknownSession) | Refused(NotDurable::UnknownSession))
}

/// Messages that were not inserted.
#[derive(Default)]
struct Open<'r> {
    /// Messages whose id already exists.
    taken: Vec<Placed<'r>>,
    /// Messages whose session does not exist.
    homeless: Vec<Placed<'r>>,
}

impl Open<'_> {
    fn extend(&mut self, more: Self) {
        self.taken.extend(more.taken);
        self.homeless.extend(more.homeless);
    }
}

/// Writes one round in one transaction.
async fn write_round<'r>(
    client: &Client,
    lane: &Lane<'_>,
    round: &Round<'r>,
    verdicts: &mut [Verdict],
) -> Result<Open<'r>, Failure> {
    if round.is_for_deletions() {
        deletions::write(client, lane, round, verdicts).await?;
        return Ok(Open::default());
    }
    let starting = round.starts.iter().flat_map(|(_, start)| [start.session_id, start.user_id]);
    let updates = round.updates.iter().map(|(session_id, merged)| (*session_id, merged));
    let alive = round.alive.iter().map(|(claim, at)| (*claim, *at));
    let mut late = round.late_messages().peekable();
    let statements = [
        (!round.starts.is_empty()).then(|| deletions::share_lock(starting)),
        (!round.starts.is_empty()).then(|| sessions::start(lane.node(), &round.starts)),
        (!round.updates.is_empty()).then(|| sessions::update(lane.node(), &updates)),
        late.peek().is_some().then(|| sessions::inferred_ends(late.map(|(session_id, _)| session_id))),
        (!round.messages.is_empty()).then(|| messages::insert(&round.messages)),
        (!round.alive.is_empty()).then(|| sessions::alive(alive)),
        (!round.ends.is_empty()).then(|| sessions::end(lane.node(), &round.ends)),
    ];
    let written = transaction::write(client, lane, &statements).await;
    let [_, started, updated, inferred, inserted, _, ended] = match written {
        Err(failure) if failure.is_changed_id() => return Err(obstacle::changed_id(client).await),
        written => written?,
    };
    judge_starts(client, round, &started, verdicts).await?;
    judge_updates(round, &updated, verdicts)?;
    judge_ends(round, &ended, verdicts)?;
    let open = judge_messages(client, round, &inserted, verdicts).await?;
    judge_taken_back(round, &inferred, verdicts)?;
    Ok(open)
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
        started.insert(row.try_get::<_, Uuid>(0)?, verdict);
    }
    let mut refused = Vec::new();
    for (told, start) in &round.starts {
        verdicts[told.place] = match started.remove(&start.session_id) {
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
    let deleted = deletions::deleted(client, refused.iter().copied()).await?;
    for (told, _) in round.starts.iter().filter(|(_, start)| deleted.contains(&start.session_id)) {
        verdicts[told.place] = Verdict::Refused(NotDurable::Deleted);
    }
    let late = round.starts.iter().filter(|(_, start)| refused.contains(&start.session_id));
    let late = user_marks::refused(client, late.map(|(told, start)| Late::start(*told, start))).await?;
    for (told, start) in round.starts.iter().filter(|(told, _)| late.contains(&told.place)) {
        verdicts[told.place] = Verdict::Dead(DeadReason::DeletedForUser);
        refused.retain(|session_id| *session_id != start.session_id);
    }
    refused.retain(|session_id| !deleted.contains(session_id));
    if sessions::find_owners(client, refused.iter().copied()).await?.len() < refused.len() {
        let otherwise = "sessions are being deleted while they begin";
        return Err(obstacle::swallowed(client, SESSIONS, otherwise).await);
    }
    Ok(())
}

fn judge_updates(round: &Round<'_>, rows: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    let mut judge = |merged: &Merged, verdict: Verdict| {
        merged.places.iter().for_each(|place| verdicts[*place] = verdict.clone());
    };
    round.updates.values().for_each(|merged| judge(merged, Verdict::Refused(NotDurable::UnknownSession)));
    for row in rows {
        if let Some(merged) = round.updates.get(&row.try_get::<_, Uuid>(0)?) {
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
        ended.insert(row.try_get::<_, Uuid>(0)?, verdict);
    }
    for (told, end) in &round.ends {
        let unknown = Verdict::Refused(NotDurable::UnknownSession);
        verdicts[told.place] = ended.remove(&end.session_id).unwrap_or(unknown);
    }
    Ok(())
}

/// Sets the verdicts of messages that reopened a session. The rows are sessions that had an inferred end
/// before the messages were written.
fn judge_taken_back(round: &Round<'_>, ended: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    for row in ended {
        let session_id: Uuid = row.try_get(0)?;
        // Another program wrote a time that does not fit in a [`Timestamp`]: the session stays as the store
        // has it.
        let known = |column| rows::time(row, column).ok().and_then(|time| time.known());
        let (Some(started_at), Some(ended_at)) = (known(2), known(3)) else {
            continue;
        };
        let reopened = Reopened { session_id, user_id: row.try_get(1)?, started_at };
        let of_session = round.late_messages().filter(|(id, _)| *id == session_id).map(|(_, placed)| placed);
        for placed in of_session.filter(|placed| placed.takes_back().is_some_and(|before| ended_at < before))
        {
            if verdicts[placed.place] == Verdict::Inserted {
                verdicts[placed.place] = Verdict::Reopened(reopened);
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
) -> Result<Open<'r>, Error> {
    let inserted: Option<Vec<Uuid>> = rows.first().map_or(Ok(None), |row| row.try_get(0))?;
    let inserted: Option<HashSet<Uuid>> = inserted.map(HashSet::from_iter);
    let is_inserted =
        |placed: &Placed<'_>| inserted.as_ref().is_none_or(|ids| ids.contains(&placed.stamped.id));
    let mut left = round.repeats.clone();
    for placed in &round.messages {
        if is_inserted(placed) {
            verdicts[placed.place] = Verdict::Inserted;
        } else {
            left.push(*placed);
        }
    }
    let mut open = Open::default();
    if left.is_empty() {
        return Ok(open);
    }
    let owners =
        sessions::find_owners(client, left.iter().map(|placed| placed.stamped.message.session_id)).await?;
    for placed in left {
        match owners.get(&placed.stamped.message.session_id) {
            None => open.homeless.push(placed),
            Some(user_id) if placed.stamped.owner.is_some_and(|owner| owner != *user_id) => {
                verdicts[placed.place] = Verdict::Dead(DeadReason::OtherUser);
            }
            Some(_) => open.taken.push(placed),
        }
    }
    Ok(open)
}

/// A session whose row was removed, as a record of it describes the session.
struct RemovedSession {
    owner: Uuid,
    started_at: Timestamp,
    /// The `seq` of the record.
    accepted: Seq,
}

/// Writes the rows of removed sessions again, from what their records say about them. Returns these sessions,
/// and the messages that now have one. A message becomes a dead letter if it does not name its session's owner:
/// this node never knew the session.
async fn restore_sessions<'r>(
    client: &Client,
    lane: &Lane<'_>,
    rounds: &[Round<'r>],
    homeless: Vec<Placed<'r>>,
    verdicts: &mut [Verdict],
) -> Result<(Round<'r>, HashSet<Uuid>), Failure> {
    let mut again = Round::default();
    let mut removed = HashMap::new();
    for placed in deletions::let_go(client, homeless, verdicts).await? {
        let Some(owner) = placed.stamped.owner else {
            verdicts[placed.place] = Verdict::Dead(DeadReason::UnknownSession);
            continue;
        };
        let started_at = placed.stamped.session_started_at.unwrap_or(placed.stamped.created_at);
        let session = RemovedSession { owner, started_at, accepted: placed.seq };
        removed.entry(placed.stamped.message.session_id).or_insert(session);
        again.take_message(placed);
    }
    for told in
        rounds.iter().flat_map(Round::updates_and_ends).filter(|told| is_unknown(&verdicts[told.place]))
    {
        if let Some((owner, started_at)) = told.owner.zip(told.session_started_at) {
            let session = RemovedSession { owner, started_at, accepted: told.seq };
            removed.entry(told.session_id).or_insert(session);
        }
    }
    for (session_id, session) in &removed {
        let lock = Some(deletions::share_lock([*session_id, session.owner].into_iter()));
        let row = sessions::restore(*session_id, session.owner, session.started_at, session.accepted);
        transaction::write(client, lane, &[lock, Some(row)]).await.map_err(Failure::of_a_session)?;
        tracing::warn!(%session_id, "the row of a session was removed while its records waited; it is written again");
    }
    Ok((again, removed.into_keys().collect()))
}
