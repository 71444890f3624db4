//! Sessions that go, and the marks that stay of them: whatever any node still has of such a session is refused.
//!
//! A start and a deletion of one session may come from two nodes at the same moment. Each would see the rows as they were
//! before the other, and the session would be back. So a start shares a lock that a deletion wants for itself.

use std::collections::{HashMap, HashSet};

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::error::NotDurable;
use crate::record::{DeadReason, Removed, SessionDelete, Verdict};
use crate::store::postgres::failure::{Failure, SESSIONS};
use crate::store::postgres::plan::{Placed, Round};
use crate::store::postgres::statement::{Statement, moment};
use crate::store::postgres::transaction::{self, transaction};
use crate::store::postgres::{obstacle, sessions};

/// Few locks for however many sessions: the server has a table of a fixed size for them. In their order, so that nobody waits
/// for somebody who waits. The first number stands for talktrack.
macro_rules! lock {
    ($lock:literal) => {
        concat!(
            "SELECT ",
            $lock,
            "(1952541803, bucket) FROM (SELECT DISTINCT hashtext(id::text) & 63 AS bucket ",
            "FROM unnest($1::uuid[]) AS ids(id) ORDER BY 1) AS buckets"
        )
    };
}

const LOCK: &str = lock!("pg_advisory_xact_lock");
const SHARE_LOCK: &str = lock!("pg_advisory_xact_lock_shared");

/// The rows themselves, so that nothing is added to these sessions any more.
const LOCK_ROWS: &str = "
SELECT session_id FROM public.conversation_sessions WHERE session_id = ANY($1::uuid[]) ORDER BY session_id FOR UPDATE";

macro_rules! gone {
    () => {
        "unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) AS gone(session_id, owner, silent_since)"
    };
}

/// Whether a session that is there goes.
macro_rules! goes {
    () => {
        "(gone.owner IS NULL OR session.user_id = gone.owner) AND \
         (gone.silent_since IS NULL OR coalesce(session.last_event_at, session.started_at) < gone.silent_since)"
    };
}

const NOTE: &str = concat!(
    "INSERT INTO public.conversation_deletions (session_id) SELECT gone.session_id FROM ",
    gone!(),
    " LEFT JOIN public.conversation_sessions session ON session.session_id = gone.session_id \
     WHERE gone.silent_since IS NULL AND (session.session_id IS NULL OR ",
    goes!(),
    ") ORDER BY gone.session_id ON CONFLICT (session_id) DO NOTHING"
);

const DELETE_MESSAGES: &str = concat!(
    "WITH deleted AS (DELETE FROM public.conversation_messages message USING ",
    gone!(),
    " LEFT JOIN public.conversation_sessions session ON session.session_id = gone.session_id \
     WHERE message.session_id = gone.session_id \
     AND CASE WHEN session.session_id IS NULL THEN gone.silent_since IS NULL ELSE ",
    goes!(),
    " END RETURNING message.session_id) SELECT session_id, count(*) FROM deleted GROUP BY session_id"
);

const DELETE_SESSIONS: &str = concat!(
    "DELETE FROM public.conversation_sessions session USING ",
    gone!(),
    " WHERE session.session_id = gone.session_id AND ",
    goes!(),
    " RETURNING session.session_id"
);

/// The words by which their messages were found.
const FORGET: &str = "
DELETE FROM public.conversation_search AS found WHERE session_id = ANY($1::uuid[])
  AND NOT EXISTS (SELECT FROM public.conversation_sessions session WHERE session.session_id = found.session_id)";

const DELETED: &str =
    "SELECT session_id FROM public.conversation_deletions WHERE session_id = ANY($1::uuid[])";

/// Goes before the start of sessions, in the same transaction: after it, a deletion is seen, or waits.
pub(super) fn share_lock(sessions: impl Iterator<Item = Uuid>) -> Statement<'static> {
    Statement::new(SHARE_LOCK).uuids(sessions)
}

/// Deletes the sessions of one round in one transaction. None is in it twice.
pub(super) async fn write(
    client: &Client,
    deletes: &[(usize, &SessionDelete)],
    verdicts: &mut [Verdict],
) -> Result<(), Failure> {
    let ids = || deletes.iter().map(|(_, delete)| delete.session_id);
    let about = |sql| {
        let owners: Vec<_> = deletes.iter().map(|(_, delete)| delete.owner).collect();
        let since: Vec<_> = deletes.iter().map(|(_, delete)| delete.silent_since.map(moment)).collect();
        let statement = Statement::new(sql).uuids(ids());
        Some(statement.with(owners, Type::UUID_ARRAY).with(since, Type::TIMESTAMPTZ_ARRAY))
    };
    let statements = [
        Some(Statement::new(LOCK).uuids(ids())),
        Some(Statement::new(LOCK_ROWS).uuids(ids())),
        about(NOTE),
        about(DELETE_MESSAGES),
        about(DELETE_SESSIONS),
        Some(sessions::owners(ids())),
    ];
    let [_, _, _, messages, gone, left] = transaction(client, transaction::TO_WRITE, &statements).await?;
    // Whatever is wrong with the index keeps nothing from being deleted: its own pass finds later what is left.
    let _ = Statement::new(FORGET).uuids(ids()).query(client).await;
    let messages = counts(&messages)?;
    let gone = ids_of(&gone)?;
    let left: HashMap<Uuid, Uuid> =
        left.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, Error>>()?;
    if deletes.iter().any(|(_, delete)| !gone.contains(&delete.session_id)) {
        obstacle::no_session_is_hidden(client).await?;
    }
    for (place, delete) in deletes {
        let session_id = &delete.session_id;
        let removed = Removed {
            sessions: u64::from(gone.contains(session_id)),
            messages: messages.get(session_id).copied().unwrap_or(0),
            ..Removed::default()
        };
        verdicts[*place] = match left.get(session_id) {
            None => Verdict::Deleted(removed),
            Some(user_id) if delete.owner.is_some_and(|owner| owner != *user_id) => {
                Verdict::Refused(NotDurable::OtherUser)
            }
            Some(_) if !delete.is_for_good() => Verdict::GoesOn,
            Some(_) => {
                return Err(Failure::systemic(format!(
                    "A session of '{SESSIONS}' cannot be deleted: a trigger or a policy of row-level security keeps its row"
                )));
            }
        };
    }
    Ok(())
}

/// Those of these sessions that were deleted for good.
pub(super) async fn deleted(
    client: &Client,
    sessions: impl Iterator<Item = Uuid>,
) -> Result<HashSet<Uuid>, Error> {
    let sessions: Vec<Uuid> = sessions.collect();
    if sessions.is_empty() {
        return Ok(HashSet::new());
    }
    ids_of(&Statement::new(DELETED).uuids(sessions.into_iter()).query(client).await?)
}

/// Lets go of messages whose session was deleted, and returns the others.
pub(super) async fn let_go<'r>(
    client: &Client,
    homeless: Vec<Placed<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<Placed<'r>>, Error> {
    let session_of = |placed: &Placed<'_>| placed.stamped.message.session_id;
    let deleted = deleted(client, homeless.iter().map(session_of)).await?;
    let (gone, left): (Vec<_>, Vec<_>) =
        homeless.into_iter().partition(|placed| deleted.contains(&session_of(placed)));
    gone.iter().for_each(|placed| verdicts[placed.place] = Verdict::Dead(DeadReason::Deleted));
    Ok(left)
}

/// What was told of a session that nobody knows: it may have been deleted.
pub(super) async fn refuse_what_is_told(
    client: &Client,
    rounds: &[Round<'_>],
    verdicts: &mut [Verdict],
) -> Result<(), Error> {
    let unknown = Verdict::Refused(NotDurable::UnknownSession);
    let updates = rounds.iter().flat_map(|round| &round.updates);
    let updates = updates.flat_map(|(id, merged)| merged.places.iter().map(|place| (*place, *id)));
    let ends = rounds.iter().flat_map(|round| &round.ends).map(|(place, end)| (*place, end.session_id));
    let told: Vec<_> = updates.chain(ends).filter(|(place, _)| verdicts[*place] == unknown).collect();
    let deleted = deleted(client, told.iter().map(|(_, session_id)| *session_id)).await?;
    for (place, session_id) in told {
        if deleted.contains(&session_id) {
            verdicts[place] = Verdict::Refused(NotDurable::Deleted);
        }
    }
    Ok(())
}

fn ids_of(rows: &[Row]) -> Result<HashSet<Uuid>, Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

fn counts(rows: &[Row]) -> Result<HashMap<Uuid, u64>, Error> {
    let count = |row: &Row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?.unsigned_abs()));
    rows.iter().map(count).collect()
}
