//! Marks of deleted users, and of sessions that a user deleted without owning them according to the
//! database. They refuse records that were accepted for these users and that other nodes deliver later.

use std::collections::HashSet;
use talktrack_core::ids::{MessageId, SessionId, UserId};

use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::record::{DeadReason, SessionStart, UserDelete, Verdict};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use crate::owners::{is_marked, is_owner};
use crate::plan::{PlacedMessage, RecordRef};
use crate::statement::{Statement, moment, read_id};

/// Writes the mark of a whole user, which has the nil UUID in place of a session. `least` limits the mark
/// to the present, so that a node whose clock is ahead marks nothing in the future; it ignores nulls.
const NOTE: &str = "
INSERT INTO public.conversation_user_deletions AS mark (user_id, session_id, deleted_at, user_external_id)
SELECT user_id, '00000000-0000-0000-0000-000000000000', least(deleted_at, now()), coalesce(user_text, '')
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[]) AS gone(user_id, deleted_at, user_text) ORDER BY user_id, user_text
ON CONFLICT (user_id, session_id, user_external_id) DO UPDATE SET deleted_at = greatest(mark.deleted_at, excluded.deleted_at)";

/// Limits the marks that a user can create by deleting sessions that do not exist: the newest 1,000 are
/// kept.
const BOUND: &str = "
DELETE FROM public.conversation_user_deletions mark USING (
  SELECT user_id, session_id, user_external_id,
    row_number() OVER (PARTITION BY user_id, user_external_id ORDER BY deleted_at DESC, session_id) AS place
  FROM public.conversation_user_deletions
  WHERE user_id = ANY($1::uuid[]) AND session_id <> '00000000-0000-0000-0000-000000000000') AS placed
WHERE placed.place > 1000 AND mark.user_id = placed.user_id AND mark.session_id = placed.session_id
  AND mark.user_external_id = placed.user_external_id";

/// If the session does not exist, its start time decides; `begun` is null if that is not known, and then
/// counts as long ago.
const REFUSED: &str = concat!(
    "
SELECT news.place FROM unnest($1::int4[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[])
  AS news(place, session_id, owner, begun, accepted, owner_text)
LEFT JOIN public.conversation_sessions session ON session.session_id = news.session_id
CROSS JOIN LATERAL (SELECT session.session_id IS NOT NULL AND ",
    is_owner!("news.owner", "news.owner_text"),
    ") AS judged(is_theirs)
CROSS JOIN LATERAL (SELECT CASE WHEN is_theirs THEN session.user_id ELSE news.owner END,
  CASE WHEN is_theirs THEN session.user_external_id ELSE news.owner_text END) AS whose(user_id, user_text)
WHERE EXISTS (SELECT FROM public.conversation_user_deletions gone WHERE ",
    is_marked!("whose.user_id", "whose.user_text"),
    "
  AND CASE gone.session_id WHEN '00000000-0000-0000-0000-000000000000'
    THEN session.session_id IS NULL AND news.begun IS NULL
      OR gone.deleted_at >= CASE WHEN session.session_id IS NULL THEN least(news.begun, news.accepted) ELSE news.accepted END
    WHEN news.session_id THEN news.owner IS NOT NULL END)"
);

/// A record that the database did not accept.
pub(super) struct LateRecord {
    pub(super) place: usize,
    pub(super) session_id: SessionId,
    pub(super) owner: Option<UserId>,
    /// The start of the session, if the record tells it.
    pub(super) begun: Option<Timestamp>,
    pub(super) accepted: Seq,
}

impl LateRecord {
    pub(super) fn from_start(record: RecordRef, start: &SessionStart) -> Self {
        let accepted = record.accepted(start.started_at);
        let place = record.place;
        let session_id = start.session_id;
        let owner = Some(start.user_id.clone());
        Self { place, session_id, owner, begun: Some(accepted), accepted: record.seq }
    }

    fn from_message(placed: &PlacedMessage<'_>) -> Self {
        let stamped = placed.stamped;
        Self {
            place: placed.place,
            session_id: stamped.message.session_id,
            owner: stamped.owner.clone(),
            begun: stamped.session_started_at,
            accepted: placed.seq,
        }
    }
}

/// Marks users as deleted, each at the time when the deletion was accepted.
pub(super) fn mark_users(users: &[(RecordRef, &UserDelete)]) -> Statement<'static> {
    let moments = users.iter().map(|(record, _)| record.seq.accepted_at().map(moment));
    let statement = Statement::new(NOTE).uuids(users.iter().map(|(_, delete)| delete.user_id.as_uuid()));
    let statement = statement.with(moments.collect::<Vec<_>>(), Type::TIMESTAMPTZ_ARRAY);
    statement.user_texts(users.iter().map(|(_, delete)| Some(&delete.user_id)))
}

/// Limits the number of marks of these users.
pub(super) fn limit_marks<'u>(users: impl Iterator<Item = &'u UserId>) -> Statement<'static> {
    Statement::new(BOUND).uuids(users.map(UserId::as_uuid))
}

/// Returns the places of those of these records that a mark refuses.
pub(super) async fn find_refused(
    client: &Client,
    records: impl Iterator<Item = LateRecord>,
) -> Result<HashSet<usize>, Error> {
    let records: Vec<LateRecord> = records.collect();
    if records.is_empty() {
        return Ok(HashSet::new());
    }
    let places = records.iter().map(|late| i32::try_from(late.place).unwrap_or(i32::MAX));
    let accepted = records.iter().map(|late| late.accepted.accepted_at().map(moment));
    let statement = Statement::new(REFUSED)
        .with(places.collect::<Vec<_>>(), Type::INT4_ARRAY)
        .uuids(records.iter().map(|late| late.session_id))
        .uuids_or_null(records.iter().map(|late| late.owner.as_ref().map(UserId::as_uuid)))
        .with(records.iter().map(|late| late.begun.map(moment)).collect::<Vec<_>>(), Type::TIMESTAMPTZ_ARRAY)
        .with(accepted.collect::<Vec<_>>(), Type::TIMESTAMPTZ_ARRAY)
        .user_texts(records.iter().map(|late| late.owner.as_ref()));
    let rows = statement.query(client).await?;
    rows.iter().map(|row| Ok(usize::try_from(row.try_get::<_, i32>(0)?).unwrap_or(usize::MAX))).collect()
}

/// Tombstones of messages that were deleted recently.
pub(super) const DELETED_MESSAGES: &str = "
SELECT session_id, message_id FROM public.conversation_message_deletions
WHERE session_id = ANY($1::uuid[]) AND deleted_at > now() - $2::float8 * interval '1 second'";

const TOMBSTONES: &str = "
SELECT message_id FROM public.conversation_message_deletions gone
JOIN unnest($1::uuid[], $2::uuid[]) AS news(session_id, message_id) USING (session_id, message_id)";

/// Drops messages that were deleted one by one, with a verdict, and returns the others.
pub(super) async fn drop_deleted_messages<'r>(
    client: &Client,
    messages: Vec<PlacedMessage<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<PlacedMessage<'r>>, Error> {
    if messages.is_empty() {
        return Ok(messages);
    }
    let all = || messages.iter().map(|placed| placed.stamped);
    let statement = Statement::new(TOMBSTONES).uuids(all().map(|stamped| stamped.message.session_id));
    let rows = statement.uuids(all().map(|stamped| stamped.id)).query(client).await?;
    let deleted = rows.iter().map(|row| read_id(row, 0)).collect::<Result<HashSet<MessageId>, Error>>()?;
    let (gone, left): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|placed| deleted.contains(&placed.stamped.id));
    gone.iter().for_each(|placed| verdicts[placed.place] = Verdict::Dead(DeadReason::DeletedMessage));
    Ok(left)
}

/// Drops messages that a mark refuses, with a verdict, and returns the others.
pub(super) async fn drop_refused<'r>(
    client: &Client,
    messages: Vec<PlacedMessage<'r>>,
    verdicts: &mut [Verdict],
) -> Result<Vec<PlacedMessage<'r>>, Error> {
    let refused = find_refused(client, messages.iter().map(LateRecord::from_message)).await?;
    refused.iter().for_each(|place| verdicts[*place] = Verdict::Dead(DeadReason::DeletedForUser));
    Ok(messages.into_iter().filter(|placed| !refused.contains(&placed.place)).collect())
}
