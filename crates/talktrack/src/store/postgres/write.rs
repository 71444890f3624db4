//! Records to rows: a batch is one transaction, sent in one go, so that it costs one round trip however far away the
//! database is.

use std::collections::{HashMap, HashSet};

use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::error::NotDurable;
use crate::record::{DeadReason, Ended, Verdict};
use crate::store::postgres::failure::{Failure, MESSAGES, SESSIONS};
use crate::store::postgres::plan::{Merged, Placed, Round};
use crate::store::postgres::transaction::{self, transaction};
use crate::store::postgres::{deletions, messages, obstacle, sessions, taken};

/// Writes the rounds, of so many records, and says what became of each record.
pub(super) async fn write(
    client: &Client,
    rounds: &[Round<'_>],
    records: usize,
) -> Result<Vec<Verdict>, Failure> {
    let mut verdicts = vec![Verdict::AlreadyThere; records];
    let mut open = Open::default();
    for round in rounds {
        open.extend(write_round(client, round, &mut verdicts).await?);
    }
    let (mut again, mut restored) = restore_sessions(client, open.homeless, &mut verdicts).await?;
    // Where one began again later in the batch, what was told of it before is over.
    restored
        .retain(|id| !rounds.iter().any(|round| round.starts.iter().any(|start| start.2.session_id == *id)));
    rounds.iter().for_each(|round| again.take_what_is_told_of(&restored, round));
    for placed in taken::settle(client, open.taken, &mut verdicts).await? {
        again.take_message(placed);
    }
    let open = write_round(client, &again, &mut verdicts).await?;
    if !deletions::let_go(client, open.homeless, &mut verdicts).await?.is_empty() {
        let otherwise = "sessions are being deleted while they are written";
        return Err(obstacle::swallowed(client, SESSIONS, otherwise).await);
    }
    if !taken::settle(client, open.taken, &mut verdicts).await?.is_empty() {
        let otherwise = "messages are being deleted while they are written";
        return Err(obstacle::swallowed(client, MESSAGES, otherwise).await);
    }
    if verdicts.iter().any(is_unknown) {
        deletions::refuse_what_is_told(client, rounds, &mut verdicts).await?;
        obstacle::no_session_is_hidden(client).await?;
    }
    Ok(verdicts)
}

fn is_unknown(verdict: &Verdict) -> bool {
    use Verdict::{Dead, Refused};
    matches!(verdict, Dead(DeadReason::UnknownSession) | Refused(NotDurable::UnknownSession))
}

/// Messages that were not inserted.
#[derive(Default)]
struct Open<'r> {
    /// Their id is there already.
    taken: Vec<Placed<'r>>,
    /// Their session is not.
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
    round: &Round<'r>,
    verdicts: &mut [Verdict],
) -> Result<Open<'r>, Failure> {
    if !round.deletes.is_empty() {
        deletions::write(client, &round.deletes, verdicts).await?;
        return Ok(Open::default());
    }
    let starting = round.starts.iter().map(|(_, _, start)| start.session_id);
    let updates = round.updates.iter().map(|(session_id, merged)| (*session_id, merged));
    let alive = round.alive.iter().map(|(session_id, at)| (*session_id, *at));
    let statements = [
        (!round.starts.is_empty()).then(|| deletions::share_lock(starting)),
        (!round.starts.is_empty()).then(|| sessions::start(&round.starts)),
        (!round.updates.is_empty()).then(|| sessions::update(updates)),
        (!round.messages.is_empty()).then(|| messages::insert(&round.messages)),
        (!round.alive.is_empty()).then(|| sessions::alive(alive)),
        (!round.ends.is_empty()).then(|| sessions::end(&round.ends)),
    ];
    let [_, started, updated, inserted, _, ended] =
        transaction(client, transaction::TO_WRITE, &statements).await?;
    judge_starts(client, round, &started, verdicts).await?;
    judge_updates(round, &updated, verdicts)?;
    judge_ends(round, &ended, verdicts)?;
    Ok(judge_messages(client, round, &inserted, verdicts).await?)
}

async fn judge_starts(
    client: &Client,
    round: &Round<'_>,
    rows: &[Row],
    verdicts: &mut [Verdict],
) -> Result<(), Failure> {
    let mut started = HashMap::new();
    for row in rows {
        started.insert(row.try_get::<_, Uuid>(0)?, row.try_get::<_, bool>(1)?);
    }
    let mut refused = Vec::new();
    for (place, _, start) in &round.starts {
        verdicts[*place] = match started.get(&start.session_id) {
            Some(new) => Verdict::Started { resumed: !new },
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
    for (place, ..) in round.starts.iter().filter(|(_, _, start)| deleted.contains(&start.session_id)) {
        verdicts[*place] = Verdict::Refused(NotDurable::Deleted);
    }
    refused.retain(|session_id| !deleted.contains(session_id));
    if owners(client, refused.iter().copied()).await?.len() < refused.len() {
        let otherwise = "sessions are being deleted while they begin";
        return Err(obstacle::swallowed(client, SESSIONS, otherwise).await);
    }
    Ok(())
}

/// The users of those of these sessions that are there.
async fn owners(client: &Client, sessions: impl Iterator<Item = Uuid>) -> Result<HashMap<Uuid, Uuid>, Error> {
    let rows = sessions::owners(sessions).query(client).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn judge_updates(round: &Round<'_>, rows: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    let mut judge = |merged: &Merged, verdict: Verdict| {
        merged.places.iter().for_each(|place| verdicts[*place] = verdict.clone());
    };
    round.updates.values().for_each(|merged| judge(merged, Verdict::Refused(NotDurable::UnknownSession)));
    for row in rows {
        if let Some(merged) = round.updates.get(&row.try_get::<_, Uuid>(0)?) {
            judge(merged, Verdict::Updated);
        }
    }
    Ok(())
}

fn judge_ends(round: &Round<'_>, rows: &[Row], verdicts: &mut [Verdict]) -> Result<(), Error> {
    let mut ended = HashMap::new();
    for row in rows {
        let duration_seconds = row.try_get(1)?;
        let message_count = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or(0);
        let goes_on: bool = row.try_get(3)?;
        let figures = Ended { duration_seconds, message_count };
        let verdict = if goes_on { Verdict::GoesOn } else { Verdict::Ended(figures) };
        ended.insert(row.try_get::<_, Uuid>(0)?, verdict);
    }
    for (place, end) in &round.ends {
        let unknown = Verdict::Refused(NotDurable::UnknownSession);
        verdicts[*place] = ended.remove(&end.session_id).unwrap_or(unknown);
    }
    Ok(())
}

/// Sorts the messages by what became of them. The row names those that were inserted, where not all were.
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
    let owners = owners(client, left.iter().map(|placed| placed.stamped.message.session_id)).await?;
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

/// Writes the rows of sessions again that somebody took away, from what this process knew of them. Returns the messages that
/// have a session now, and these sessions; where nobody knew it, they never will.
async fn restore_sessions<'r>(
    client: &Client,
    homeless: Vec<Placed<'r>>,
    verdicts: &mut [Verdict],
) -> Result<(Round<'r>, HashSet<Uuid>), Failure> {
    let mut again = Round::default();
    let mut restored = HashSet::new();
    for placed in deletions::let_go(client, homeless, verdicts).await? {
        let session_id = placed.stamped.message.session_id;
        let Some(owner) = placed.stamped.owner else {
            verdicts[placed.place] = Verdict::Dead(DeadReason::UnknownSession);
            continue;
        };
        if restored.insert(session_id) {
            let started_at = placed.stamped.session_started_at.unwrap_or(placed.stamped.created_at);
            let lock = deletions::share_lock(std::iter::once(session_id));
            let statements = [Some(lock), Some(sessions::restore(session_id, owner, started_at))];
            let written = transaction(client, transaction::TO_WRITE, &statements).await;
            written.map_err(|error| Failure::from(error).of_a_session())?;
            tracing::warn!(%session_id, "the row of a session that goes on was gone; it is written again");
        }
        again.take_message(placed);
    }
    Ok((again, restored))
}
