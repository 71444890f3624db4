//! Writes the rows of sessions: starts, reopens, updates and ends. Each statement handles all sessions of a
//! batch.

use talktrack_core::clock::{Seq, Timestamp};
use talktrack_core::dimensions::Dimensions;
use talktrack_core::ids::{SessionId, UserId};
use talktrack_core::json::JsonObject;
use talktrack_core::record::{Attempt, SessionEnd, SessionStart};
use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::closed_messages::{close_messages, closed_count, closed_extra};
use crate::merged_session::{
    base, dimensions, dimensions_of, fits, merged, merged_dimension, merged_dimensions, removed, rule,
};
use crate::moved_start::{moved_start, noted_start};
use crate::owners::{is_marked, is_owner};
use crate::plan::{HeartbeatClaim, MergedUpdates, RecordRef};
use crate::statement::{Statement, moment};

/// Starts sessions. A new session begins, unless it or its user was deleted. An existing one continues, and
/// loses its end if the start reopens it and is not late. A replayed start does not set `last_node`, so that earlier
/// records of the session still apply. The same holds for a start whose metadata are too long: everything
/// except the metadata is applied. Returns the sessions that belong to this user, each with whether the
/// metadata fit. Writes in the order of the ids: nodes that write the same rows in different orders could
/// deadlock.
const START: &str = concat!(
    "
WITH begun AS (
INSERT INTO public.conversation_sessions AS session
  (id, session_id, user_id, started_at, created_at, last_event_at, external_id, user_external_id, metadata, last_node, last_seq, extra, ",
    dimensions!(),
    ")
SELECT id, session_id, user_id, started_at, created_at, least(started_at, created_at), external_id, user_external_id, metadata::jsonb,
  CASE WHEN attempt <> 'replay' THEN $8::uuid END, CASE WHEN attempt <> 'replay' THEN seq END,
  CASE WHEN session_id <> ALL($13::uuid[]) THEN jsonb_build_object('talktrack', jsonb_build_object('start', 'accepted')) END, ",
    dimensions_of!("dimensions"),
    "
FROM (SELECT *, sent::jsonb AS dimensions FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[], $9::int8[], $10::text[], $14::text[], $15::text[])
  AS t(id, session_id, user_id, started_at, created_at, external_id, metadata, seq, attempt, sent, user_external_id)) AS t
WHERE NOT EXISTS (SELECT FROM public.conversation_deletions gone WHERE gone.session_id = t.session_id)
  AND NOT EXISTS (SELECT FROM public.conversation_user_deletions gone WHERE ",
    is_marked!("t.user_id", "t.user_external_id"),
    "
    AND CASE gone.session_id WHEN '00000000-0000-0000-0000-000000000000' THEN gone.deleted_at >= t.created_at
      WHEN t.session_id THEN true END)
ORDER BY session_id
ON CONFLICT (session_id) DO UPDATE
SET (status, ended_at, duration_seconds, end_reason, end_inferred, last_event_at, external_id, metadata, last_node, last_seq,
  ",
    dimensions!(),
    ") = (
  SELECT CASE WHEN opens THEN 'active' ELSE session.status END, CASE WHEN NOT opens THEN session.ended_at END,
    CASE WHEN NOT opens THEN session.duration_seconds END, CASE WHEN NOT opens THEN session.end_reason END,
    session.end_inferred AND NOT opens,
    greatest(session.last_event_at, CASE WHEN excluded.session_id <> ALL($12::uuid[]) THEN excluded.last_event_at END),
    coalesce(session.external_id, excluded.external_id),
    CASE WHEN fits AND rule <> 'ignore' THEN merged ELSE session.metadata END,
    CASE WHEN applies THEN excluded.last_node ELSE session.last_node END,
    CASE WHEN applies THEN excluded.last_seq ELSE session.last_seq END, ",
    merged_dimensions!("excluded"),
    "
  FROM (SELECT CASE WHEN excluded.last_node IS NULL THEN 'fill'
      WHEN session.last_node = excluded.last_node THEN CASE WHEN session.last_seq >= excluded.last_seq
          THEN CASE WHEN excluded.session_id = ANY($11::uuid[]) THEN 'ignore' ELSE 'fill' END
        WHEN excluded.session_id = ANY($12::uuid[]) THEN 'fill' ELSE 'apply' END
      WHEN excluded.session_id = ANY($12::uuid[]) THEN 'fill'
      WHEN excluded.session_id = ANY($11::uuid[]) THEN 'fill' ELSE 'in time' END) AS judged(rule),
    LATERAL (SELECT ",
    merged!("excluded"),
    ") AS added(merged), LATERAL (SELECT ",
    fits!(),
    ") AS measured(fits),
    LATERAL (SELECT fits AND rule IN ('apply', 'in time'),
      rule = 'apply' OR rule = 'in time' AND coalesce(excluded.created_at >= session.ended_at, true)) AS decided(applies, opens))
WHERE ",
    is_owner!("excluded.user_id", "excluded.user_external_id"),
    "
RETURNING session.session_id, session.user_id, session.user_external_id, session.extra, session.metadata, session.last_node, session.last_seq, xmax = 0 AS is_new
)
SELECT session.session_id, is_new,
  -- As for an update: metadata that are too long still were not applied.
  (SELECT ",
    fits!(),
    " FROM (SELECT ",
    rule!(),
    ") AS judged(rule), LATERAL (SELECT ",
    merged!("news"),
    ") AS added(merged)),
  -- As for messages: fails if a trigger changed whose a session is, or which.
  (SELECT ('talktrack: a trigger changed ' || count(*))::int FROM begun AS session WHERE NOT EXISTS (
    SELECT FROM unnest($2::uuid[], $3::uuid[], $15::text[]) AS sent(session_id, user_id, user_external_id)
    WHERE sent.session_id = session.session_id AND ",
    is_owner!("sent.user_id", "sent.user_external_id"),
    ") HAVING count(*) > 0)
FROM begun AS session LEFT JOIN (SELECT session_id, metadata::jsonb, seq, attempt, $8::uuid AS node
  FROM unnest($2::uuid[], $7::text[], $9::int8[], $10::text[]) AS t(session_id, metadata, seq, attempt)) AS news
  ON news.session_id = session.session_id"
);

/// Writes the row of a running session again after it was removed. Another node may write it at the same
/// moment, so a conflict on any key is ignored.
const RESTORE: &str = concat!(
    "
INSERT INTO public.conversation_sessions (id, session_id, user_id, started_at, last_event_at, user_external_id)
SELECT $1::uuid, $2::uuid, $3::uuid, $4::timestamptz, $4::timestamptz, $6::text
WHERE NOT EXISTS (SELECT FROM public.conversation_deletions gone WHERE gone.session_id = $2::uuid)
  AND NOT EXISTS (SELECT FROM public.conversation_user_deletions gone WHERE ",
    is_marked!("$3::uuid", "$6::text"),
    "
    AND (gone.session_id = $2::uuid OR gone.session_id = '00000000-0000-0000-0000-000000000000'
      AND gone.deleted_at >= least($4::timestamptz, $5::timestamptz)))
ON CONFLICT DO NOTHING"
);

const UPDATE: &str = concat!(
    "
UPDATE public.conversation_sessions session SET (metadata, last_node, last_seq, ",
    dimensions!(),
    ") = (
  SELECT CASE WHEN fits AND rule <> 'ignore' THEN merged ELSE session.metadata END,
    CASE WHEN applies THEN news.node ELSE session.last_node END, CASE WHEN applies THEN news.seq ELSE session.last_seq END, ",
    merged_dimensions!("news"),
    "
  FROM (SELECT ",
    rule!(),
    ") AS judged(rule), LATERAL (SELECT ",
    merged!("news"),
    ") AS added(merged), LATERAL (SELECT ",
    fits!(),
    ") AS measured(fits), LATERAL (SELECT fits AND rule IN ('apply', 'in time')) AS decided(applies))
FROM (SELECT session_id, metadata, owner, seq, attempt, $6::uuid AS node, owner_text, ",
    dimensions_of!("dimensions"),
    "
      FROM (SELECT session_id, metadata::jsonb, owner, seq, attempt, owner_text, dimensions::jsonb
        FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::int8[], $5::text[], $7::text[], $8::text[])
          AS t(session_id, metadata, owner, seq, attempt, dimensions, owner_text)) AS sent)
  AS news(session_id, metadata, owner, seq, attempt, node, owner_text, ",
    dimensions!(),
    ")
WHERE session.session_id = news.session_id AND ",
    is_owner!("news.owner", "news.owner_text"),
    "
  AND NOT EXISTS (SELECT FROM public.conversation_user_deletions gone WHERE ",
    is_marked!("session.user_id", "session.user_external_id"),
    "
    AND gone.session_id = '00000000-0000-0000-0000-000000000000'
    AND gone.deleted_at >= timestamptz 'epoch' + news.seq * interval '1 microsecond')
-- What was applied is merged once more here, which changes nothing: what is too long still was not applied.
RETURNING session.session_id, (SELECT ",
    fits!(),
    " FROM (SELECT ",
    rule!(),
    ") AS judged(rule), LATERAL (SELECT ",
    merged!("news"),
    ") AS added(merged))"
);

const ALIVE: &str = concat!(
    "
UPDATE public.conversation_sessions session SET last_event_at = greatest(session.last_event_at, news.at)
FROM unnest($1::uuid[], $2::timestamptz[], $3::uuid[], $4::text[]) AS news(session_id, at, owner, owner_text)
WHERE session.session_id = news.session_id AND ",
    is_owner!("news.owner", "news.owner_text")
);

/// Ends sessions, decided as in [`Ending::decide`](talktrack_core::store::conflict::Ending::decide). An existing end
/// is kept, unless it was inferred and this one was sent by a client. An inferred end does not close a
/// session that another node has continued. A duration needs finite times; other programs can write infinite
/// ones. Returns every session that exists, with its resulting figures and whether it continues.
const END: &str = concat!(
    "
WITH news AS (
  SELECT *, $10::uuid AS node FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::uuid[],
    $7::int8[], $8::timestamptz[], $9::text[], $11::bool[], $12::text[])
  AS t(session_id, status, reason, ended_at, seen_until, owner, seq, accepted, attempt, inferred, owner_text)
), ended AS (
  UPDATE public.conversation_sessions session
  SET (status, end_reason, end_inferred, ended_at, duration_seconds, last_node, last_seq, started_at, message_count, extra) = (
    SELECT news.status, news.reason, news.inferred, at,
      CASE WHEN isfinite(at) AND isfinite(session.started_at)
        THEN extract(epoch FROM greatest(at, coalesce(start, session.started_at)) - coalesce(start, session.started_at)) END,
      CASE WHEN applies THEN news.node ELSE session.last_node END, CASE WHEN applies THEN news.seq ELSE session.last_seq END,
      coalesce(start, session.started_at), ",
    closed_count!(),
    ", ",
    noted_start!(),
    "
    -- The true end of an abandoned session is unknown; its last event is used.
    FROM (SELECT CASE news.status WHEN 'abandoned' THEN coalesce(session.last_event_at, session.started_at) ELSE news.ended_at END,
      ",
    rule!(),
    " IN ('apply', 'in time')) AS decided(at, applies),
      LATERAL (SELECT CASE WHEN news.status <> 'abandoned' THEN ",
    moved_start!("news.ended_at"),
    " END) AS begun(start))
  FROM news
  WHERE session.session_id = news.session_id AND ",
    is_owner!("news.owner", "news.owner_text"),
    "
    AND (session.ended_at IS NULL OR (session.end_inferred OR session.status = 'abandoned') AND NOT news.inferred)
    AND coalesce(session.last_event_at <= news.seen_until, true)
    AND CASE ",
    rule!(),
    " WHEN 'apply' THEN true WHEN 'ignore' THEN false
      WHEN 'fill' THEN coalesce(session.last_event_at <= least(news.accepted, news.ended_at), true)
      ELSE coalesce(session.last_event_at <= news.accepted, true) END
  RETURNING session.session_id, session.duration_seconds, session.message_count
), closed AS (",
    close_messages!("ended"),
    ")
SELECT news.session_id, coalesce(ended.duration_seconds, session.duration_seconds, 0)::float8 AS duration_seconds,
  coalesce(ended.message_count, session.message_count, 0), ended.session_id IS NULL AND session.ended_at IS NULL AS goes_on,
  ARRAY(SELECT id FROM closed WHERE closed.session_id = news.session_id)
FROM news JOIN public.conversation_sessions session
  ON session.session_id = news.session_id AND ",
    is_owner!("news.owner", "news.owner_text"),
    "
LEFT JOIN ended ON ended.session_id = news.session_id"
);

/// Sessions with an inferred end. Their rows stay locked until the transaction ends, so that the answer
/// stays true during it.
const INFERRED_ENDS: &str = "
SELECT session_id, user_id, started_at, ended_at, user_external_id FROM public.conversation_sessions
WHERE session_id = ANY($1::uuid[]) AND end_inferred AND user_id IS NOT NULL
  AND ended_at BETWEEN '0001-01-01' AND '9999-12-31' AND started_at BETWEEN '0001-01-01' AND '9999-12-31' ORDER BY session_id FOR UPDATE";

/// Ends up to 1,000 idle sessions. Skips rows that another node has locked.
const ABANDON: &str = concat!("
WITH silent AS (
  SELECT session_id FROM public.conversation_sessions
  WHERE status = 'active' AND last_event_at < $1::timestamptz AND isfinite(last_event_at) LIMIT 1000 FOR UPDATE SKIP LOCKED
)
, abandoned AS (
UPDATE public.conversation_sessions session
SET status = 'abandoned', end_reason = 'idle_timeout', end_inferred = true, ended_at = session.last_event_at,
    message_count = ", closed_count!(), ",
    duration_seconds = CASE WHEN isfinite(session.started_at)
      THEN extract(epoch FROM greatest(session.last_event_at, session.started_at) - session.started_at) END
FROM silent WHERE session.session_id = silent.session_id
RETURNING session.session_id
), closed AS (", close_messages!("abandoned"), ")
SELECT session_id FROM abandoned");

pub(super) fn start_sessions<'a>(node: Uuid, starts: &[(RecordRef, &'a SessionStart)]) -> Statement<'a> {
    let all = || starts.iter().map(|(_, start)| *start);
    let retried = starts.iter().filter(|(record, _)| record.attempt == Attempt::Retry);
    let repeated = all().filter(|start| !start.reopens);
    let attempt = |(record, start): &(RecordRef, &SessionStart)| match record.attempt {
        Attempt::First if !start.reopens => "repeat",
        attempt => attempt.as_str(),
    };
    Statement::new(START)
        .uuids(all().map(|start| row_id(start.session_id)))
        .uuids(all().map(|start| start.session_id))
        .uuids(all().map(|start| start.user_id.as_uuid()))
        .moments(all().map(|start| start.started_at))
        .moments(starts.iter().map(|(record, start)| record.accepted(start.started_at)))
        .texts_or_null(all().map(|start| start.external_id.as_deref()))
        .texts(all().map(|start| start.metadata.as_ref().map_or("{}", JsonObject::as_str)))
        .uuid(node)
        .seqs(starts.iter().map(|(record, _)| record.seq))
        .texts(starts.iter().map(attempt))
        .uuids(retried.map(|(_, start)| start.session_id))
        .uuids(repeated.map(|start| start.session_id))
        .uuids(all().filter(|start| start.has_given_start).map(|start| start.session_id))
        .with(all().map(|start| to_json(&start.dimensions)).collect::<Vec<_>>(), Type::TEXT_ARRAY)
        .user_texts(all().map(|start| Some(&start.user_id)))
}

/// Restores the session of a record that was accepted at `accepted`. Writes nothing if the session or its
/// user was deleted.
pub(super) fn restore_session(
    session_id: SessionId,
    user_id: &UserId,
    started_at: Timestamp,
    accepted: Seq,
) -> Statement<'static> {
    Statement::new(RESTORE)
        .uuid(row_id(session_id))
        .uuid(session_id)
        .uuid(user_id.as_uuid())
        .with(moment(started_at), Type::TIMESTAMPTZ)
        .with(accepted.accepted_at().map(moment), Type::TIMESTAMPTZ)
        .user_text(Some(user_id))
}

pub(super) fn update_sessions<'a>(
    node: Uuid,
    updates: &(impl Iterator<Item = (SessionId, &'a MergedUpdates)> + Clone),
) -> Statement<'a> {
    let all = || updates.clone().map(|(_, merged)| merged);
    Statement::new(UPDATE)
        .uuids(updates.clone().map(|(session_id, _)| session_id))
        .texts(all().map(|merged| merged.metadata.as_str()))
        .uuids_or_null(all().map(|merged| merged.owner.as_ref().map(UserId::as_uuid)))
        .seqs(all().map(|merged| merged.last_seq))
        .texts(all().map(|merged| merged.attempt.as_str()))
        .uuid(node)
        .with(all().map(|merged| to_json(&merged.dimensions)).collect::<Vec<_>>(), Type::TEXT_ARRAY)
        .user_texts(all().map(|merged| merged.owner.as_ref()))
}

/// Writes signs of life. Each belongs to a claim: a session, and the user for whom it was started if the
/// record names one.
pub(super) fn record_heartbeats<'a>(
    signs: impl Iterator<Item = (&'a HeartbeatClaim, Timestamp)> + Clone,
) -> Statement<'static> {
    Statement::new(ALIVE)
        .uuids(signs.clone().map(|((session_id, _), _)| *session_id))
        .moments(signs.clone().map(|(_, at)| at))
        .uuids_or_null(signs.clone().map(|((_, owner), _)| owner.as_ref().map(UserId::as_uuid)))
        .user_texts(signs.map(|((_, owner), _)| owner.as_ref()))
}

pub(super) fn end_sessions<'a>(node: Uuid, ends: &[(RecordRef, &'a SessionEnd)]) -> Statement<'a> {
    let all = || ends.iter().map(|(_, end)| *end);
    let record = || ends.iter().map(|(record, _)| *record);
    Statement::new(END)
        .uuids(all().map(|end| end.session_id))
        .texts(all().map(|end| end.status.as_str()))
        .texts(all().map(|end| end.reason.as_str()))
        .moments(all().map(|end| end.ended_at))
        .with(all().map(|end| end.seen_until.map(moment)).collect::<Vec<_>>(), Type::TIMESTAMPTZ_ARRAY)
        .uuids_or_null(all().map(|end| end.owner.as_ref().map(UserId::as_uuid)))
        .seqs(record().map(|record| record.seq))
        .moments(ends.iter().map(|(record, end)| record.accepted(end.ended_at)))
        .texts(record().map(|record| record.attempt.as_str()))
        .uuid(node)
        .with(all().map(SessionEnd::is_inferred).collect::<Vec<_>>(), Type::BOOL_ARRAY)
        .user_texts(all().map(|end| end.owner.as_ref()))
}

/// Selects those of these sessions that have an inferred end.
pub(super) fn lock_inferred_ends(sessions: impl Iterator<Item = SessionId>) -> Statement<'static> {
    Statement::new(INFERRED_ENDS).uuids(sessions)
}

pub(super) fn abandon_inactive(since: Timestamp) -> Statement<'static> {
    Statement::new(ABANDON).with(moment(since), Type::TIMESTAMPTZ)
}

/// The dimensions as a JSON object of those that are known.
fn to_json(dimensions: &Dimensions) -> String {
    serde_json::to_string(dimensions).unwrap_or_else(|_| "{}".to_owned())
}

/// The primary key of a session's row, the same in every store.
fn row_id(session_id: SessionId) -> Uuid {
    Uuid::new_v5(&session_id.as_uuid(), b"row")
}
