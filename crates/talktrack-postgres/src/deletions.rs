//! Deletes sessions, and writes the tombstones that refuse all records of these sessions that any node
//! delivers later.
//!
//! A start and a deletion of one session may come from two nodes at the same moment. Each would see the
//! rows as they were before the other, and the session would exist again. So a start takes a shared lock
//! that conflicts with the exclusive lock of a deletion.

use std::collections::{HashMap, HashSet};

use talktrack_core::error::NotDurable;
use talktrack_core::ids::{MessageId, SessionId, UserId};
use talktrack_core::record::{DeadReason, DeletionCounts, RemovedRows, SessionDelete, Verdict};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};
use uuid::Uuid;

use crate::deliveries::DeliveryLane;
use crate::failure::{Failure, SESSIONS};
use crate::owners::{SessionOwner, is_owner};
use crate::plan::{PlacedMessage, RecordRef, Round, UpdateOrEnd};
use crate::statement::{Statement, moment, read_id, read_ids};
use crate::user_marks::{self, LateRecord};
use crate::{hidden_rows, owners, transaction};

/// Takes at most 64 advisory locks for any number of sessions, because the server's lock table has a fixed
/// size. They are taken in ascending order, which prevents deadlocks. The first number identifies
/// talktrack.
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

/// Locks the rows of the sessions, so that no other transaction adds to these sessions.
const LOCK_ROWS: &str = "
SELECT session_id FROM public.conversation_sessions WHERE session_id = ANY($1::uuid[]) ORDER BY session_id FOR UPDATE";

macro_rules! deletions {
    () => {
        "unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[]) \
         AS gone(session_id, owner, silent_since, accepted, told_to, owner_text, told_to_text)"
    };
}

/// True if an existing session must be deleted.
macro_rules! must_delete {
    () => {
        concat!(
            "(gone.owner IS NULL OR ",
            is_owner!("gone.owner", "gone.owner_text"),
            ") AND (gone.silent_since IS NULL OR coalesce(session.last_event_at, session.started_at) < gone.silent_since)"
        )
    };
}

const NOTE: &str = concat!(
    "INSERT INTO public.conversation_deletions AS mark (session_id, user_id, user_external_id) \
     SELECT gone.session_id, coalesce(session.user_id, gone.owner, gone.told_to), \
       CASE WHEN session.user_id IS NOT NULL THEN session.user_external_id \
         WHEN gone.owner IS NOT NULL THEN gone.owner_text ELSE gone.told_to_text END FROM ",
    deletions!(),
    " LEFT JOIN public.conversation_sessions session ON session.session_id = gone.session_id \
     WHERE gone.silent_since IS NULL AND (session.session_id IS NULL AND gone.owner IS NULL OR ",
    must_delete!(),
    ") ORDER BY gone.session_id ON CONFLICT (session_id) DO UPDATE \
     SET user_id = excluded.user_id, user_external_id = excluded.user_external_id \
     WHERE mark.user_id IS NULL AND excluded.user_id IS NOT NULL"
);

/// The user who deletes does not own the session, according to this database: the mark applies to this user
/// only.
const NOTE_CLAIMS: &str = concat!(
    "INSERT INTO public.conversation_user_deletions AS mark (user_id, session_id, deleted_at, user_external_id) \
     SELECT gone.owner, gone.session_id, coalesce(gone.accepted, now()), coalesce(gone.owner_text, '') FROM ",
    deletions!(),
    " LEFT JOIN public.conversation_sessions session ON session.session_id = gone.session_id \
     WHERE gone.silent_since IS NULL AND gone.owner IS NOT NULL AND NOT coalesce(",
    is_owner!("gone.owner", "gone.owner_text"),
    ", false) AND NOT EXISTS (SELECT FROM public.conversation_deletions deleted WHERE deleted.session_id = gone.session_id) \
     ORDER BY gone.owner, gone.session_id, gone.owner_text \
     ON CONFLICT (user_id, session_id, user_external_id) DO UPDATE SET deleted_at = greatest(mark.deleted_at, excluded.deleted_at)"
);

const DELETE_MESSAGES: &str = concat!(
    "WITH deleted AS (DELETE FROM public.conversation_messages message USING ",
    deletions!(),
    " LEFT JOIN public.conversation_sessions session ON session.session_id = gone.session_id \
     WHERE message.session_id = gone.session_id \
     AND CASE WHEN session.session_id IS NULL \
       THEN gone.silent_since IS NULL AND (gone.owner IS NULL OR message.user_id = gone.owner) ELSE ",
    must_delete!(),
    " END RETURNING message.session_id, \
     CASE WHEN gone.silent_since IS NOT NULL THEN message.id END AS id) \
     SELECT session_id, count(*), coalesce(array_agg(id) FILTER (WHERE id IS NOT NULL), '{}') FROM deleted GROUP BY session_id"
);

const DELETE_SESSIONS: &str = concat!(
    "DELETE FROM public.conversation_sessions session USING ",
    deletions!(),
    " WHERE session.session_id = gone.session_id AND ",
    must_delete!(),
    " RETURNING session.session_id"
);

/// Deletes again what was deleted before and has reappeared, unless it was written again since.
const DELETE_MESSAGES_AGAIN: &str = "
DELETE FROM public.conversation_messages message USING unnest($1::uuid[], $2::uuid[], $3::int8[]) AS gone(session_id, id, seq)
WHERE message.id = gone.id AND message.session_id = gone.session_id AND coalesce(message.seq <= gone.seq, true)";

const DELETE_SESSIONS_AGAIN: &str = "
DELETE FROM public.conversation_sessions session USING unnest($1::uuid[], $2::int8[]) AS gone(session_id, seq)
WHERE session.session_id = gone.session_id AND coalesce(session.last_seq <= gone.seq, true)
  AND coalesce(session.created_at <= timestamptz 'epoch' + gone.seq * interval '1 microsecond', true)
  AND NOT EXISTS (SELECT FROM public.conversation_messages message WHERE message.session_id = session.session_id)";

/// Removes the sessions' messages from the search index.
const FORGET: &str = "
DELETE FROM public.conversation_search AS found WHERE session_id = ANY($1::uuid[])
  AND NOT EXISTS (SELECT FROM public.conversation_sessions session WHERE session.session_id = found.session_id)";

/// Silences the triggers. This transaction writes the marks itself, or none must be written.
pub(super) const QUIET: &str = "SELECT set_config('talktrack.deletes', 'on', true)";

/// The session's own mark also refuses its messages.
const DROP_TOMBSTONES: &str = "
DELETE FROM public.conversation_message_deletions AS gone WHERE session_id = ANY($1::uuid[])
  AND NOT EXISTS (SELECT FROM public.conversation_sessions session WHERE session.session_id = gone.session_id)";

const DELETED: &str =
    "SELECT session_id FROM public.conversation_deletions WHERE session_id = ANY($1::uuid[])";

/// Precedes the start of sessions in the same transaction: once the lock is held, an earlier deletion of
/// the sessions or of their users is visible, and a later one waits.
pub(super) fn share_lock(ids: impl Iterator<Item = Uuid>) -> Statement<'static> {
    Statement::new(SHARE_LOCK).uuids(ids)
}

/// Deletes the sessions and users of one round in one transaction. Each occurs only once in the round.
pub(super) async fn write_deletions(
    client: &Client,
    lane: &DeliveryLane<'_>,
    round: &Round<'_>,
    verdicts: &mut [Verdict],
) -> Result<(), Failure> {
    let deletes = &round.deletes;
    let users = &round.users;
    let again = &round.again;
    let ids = || deletes.iter().map(|(_, delete)| delete.session_id.as_uuid());
    let ids_again = || again.iter().map(|(_, delete, _)| delete.session_id.as_uuid());
    let user_ids = || users.iter().map(|(_, delete)| delete.user_id.as_uuid());
    let about = |sql| (!deletes.is_empty()).then(|| about_deletes(sql, deletes));
    let owners = deletes.iter().filter_map(|(_, delete)| delete.owner.as_ref());
    let statements = [
        Some(Statement::new(QUIET)),
        Some(Statement::new(LOCK).uuids(ids().chain(ids_again()).chain(user_ids()))),
        Some(Statement::new(LOCK_ROWS).uuids(ids().chain(ids_again()))),
        about(NOTE),
        about(NOTE_CLAIMS),
        (!deletes.is_empty()).then(|| user_marks::limit_marks(owners)),
        (!users.is_empty()).then(|| user_marks::mark_users(users)),
        about(DELETE_MESSAGES),
        about(DELETE_SESSIONS),
        (!again.is_empty()).then(|| delete_messages_again(again)),
        (!again.is_empty()).then(|| delete_sessions_again(again)),
        Some(Statement::new(DROP_TOMBSTONES).uuids(ids().chain(ids_again()))),
        Some(owners::select_owners(ids())),
    ];
    let [_, _, _, _, _, _, _, messages, gone, _, _, _, left] =
        transaction::write(client, lane, &statements).await?;
    let done = users.iter().map(|(record, _)| record).chain(again.iter().map(|(record, ..)| record));
    done.for_each(|record| verdicts[record.place] = Verdict::Deleted(DeletionCounts::default()));
    // A broken search index must not prevent a deletion. The indexer's next scan removes the remaining
    // entries.
    let _ = Statement::new(FORGET).uuids(ids().chain(ids_again())).query(client).await;
    let mut messages = read_removed_messages(&messages)?;
    let gone = read_sessions(&gone)?;
    let left = owners::read_owners(&left)?;
    if deletes.iter().any(|(_, delete)| !gone.contains(&delete.session_id)) {
        hidden_rows::check_sessions_visible(client).await?;
    }
    for (RecordRef { place, .. }, delete) in deletes {
        let session_id = &delete.session_id;
        let (count, ids) = messages.remove(session_id).unwrap_or_default();
        let removed = DeletionCounts {
            sessions: u64::from(gone.contains(session_id)),
            messages: count,
            ..DeletionCounts::default()
        };
        verdicts[*place] = judge_delete(delete, left.get(session_id), removed, ids).ok_or_else(|| {
            Failure::systemic(format!(
                "A session of '{SESSIONS}' cannot be deleted: a trigger or a policy of row-level security keeps its row"
            ))
        })?;
    }
    Ok(())
}

/// Builds a statement about `deletions!()`.
fn about_deletes(sql: &'static str, deletes: &[(RecordRef, &SessionDelete)]) -> Statement<'static> {
    let since: Vec<_> = deletes.iter().map(|(_, delete)| delete.silent_since.map(moment)).collect();
    let accepted: Vec<_> = deletes.iter().map(|(record, _)| record.seq.accepted_at().map(moment)).collect();
    Statement::new(sql)
        .uuids(deletes.iter().map(|(_, delete)| delete.session_id))
        .uuids_or_null(deletes.iter().map(|(_, delete)| delete.owner.as_ref().map(UserId::as_uuid)))
        .with(since, Type::TIMESTAMPTZ_ARRAY)
        .with(accepted, Type::TIMESTAMPTZ_ARRAY)
        .uuids_or_null(deletes.iter().map(|(_, delete)| delete.told_to.as_ref().map(UserId::as_uuid)))
        .user_texts(deletes.iter().map(|(_, delete)| delete.owner.as_ref()))
        .user_texts(deletes.iter().map(|(_, delete)| delete.told_to.as_ref()))
}

/// Decides about one deletion from what it removed, and from the owner of the session's row if that still exists.
/// `None` if the row should be gone, and is not.
fn judge_delete(
    delete: &SessionDelete,
    left: Option<&SessionOwner>,
    removed: DeletionCounts,
    messages: Vec<MessageId>,
) -> Option<Verdict> {
    match left {
        None if delete.is_permanent() => Some(Verdict::Deleted(removed)),
        None => Some(Verdict::Expired(removed, RemovedRows { session: removed.sessions > 0, messages })),
        Some(session) if session.is_other(delete.owner.as_ref()) => {
            Some(Verdict::Refused(NotDurable::OtherUser))
        }
        Some(_) if !delete.is_permanent() => Some(Verdict::StaysActive),
        Some(_) => None,
    }
}

/// Returns those of these sessions that were deleted for good.
pub(super) async fn find_deleted(
    client: &Client,
    sessions: impl Iterator<Item = SessionId>,
) -> Result<HashSet<SessionId>, Error> {
    let sessions: Vec<SessionId> = sessions.collect();
    if sessions.is_empty() {
        return Ok(HashSet::new());
    }
    read_sessions(&Statement::new(DELETED).uuids(sessions.into_iter()).query(client).await?)
}

/// Drops messages whose session or user was deleted, with a verdict, and returns the others.
pub(super) async fn drop_deleted<'r>(
    client: &Client,
    messages: Vec<PlacedMessage<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<PlacedMessage<'r>>, Error> {
    let session_of = |placed: &PlacedMessage<'_>| placed.stamped.message.session_id;
    let deleted = find_deleted(client, messages.iter().map(session_of)).await?;
    let (gone, left): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|placed| deleted.contains(&session_of(placed)));
    gone.iter().for_each(|placed| verdicts[placed.place] = Verdict::Dead(DeadReason::Deleted));
    user_marks::drop_refused(client, left, verdicts).await
}

/// Finds out why updates and ends matched no session: the session may have been deleted, or belong to
/// another user. All others belong to a session that does not exist yet.
pub(super) async fn refuse_updates_and_ends(
    client: &Client,
    rounds: &[Round<'_>],
    verdicts: &mut [Verdict],
) -> Result<(), Error> {
    let unknown = Verdict::Refused(NotDurable::UnknownSession);
    let records = rounds.iter().flat_map(Round::updates_and_ends);
    let records: Vec<_> = records.filter(|record| verdicts[record.place] == unknown).collect();
    if records.is_empty() {
        return Ok(());
    }
    let deleted = find_deleted(client, records.iter().map(|record| record.session_id)).await?;
    let owners = owners::find_owners(client, records.iter().map(|record| record.session_id)).await?;
    // If a record names an owner and its session does not exist, the start of the session was refused.
    let late = records.iter().map(|record| LateRecord {
        place: record.place,
        session_id: record.session_id,
        owner: record.owner.clone(),
        begun: None,
        accepted: record.seq,
    });
    let late = user_marks::find_refused(client, late).await?;
    for UpdateOrEnd { place, session_id, owner, .. } in records {
        if deleted.contains(&session_id) {
            verdicts[place] = Verdict::Refused(NotDurable::Deleted);
        } else if late.contains(&place) {
            verdicts[place] = Verdict::Dead(DeadReason::DeletedForUser);
        } else if owners.get(&session_id).is_some_and(|session| session.is_other(owner.as_ref())) {
            verdicts[place] = Verdict::Refused(NotDurable::OtherUser);
        }
    }
    Ok(())
}

fn read_sessions(rows: &[Row]) -> Result<HashSet<SessionId>, Error> {
    rows.iter().map(|row| read_id(row, 0)).collect()
}

/// Returns the number of messages deleted with each session. If the session was deleted for its age, also
/// their ids.
fn read_removed_messages(rows: &[Row]) -> Result<HashMap<SessionId, (u64, Vec<MessageId>)>, Error> {
    let removed = |row: &Row| {
        let count = row.try_get::<_, i64>(1)?.unsigned_abs();
        Ok((read_id(row, 0)?, (count, read_ids(row, 2)?)))
    };
    rows.iter().map(removed).collect()
}

fn delete_messages_again(again: &[(RecordRef, &SessionDelete, &RemovedRows)]) -> Statement<'static> {
    let all = || {
        again.iter().flat_map(|(record, delete, rows)| {
            rows.messages.iter().map(|id| (delete.session_id, *id, record.seq))
        })
    };
    let statement = Statement::new(DELETE_MESSAGES_AGAIN).uuids(all().map(|(session_id, ..)| session_id));
    let statement = statement.uuids(all().map(|(_, id, _)| id));
    statement.seqs(all().map(|(.., seq)| seq))
}

fn delete_sessions_again(again: &[(RecordRef, &SessionDelete, &RemovedRows)]) -> Statement<'static> {
    let all = || again.iter().filter(|(_, _, rows)| rows.session);
    let statement =
        Statement::new(DELETE_SESSIONS_AGAIN).uuids(all().map(|(_, delete, _)| delete.session_id));
    statement.seqs(all().map(|(record, ..)| record.seq))
}
