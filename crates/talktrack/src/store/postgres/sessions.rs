//! The rows of sessions: opened, reopened, described, closed. Each statement serves all sessions of a batch.

use tokio_postgres::types::Type;
use uuid::Uuid;

use crate::clock::{Seq, Timestamp};
use crate::json::JsonObject;
use crate::record::{SessionEnd, SessionStart};
use crate::store::postgres::plan::Merged;
use crate::store::postgres::statement::{Statement, moment};

/// A session begins, unless it was deleted, or goes on and forgets its end; but not one of which the store knows something later than this start,
/// which then comes late: another node has gone on with the session, and perhaps ended it. Something later is not enough where
/// the end is earlier: such a start comes again, because its answer was lost, behind the end that has just come again too.
/// (When a session was abandoned its row does not tell.) Answers for those that are this user's. In the order of their ids:
/// nodes that touch the same rows in another order would wait for each other.
const START: &str = "
INSERT INTO public.conversation_sessions AS session
  (id, session_id, user_id, started_at, created_at, last_event_at, external_id, metadata)
SELECT id, session_id, user_id, started_at, created_at, least(started_at, created_at), external_id, metadata::jsonb
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::timestamptz[], $6::text[], $7::text[])
  AS t(id, session_id, user_id, started_at, created_at, external_id, metadata)
WHERE NOT EXISTS (SELECT FROM public.conversation_deletions gone WHERE gone.session_id = t.session_id)
ORDER BY session_id
ON CONFLICT (session_id) DO UPDATE
SET (status, ended_at, duration_seconds, end_reason) = (
      SELECT CASE WHEN late THEN session.status ELSE 'active' END, CASE WHEN late THEN session.ended_at END,
        CASE WHEN late THEN session.duration_seconds END, CASE WHEN late THEN session.end_reason END
      FROM (VALUES (excluded.created_at <
        least(session.last_event_at, CASE session.status WHEN 'ended' THEN session.ended_at END))) AS comes(late)),
    last_event_at = greatest(session.last_event_at, excluded.last_event_at),
    metadata = coalesce(session.metadata, '{}') || excluded.metadata
WHERE session.user_id = excluded.user_id
RETURNING session.session_id, xmax = 0 AS is_new";

/// The row of a session that was taken away while the session goes on. Whichever key says so, another node may have written it
/// at the same moment.
const RESTORE: &str = "
INSERT INTO public.conversation_sessions (id, session_id, user_id, started_at, last_event_at)
SELECT $1::uuid, $2::uuid, $3::uuid, $4::timestamptz, $4::timestamptz
WHERE NOT EXISTS (SELECT FROM public.conversation_deletions gone WHERE gone.session_id = $2::uuid) ON CONFLICT DO NOTHING";

const UPDATE: &str = "
UPDATE public.conversation_sessions session SET metadata = coalesce(session.metadata, '{}') || news.metadata::jsonb
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS news(session_id, metadata, owner)
WHERE session.session_id = news.session_id AND session.user_id = coalesce(news.owner, session.user_id)
RETURNING session.session_id";

const ALIVE: &str = "
UPDATE public.conversation_sessions session SET last_event_at = greatest(session.last_event_at, news.at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS news(session_id, at) WHERE session.session_id = news.session_id";

/// Closes sessions. An end stands, unless it was only inferred (`abandoned`) and somebody knows better now; and an end that is
/// inferred does not close what another node has gone on with. Answers for every session that is there, with the figures it has
/// after this, and whether it goes on.
const END: &str = "
WITH news AS (
  SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::uuid[])
  AS t(session_id, status, reason, ended_at, seen_until, owner)
), judged AS (
  SELECT news.session_id, news.status, news.reason, session.duration_seconds, session.message_count, session.started_at,
    -- Nobody knows when an abandoned session ended; its last event is the last that is known of it.
    CASE news.status WHEN 'abandoned' THEN coalesce(session.last_event_at, session.started_at) ELSE news.ended_at END AS ended_at,
    coalesce(session.last_event_at > news.seen_until, false) AS goes_on,
    session.ended_at IS NULL OR (session.status = 'abandoned' AND news.status = 'ended') AS is_open
  FROM news JOIN public.conversation_sessions session
    ON session.session_id = news.session_id AND session.user_id = coalesce(news.owner, session.user_id)
), ended AS (
  UPDATE public.conversation_sessions session
  SET status = judged.status, end_reason = judged.reason, ended_at = judged.ended_at,
      duration_seconds = extract(epoch FROM greatest(judged.ended_at, judged.started_at) - judged.started_at)
  FROM judged WHERE session.session_id = judged.session_id AND judged.is_open AND NOT judged.goes_on
  RETURNING session.session_id, session.duration_seconds
)
SELECT session_id, coalesce(ended.duration_seconds, judged.duration_seconds, 0)::float8 AS duration_seconds,
  judged.message_count, judged.goes_on
FROM judged LEFT JOIN ended USING (session_id)";

/// Ends what has been silent. A row that another node is at is left to it.
const ABANDON: &str = "
WITH silent AS (
  SELECT session_id FROM public.conversation_sessions
  WHERE status = 'active' AND last_event_at < $1::timestamptz LIMIT 1000 FOR UPDATE SKIP LOCKED
)
UPDATE public.conversation_sessions session
SET status = 'abandoned', end_reason = 'idle_timeout', ended_at = session.last_event_at,
    duration_seconds = extract(epoch FROM greatest(session.last_event_at, session.started_at) - session.started_at)
FROM silent WHERE session.session_id = silent.session_id
RETURNING session.session_id";

const OWNERS: &str =
    "SELECT session_id, user_id FROM public.conversation_sessions WHERE session_id = ANY($1::uuid[])";

pub(super) fn start<'a>(starts: &[(usize, Seq, &'a SessionStart)]) -> Statement<'a> {
    let all = || starts.iter().map(|(_, _, start)| *start);
    let accepted =
        starts.iter().map(|(_, seq, start)| Timestamp::from_micros(*seq).unwrap_or(start.started_at));
    Statement::new(START)
        .uuids(all().map(|start| row_id(start.session_id)))
        .uuids(all().map(|start| start.session_id))
        .uuids(all().map(|start| start.user_id))
        .moments(all().map(|start| start.started_at))
        .moments(accepted)
        .texts_or_null(all().map(|start| start.external_id.as_deref()))
        .texts(all().map(|start| start.metadata.as_ref().map_or("{}", JsonObject::as_str)))
}

pub(super) fn restore(session_id: Uuid, user_id: Uuid, started_at: Timestamp) -> Statement<'static> {
    Statement::new(RESTORE)
        .with(row_id(session_id), Type::UUID)
        .with(session_id, Type::UUID)
        .with(user_id, Type::UUID)
        .with(moment(started_at), Type::TIMESTAMPTZ)
}

/// The users of those of these sessions that are there.
pub(super) fn owners(sessions: impl Iterator<Item = Uuid>) -> Statement<'static> {
    Statement::new(OWNERS).uuids(sessions)
}

pub(super) fn update<'a>(updates: impl Iterator<Item = (Uuid, &'a Merged)> + Clone) -> Statement<'a> {
    let owners = updates.clone().map(|(_, merged)| merged.owner);
    Statement::new(UPDATE)
        .uuids(updates.clone().map(|(session_id, _)| session_id))
        .texts(updates.map(|(_, merged)| merged.metadata.as_str()))
        .with(owners.collect::<Vec<_>>(), Type::UUID_ARRAY)
}

pub(super) fn alive(signs: impl Iterator<Item = (Uuid, Timestamp)> + Clone) -> Statement<'static> {
    Statement::new(ALIVE)
        .uuids(signs.clone().map(|(session_id, _)| session_id))
        .moments(signs.map(|(_, at)| at))
}

pub(super) fn end<'a>(ends: &[(usize, &'a SessionEnd)]) -> Statement<'a> {
    let all = || ends.iter().map(|(_, end)| *end);
    Statement::new(END)
        .uuids(all().map(|end| end.session_id))
        .texts(all().map(|end| end.status.as_str()))
        .texts(all().map(|end| end.reason.as_str()))
        .moments(all().map(|end| end.ended_at))
        .with(all().map(|end| end.seen_until.map(moment)).collect::<Vec<_>>(), Type::TIMESTAMPTZ_ARRAY)
        .with(all().map(|end| end.owner).collect::<Vec<_>>(), Type::UUID_ARRAY)
}

pub(super) fn abandon(since: Timestamp) -> Statement<'static> {
    Statement::new(ABANDON).with(moment(since), Type::TIMESTAMPTZ)
}

/// The key of the session's row, the same in every store.
fn row_id(session_id: Uuid) -> Uuid {
    Uuid::new_v5(&session_id, b"row")
}
