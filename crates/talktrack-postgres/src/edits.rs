//! Removes and replaces messages of a session. Each removed message leaves a tombstone.
//!
//! An edit locks the row of its session first. Edits of one session then run one after the other, and each sees what the
//! one before it left: of several that remove the last messages, no two remove the same.

use talktrack_core::clock::Seq;
use talktrack_core::error::{NotDurable, ReadError};
use talktrack_core::ids::{MessageId, UserId};
use talktrack_core::record::{Attempt, Edit, EditedRows, MessagesEdit, StampedMessage, Verdict};
use talktrack_core::store::{EditedMessages, MessageRow, plan_replacement};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error, Row};

use crate::deletions::QUIET;
use crate::deliveries::DeliveryLane;
use crate::duplicate_ids::read_stored;
use crate::failure::Failure;
use crate::owners::{self, is_owner};
use crate::plan::{PlacedMessage, RecordRef};
use crate::queries::message_columns;
use crate::rows;
use crate::statement::{Statement, read_id};
use crate::{messages, transaction};

const LOCK_SESSION: &str = "SELECT session_id, user_id, user_external_id, extra->'talktrack'->>'claimed_from' \
     FROM public.conversation_sessions WHERE session_id = $1::uuid FOR UPDATE";

/// True for a message that the edit may remove. `$2` and `$6` are the owner that the session must have, `$3` selects messages that a
/// user wrote with a token, and `$4`, if set, spares what was written later than the edit.
macro_rules! is_removable {
    () => {
        concat!(
            "message.session_id = $1::uuid AND EXISTS (SELECT FROM public.conversation_sessions session \
           WHERE session.session_id = $1 AND ",
            is_owner!("$2::uuid", "$6::text"),
            ") \
         AND (NOT $3::bool OR message.extra->'talktrack'->>'by' = 'user') \
         AND ($4::int8 IS NULL OR coalesce(message.seq <= $4, true))"
        )
    };
}

/// Removes the chosen messages, leaves tombstones for them and for those of `$5` that do not exist, and counts.
macro_rules! remove {
    ($chosen:expr, $columns:expr) => {
        concat!(
            "WITH chosen AS (SELECT message.id FROM public.conversation_messages message WHERE ",
            is_removable!(),
            $chosen,
            "), removed AS (DELETE FROM public.conversation_messages message USING chosen \
               WHERE message.id = chosen.id AND message.session_id = $1 RETURNING message.*), \
             noted AS (INSERT INTO public.conversation_message_deletions (session_id, message_id) \
               SELECT $1, id FROM removed UNION SELECT $1, named.id FROM unnest($5::uuid[]) AS named(id) \
               WHERE EXISTS (SELECT FROM public.conversation_sessions session WHERE session.session_id = $1 \
                   AND ",
            is_owner!("$2::uuid", "$6::text"),
            ") \
                 AND NOT EXISTS (SELECT FROM public.conversation_messages message WHERE message.id = named.id AND message.session_id = $1) \
               ORDER BY 2 ON CONFLICT (session_id, message_id) DO NOTHING), \
             counted AS (UPDATE public.conversation_sessions session \
               SET message_count = greatest(session.message_count - gone.messages, 0) \
               FROM (SELECT count(*) FILTER (WHERE status = 'final') AS messages FROM removed) gone WHERE session.session_id = $1 AND gone.messages > 0) \
             SELECT ",
            $columns,
            " FROM removed AS weighed ORDER BY created_at, coalesce(seq, 0), id"
        )
    };
}

const REMOVE_NAMED: &str = remove!(" AND message.id = ANY($5::uuid[])", "id");
const REMOVE_ALL: &str = remove!("", "id");
/// Also returns the removed rows, with the columns of a page of messages.
const REMOVE_LAST: &str = remove!(
    " ORDER BY message.created_at DESC, coalesce(message.seq, 0) DESC, message.id DESC LIMIT $7::int8",
    message_columns!(read)
);
/// Removes all messages but those of `$7`.
const REMOVE_OTHERS: &str = remove!(" AND message.id <> ALL($7::uuid[])", message_columns!(read));

const DROP_TOMBSTONES: &str = "DELETE FROM public.conversation_message_deletions \
     WHERE session_id = $1::uuid AND message_id = ANY($2::uuid[])";

const MOVE: &str = "UPDATE public.conversation_messages message SET created_at = placed.created_at \
     FROM unnest($1::uuid[], $2::timestamptz[]) AS placed(id, created_at) \
     WHERE message.id = placed.id AND message.created_at <> placed.created_at";

/// Removes messages from the search index.
const FORGET: &str = "DELETE FROM public.conversation_search WHERE message_id = ANY($1::uuid[]) \
     AND NOT EXISTS (SELECT FROM public.conversation_messages message WHERE message.id = message_id)";

/// Applies an edit that a lane delivers, in one transaction.
pub(super) async fn write_edit(
    client: &Client,
    lane: &DeliveryLane<'_>,
    (record, edit): (RecordRef, &MessagesEdit),
    verdicts: &mut [Verdict],
) -> Result<(), Failure> {
    // A repeated delivery must not remove what was written after the first one.
    let until = (record.attempt != Attempt::First).then_some(record.seq);
    verdicts[record.place] = match apply_edit(client, lane, edit, until, record.seq).await? {
        Ok(applied) => {
            let counts = applied.messages.counts();
            Verdict::Edited(EditedRows { removed: applied.removed, ..counts })
        }
        // There is nothing to remove, and no session that the tombstones could belong to.
        Err(NotDurable::UnknownSession) => Verdict::Edited(EditedRows::default()),
        Err(why) => Verdict::Refused(why),
    };
    Ok(())
}

/// Applies an edit in one transaction. `until`, if set, spares messages that were accepted later. `accepted` is the `seq`
/// of new messages.
pub(super) async fn apply_edit(
    client: &Client,
    lane: &DeliveryLane<'_>,
    edit: &MessagesEdit,
    until: Option<Seq>,
    accepted: Seq,
) -> Result<Result<AppliedEdit, NotDurable>, Failure> {
    let applied = match &edit.edit {
        Edit::Delete(ids) => remove(client, lane, edit, until, Chosen::Named(ids)).await?,
        Edit::Clear { waited } => remove(client, lane, edit, until, Chosen::All(waited)).await?,
        Edit::Pop(count) => remove(client, lane, edit, until, Chosen::Last(*count)).await?,
        Edit::Replace(news) => {
            let work = async |client: &Client| replace(client, edit, news, accepted).await;
            transaction::run_steps(client, lane, work).await?
        }
    };
    if let Ok(AppliedEdit { removed, .. }) = &applied {
        // A broken search index must not prevent an edit. The indexer's next scan removes the remaining entries.
        let _ = Statement::new(FORGET).uuids(removed.iter().copied()).query(client).await;
    }
    Ok(applied)
}

/// What an edit did.
#[derive(Default)]
pub(super) struct AppliedEdit {
    /// The ids of the removed messages.
    removed: Vec<MessageId>,
    /// The rows that the edit removed from the end or replaced, and those that it wrote. Other edits return no rows: there
    /// may be very many.
    pub(super) messages: EditedMessages,
}

impl AppliedEdit {
    fn with_rows(messages: EditedMessages) -> Self {
        Self { removed: messages.removed.iter().map(|row| row.id).collect(), messages }
    }
}

/// The messages that an edit removes.
enum Chosen<'e> {
    Named(&'e [MessageId]),
    /// All of the session. These ids leave tombstones even if the database does not have them.
    All(&'e [MessageId]),
    Last(usize),
}

/// Removes messages.
async fn remove(
    client: &Client,
    lane: &DeliveryLane<'_>,
    edit: &MessagesEdit,
    until: Option<Seq>,
    chosen: Chosen<'_>,
) -> Result<Result<AppliedEdit, NotDurable>, Failure> {
    let about = |sql, ids: &[MessageId]| about_edit(sql, edit, until, ids);
    let statement = match chosen {
        Chosen::Named(ids) => about(REMOVE_NAMED, ids),
        Chosen::All(waited) => about(REMOVE_ALL, waited),
        Chosen::Last(count) => {
            about(REMOVE_LAST, &[]).with(i64::try_from(count).unwrap_or(i64::MAX), Type::INT8)
        }
    };
    let statements = [
        Some(Statement::new(QUIET)),
        Some(Statement::new(LOCK_SESSION).uuid(edit.session_id)),
        Some(statement),
        (!edit.written.is_empty()).then(|| drop_tombstones(edit, edit.written.iter().copied())),
    ];
    let [_, locked, removed, _] = transaction::write(client, lane, &statements).await?;
    if let Err(why) = check_owner(&locked, edit.owner.as_ref())? {
        return Ok(Err(why));
    }
    Ok(Ok(match chosen {
        Chosen::Last(_) => {
            let removed = read_rows(&removed).map_err(|error| Failure::unreadable(&error))?;
            AppliedEdit::with_rows(EditedMessages { removed, ..EditedMessages::default() })
        }
        Chosen::Named(_) | Chosen::All(_) => {
            let removed = removed.iter().map(|row| read_id(row, 0)).collect::<Result<_, Error>>()?;
            AppliedEdit { removed, ..AppliedEdit::default() }
        }
    }))
}

/// Replaces all messages of the session by these. Runs within a transaction.
async fn replace(
    client: &Client,
    edit: &MessagesEdit,
    news: &[StampedMessage],
    accepted: Seq,
) -> Result<Result<AppliedEdit, NotDurable>, Failure> {
    let session_id = edit.session_id;
    let ids = || news.iter().map(|stamped| stamped.id);
    Statement::new(QUIET).query(client).await?;
    let locked = Statement::new(LOCK_SESSION).uuid(session_id).query(client).await?;
    if let Err(why) = check_owner(&locked, edit.owner.as_ref())? {
        return Ok(Err(why));
    }
    let stored = read_stored(client, ids().collect()).await?;
    let planned = match plan_replacement(news, &stored) {
        Ok(planned) => planned,
        Err(why) => return Ok(Err(why)),
    };
    let others = about_edit(REMOVE_OTHERS, edit, None, &[]).uuids(ids());
    let removed = read_rows(&others.query(client).await?).map_err(|error| Failure::unreadable(&error))?;
    drop_tombstones(edit, ids()).query(client).await?;
    let placed = place_messages(&planned, accepted);
    let (old, new): (Vec<_>, Vec<_>) =
        placed.into_iter().partition(|placed| stored.contains_key(&placed.stamped.id));
    if !new.is_empty() {
        // Null if all were inserted.
        let inserted = messages::insert_messages(&new).query(client).await?;
        let inserted: Option<Vec<uuid::Uuid>> = inserted.first().map_or(Ok(None), |row| row.try_get(0))?;
        if inserted.is_some() {
            // Another transaction has written one of the ids since, perhaps into another session.
            return Ok(Err(NotDurable::IdConflict));
        }
    }
    if !old.is_empty() {
        messages::revise_messages(&old).query(client).await?;
        let moved = Statement::new(MOVE).uuids(old.iter().map(|placed| placed.stamped.id));
        moved.moments(old.iter().map(|placed| placed.stamped.created_at)).query(client).await?;
    }
    let mut written = read_stored(client, ids().collect()).await?;
    let written: Vec<MessageRow> = planned.iter().filter_map(|stamped| written.remove(&stamped.id)).collect();
    if written.len() < planned.len() {
        return Err(Failure::systemic(
            "a trigger or a policy of row-level security keeps messages away".to_owned(),
        ));
    }
    let inserted = new.len() as u64;
    Ok(Ok(AppliedEdit::with_rows(EditedMessages { removed, written, inserted })))
}

/// Gives the messages places in the order of acceptance. New messages that were said at the same time keep their order.
fn place_messages(planned: &[StampedMessage], accepted: Seq) -> Vec<PlacedMessage<'_>> {
    let first = accepted.get().saturating_sub(i64::try_from(planned.len()).unwrap_or(i64::MAX));
    let place = |(place, (stamped, number))| {
        let seq = Seq::new(first.saturating_add(number));
        PlacedMessage { place, seq, stamped, attempt: Attempt::Retry }
    };
    planned.iter().zip(1_i64..).enumerate().map(place).collect()
}

fn read_rows(found: &[Row]) -> Result<Vec<MessageRow>, ReadError> {
    found.iter().map(rows::message_row).collect()
}

/// Builds a statement that removes messages. `named` are ids that leave tombstones in any case.
fn about_edit(
    sql: &'static str,
    edit: &MessagesEdit,
    until: Option<Seq>,
    named: &[MessageId],
) -> Statement<'static> {
    Statement::new(sql)
        .uuid(edit.session_id)
        .uuid_or_null(edit.owner.as_ref().map(UserId::as_uuid))
        .with(edit.by_user, Type::BOOL)
        .with(until.map(Seq::get), Type::INT8)
        .uuids(named.iter().copied())
        .user_text(edit.owner.as_ref())
}

fn drop_tombstones(edit: &MessagesEdit, ids: impl Iterator<Item = MessageId>) -> Statement<'static> {
    Statement::new(DROP_TOMBSTONES).uuid(edit.session_id).uuids(ids)
}

/// Checks the locked row of the session. Without an owner, an edit applies to the session of any user.
fn check_owner(locked: &[Row], owner: Option<&UserId>) -> Result<Result<(), NotDurable>, Error> {
    let Some(found) = owners::read_owners(locked)?.into_values().next() else {
        return Ok(Err(NotDurable::UnknownSession));
    };
    let is_theirs = !found.is_other(owner);
    Ok(if is_theirs { Ok(()) } else { Err(NotDurable::OtherUser) })
}
